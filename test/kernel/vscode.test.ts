/**
 * The order of messages of VS Code's Jupyter extension, as its logs and issues tell it (microsoft/vscode-jupyter #14519,
 * #15143, #15882): the heartbeat, `kernel_info` again and again until one is answered, a wait for `idle`, silent
 * executions for its own ends, cells that go on after an error, completion and inspection while a cell runs, an interrupt
 * on control, a restart by `shutdown_request` and a new process.
 */
import { expect, it } from "vitest";
import { KernelClient } from "./client.js";

it("serves VS Code's order of messages", async () => {
  let kernel = await KernelClient.start();
  try {
    expect(await kernel.heartbeat()).toBe("ping");

    const asked = [1, 2, 3].map(() => kernel.send("shell", "kernel_info_request", {}));
    for (const id of asked) {
      const reply = await kernel.until((m) => m.channel === "shell" && m.parent.msg_id === id);
      expect(reply.content).toMatchObject({ status: "ok", protocol_version: "5.4" });
      expect(reply.content.language_info).toMatchObject({ name: "typescript", file_extension: ".ts" });
      await kernel.until((m) => m.parent.msg_id === id && m.content.execution_state === "idle");
    }
    const states = kernel.log
      .filter((m) => m.header.msg_type === "status" && asked.includes(String(m.parent.msg_id)))
      .map((m) => m.content.execution_state);
    expect(states).toEqual(["busy", "idle", "busy", "idle", "busy", "idle"]);

    // Its own code, silent; what fails in it shows nowhere, and aborts nothing.
    const quiet = { silent: true, store_history: false, stop_on_error: false, allow_stdin: false };
    const own = kernel.startExecution("%config Completer.use_jedi = False", quiet);
    const after = kernel.startExecution("const startup = 1", quiet);
    const failed = await kernel.finish(own);
    expect(failed.reply.content.status).toBe("error");
    expect(failed.iopub.map((m) => m.header.msg_type)).toEqual(["status", "status"]);
    expect((await kernel.finish(after)).reply.content.status).toBe("ok");

    // "Run all": every cell is sent at once, and one that fails does not abort the others.
    const cell = { silent: false, store_history: true, stop_on_error: false, allow_stdin: true };
    const cells = ["startup + 1", "throw new Error('second')", "'third'"].map((code) =>
      kernel.startExecution(code, cell),
    );
    const results = [];
    for (const id of cells) results.push(await kernel.finish(id));
    expect(results.map(({ reply }) => reply.content.status)).toEqual(["ok", "error", "ok"]);
    expect(results.map(({ reply }) => reply.content.execution_count)).toEqual([1, 2, 3]);
    expect(results[1]!.error?.evalue).toBe("second");

    // The editor asks while a cell runs.
    const running = kernel.startExecution(
      "const list = [1, 2];\nconsole.log('running');\nwhile (true) {}",
      cell,
    );
    await kernel.until(
      (m) => m.parent.msg_id === running && String(m.content.text ?? "").includes("running"),
    );
    const completion = await kernel.ask("shell", "complete_request", { code: "startup.toF", cursor_pos: 11 });
    expect(completion.content.matches).toEqual(["toFixed"]);
    const inspection = await kernel.ask("shell", "inspect_request", {
      code: "startup",
      cursor_pos: 3,
      detail_level: 0,
    });
    expect(inspection.content.found).toBe(true);
    expect((await kernel.ask("shell", "comm_info_request", {})).content).toEqual({ status: "ok", comms: {} });

    await kernel.interrupt();
    expect((await kernel.finish(running)).error?.ename).toBe("Interrupted");
    expect((await kernel.execute("list.length", cell)).result).toEqual({ "text/plain": "2" });

    const reply = await kernel.ask("control", "shutdown_request", { restart: true });
    expect(reply.content).toEqual({ status: "ok", restart: true });
    expect(await kernel.exit).toBe(0);
    await kernel.stop();
    kernel = await KernelClient.start();
    expect((await kernel.execute("1", cell)).reply.content.execution_count).toBe(1);
    expect((await kernel.execute("// @ts-nocheck\ntypeof startup", cell)).result).toEqual({
      "text/plain": "'undefined'",
    });
  } finally {
    await kernel.stop();
  }
});
