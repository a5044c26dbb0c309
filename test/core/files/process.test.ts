import { spawn } from "node:child_process";
import { expect, it } from "vitest";
import { isAlive, processStart } from "../../../core/src/files/process.js";

it("takes a process that has ended for ended, though its parent has not heard of it", async () => {
  // `sleep` takes the shell's place and never asks for the shell's child: a zombie, as under a container's first process.
  const parent = spawn("sh", ["-c", 'sh -c "exec sleep 0.05" & echo $!; exec sleep 60'], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  try {
    const pid = Number(
      await new Promise<string>((resolve) => parent.stdout.once("data", (d) => resolve(String(d)))),
    );
    const deadline = Date.now() + 60_000;
    while (isAlive(pid) && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(isAlive(pid)).toBe(false);
    expect(() => process.kill(pid, 0)).not.toThrow();
    expect(processStart(pid)).toMatch(/^\d+$/);
    expect(isAlive(parent.pid!)).toBe(true);
  } finally {
    parent.kill("SIGKILL");
  }
});
