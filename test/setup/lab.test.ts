// `npm run lab` on the real repository, which `npm test` or `npm run setup` has prepared.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { type Outcome, outcome, repository } from "./laboratory.js";

interface Lab {
  url: URL;
  process: ChildProcess;
  end: Promise<Outcome>;
  stdout: () => string;
}

const started: Lab[] = [];

async function startLab(...args: string[]): Promise<Lab> {
  if (!existsSync(join(repository, ".venv", ".aronnax-python"))) throw new Error("run `npm run setup` first");
  const process = spawn("npm", ["run", "lab", "--", "--no-browser", ...args], {
    cwd: repository,
    stdio: ["ignore", "pipe", "pipe"],
    // Of a group of its own, so that a signal can be sent to all of it, as a terminal does.
    detached: true,
  });
  let stdout = "";
  const end = outcome(process);
  const url = await new Promise<URL>((resolve, reject) => {
    process.stdout?.on("data", (text: string) => {
      stdout += text;
      const address = /JupyterLab answers after [\d.]+ s: (\S+)/.exec(stdout)?.[1];
      if (address) resolve(new URL(address));
    });
    end.then(({ status, stderr }) => reject(new Error(`ended with ${status}: ${stdout}${stderr}`)), reject);
  });
  const lab = { url, process, end, stdout: () => stdout };
  started.push(lab);
  return lab;
}

async function ask<T>(lab: Lab, path: string): Promise<T> {
  const headers = { authorization: `token ${lab.url.searchParams.get("token")}` };
  const reply = await fetch(new URL(path, lab.url), { headers });
  expect(reply.status, path).toBe(200);
  return (await reply.json()) as T;
}

afterEach(async () => {
  for (const { process, end } of started.splice(0)) {
    // npm hands the signal on to the script.
    if (process.exitCode === null) process.kill("SIGTERM");
    await end;
  }
});

describe("npm run lab", () => {
  it("with nothing changed only starts JupyterLab, with the kernel, the extension and notebooks/", async () => {
    const lab = await startLab();
    expect(lab.stdout()).not.toMatch(/^\[\d\/\d\]/m);
    const page = await fetch(lab.url);
    expect(page.status).toBe(200);

    const specs = await ask<{
      default: string;
      kernelspecs: Record<string, { resources: Record<string, string> }>;
    }>(lab, "/api/kernelspecs");
    expect(specs.default).toBe("aronnax");
    expect(Object.keys(specs.kernelspecs)).toContain("aronnax");
    const logo = await fetch(new URL(specs.kernelspecs.aronnax!.resources["logo-svg"]!, lab.url), {
      headers: { authorization: `token ${lab.url.searchParams.get("token")}` },
    });
    expect(logo.headers.get("content-type")).toContain("image/svg+xml");
    const [, entry] = /"load": "([^"]+)", "name": "@aronnax\/lab"/.exec(await page.text()) ?? [];
    const script = await fetch(new URL(`/lab/extensions/@aronnax/lab/${entry}`, lab.url));
    expect(script.status, entry).toBe(200);
    const files = await ask<{ content: { name: string }[] }>(lab, "/api/contents");
    expect(files.content.map(({ name }) => name)).toContain("01-pretrain-a-language-model.ipynb");
  });

  it("stops JupyterLab and its kernels on Ctrl-C", async () => {
    const lab = await startLab();
    const headers = { authorization: `token ${lab.url.searchParams.get("token")}` };
    const body = JSON.stringify({ name: "python3" });
    const reply = await fetch(new URL("/api/kernels", lab.url), { method: "POST", headers, body });
    expect(reply.status).toBe(201);

    process.kill(-(lab.process.pid ?? 0), "SIGINT");
    const { status, stderr } = await lab.end;
    expect(status, stderr).toBe(0);
    await expect(fetch(lab.url)).rejects.toThrow();
  });

  it("refuses a port that JupyterLab itself holds", async () => {
    const lab = await startLab();
    await expect(startLab("--port", lab.url.port)).rejects.toThrow(`Port ${lab.url.port} is taken.`);
  });
});
