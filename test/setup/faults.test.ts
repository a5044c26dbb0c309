// Every fault is provoked for real; what is checked is the one line that the user gets, and that the next run mends it.
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { transform } from "esbuild";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { goodPython, Laboratory, type Outcome, outcome, repository, WHEEL_FILE } from "./laboratory.js";

let laboratory: Laboratory;
let servers: Server[] = [];

beforeEach(() => {
  laboratory = new Laboratory();
});

afterEach(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  servers = [];
  laboratory[Symbol.dispose]();
});

async function listen(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

/** A port of this machine on which nobody answers. */
async function closedPort(): Promise<number> {
  const server = createServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The one line of a refusal. */
function refusal({ status, stdout, stderr }: Outcome): string {
  expect(status, stdout + stderr).toBe(1);
  expect(stderr.trim().split("\n"), stdout).toHaveLength(1);
  return stderr.trim();
}

function expectSuccess({ status, stdout, stderr }: Outcome): void {
  expect(stderr).toBe("");
  expect(status, stdout).toBe(0);
}

/** The lines that a step leaves at its end; on a slow machine it also tells of its progress before. */
function stepsDone({ stdout }: Outcome): string[] {
  return [...stdout.matchAll(/^\[(\d)\/5\] (.+?) {2,}.* [\d.]+ s$/gm)].map(
    ([, number, title]) => `${number} ${title}`,
  );
}

/** Runs a script in a mount namespace of its own, where this user may mount. */
const unshare = process.getuid?.() === 0 ? ["--mount"] : ["--map-root-user", "--mount"];
const mayMount = spawnSync("unshare", [...unshare, "mount", "-t", "tmpfs", "none", "/mnt"]).status === 0;

function mounted(script: string): Promise<Outcome> {
  const env = { ...laboratory.env, PATH: process.env.PATH };
  return outcome(
    spawn("unshare", [...unshare, "sh", "-c", script], { env, stdio: ["ignore", "pipe", "pipe"] }),
  );
}

describe("a working machine", () => {
  it("is set up once, and then there is nothing left to do", async () => {
    laboratory.requireWheel();
    const first = await laboratory.run();
    expectSuccess(first);
    expect(stepsDone(first)).toEqual([
      "1 Node packages",
      "2 Python and JupyterLab",
      "4 Build",
      "5 Kernel and extension",
    ]);
    const second = await laboratory.run();
    expectSuccess(second);
    expect(second.stdout).toBe("");
  });

  it("does again only the steps whose inputs changed", async () => {
    expectSuccess(await laboratory.run());
    laboratory.write("tsconfig.base.json", { compilerOptions: {} });
    const build = await laboratory.run();
    expect(stepsDone(build)).toEqual(["4 Build"]);
    laboratory.requireWheel();
    const python = await laboratory.run();
    expect(stepsDone(python)).toEqual(["2 Python and JupyterLab", "5 Kernel and extension"]);
  });
});

describe("Node", () => {
  it("that is too old is named with the version that is needed", async () => {
    const disguise = join(laboratory.folder, "old-node.cjs");
    writeFileSync(
      disguise,
      'Object.defineProperty(process, "versions", { value: { ...process.versions, node: "18.20.4" } });',
    );
    const line = refusal(
      await laboratory.run(["lab.mjs"], {
        env: { ...laboratory.env, NODE_OPTIONS: `--require ${disguise}` },
      }),
    );
    expect(line).toMatch(/^Node 18\.20\.4 is too old: Aronnax needs Node 20\.19 or newer\. Install /);
    expect(existsSync(join(laboratory.root, ".cache"))).toBe(false);
  });

  it("without npm is told so", async () => {
    rmSync(join(laboratory.bin, "npm"));
    expect(refusal(await laboratory.run())).toBe(
      "npm is not on the PATH. Install it, then run the command again.",
    );
  });

  it.each(["lab.mjs", "setup.mjs", "test.mjs", "setup/node-version.mjs"])(
    "of 2020 can read %s",
    async (name) => {
      const source = readFileSync(join(repository, "jupyter-config", name), "utf8");
      // esbuild rewrites what its target cannot parse: nothing to rewrite means that the target reads the file as it is.
      const [asItIs, forOldNode] = await Promise.all(
        ["esnext", "node14"].map(async (target) => (await transform(source, { target, format: "esm" })).code),
      );
      expect(forOldNode).toBe(asItIs);
    },
  );
});

describe("Python", () => {
  it("that is missing is named with how to install it", async () => {
    rmSync(join(laboratory.bin, "python3"));
    expect(refusal(await laboratory.run())).toMatch(
      /^No Python was found\. Install Python 3\.11 or newer .*apt-get install/,
    );
  });

  it("that is too old is named with its version and place", async () => {
    laboratory.replacePython('sys.version_info = (3, 9, 2); platform.python_version = lambda: "3.9.2"');
    const line = refusal(await laboratory.run());
    expect(line).toMatch(
      /^Python 3\.9\.2 \(.*\) is too old: Aronnax needs Python 3\.11 or newer\. Install .*ARONNAX_PYTHON/,
    );
  });

  it("that cannot make environments is named with the package that it lacks", async () => {
    laboratory.replacePython('sys.modules["ensurepip"] = None');
    const line = refusal(await laboratory.run());
    expect(line).toMatch(/^Python 3\.\d+\.\d+ \(.*\) lacks ensurepip.* apt-get install python3\.\d+-venv/);
  });

  it("that ARONNAX_PYTHON names is the one taken, or refused", async () => {
    laboratory.env.ARONNAX_PYTHON = join(laboratory.bin, "no-such-python");
    expect(refusal(await laboratory.run())).toMatch(
      /^ARONNAX_PYTHON names .*no-such-python, which does not run\./,
    );

    const named = join(laboratory.folder, "named-python");
    symlinkSync(goodPython, named);
    laboratory.env.ARONNAX_PYTHON = named;
    expectSuccess(await laboratory.run());
    expect(readFileSync(join(laboratory.root, ".cache", "setup.log"), "utf8")).toContain(
      `$ ${named} -m venv`,
    );

    // Neither without the name, nor with the Python of the environment itself, is there a reason to make it anew.
    for (const python of [undefined, join(laboratory.root, ".venv", "bin", "python")]) {
      const later = await laboratory.run(["setup.mjs"], {
        env: { ...laboratory.env, ARONNAX_PYTHON: python },
      });
      expectSuccess(later);
      expect(later.stdout).toBe("");
    }
  });

  it("that is better than a broken one before it on the PATH is found", async () => {
    const shim = join(laboratory.bin, "python3.13");
    writeFileSync(shim, '#!/bin/sh\necho "python3.13: command not found" >&2\nexit 127\n');
    chmodSync(shim, 0o755);
    expectSuccess(await laboratory.run());
  });
});

describe("the network", () => {
  it("that does not reach the npm registry is the reason given", async () => {
    laboratory.requireNodePackage();
    laboratory.env.npm_config_registry = `http://127.0.0.1:${await closedPort()}/`;
    expect(refusal(await laboratory.run())).toMatch(
      /^Node packages: The package server cannot be reached\. Check the network/,
    );
  });

  it("that does not reach the Python index is the reason given, and the next run goes on", async () => {
    laboratory.requireWheel();
    const without = laboratory.withIndex(await closedPort());
    const line = refusal(await laboratory.run(["setup.mjs"], { env: without }));
    expect(line).toMatch(/^Python and JupyterLab: The package server cannot be reached\. Check the network/);
    const next = await laboratory.run();
    expectSuccess(next);
    expect(next.stdout).not.toContain("Node packages");
  });

  it("that brings another file than the locked one is the reason given", async () => {
    laboratory.requireWheel();
    writeFileSync(join(laboratory.wheels, WHEEL_FILE), "something else");
    expect(refusal(await laboratory.run())).toMatch(
      /^Python and JupyterLab: A downloaded package is not the one that the lock/,
    );
  });
});

describe("the disk", () => {
  it("that is full while a step writes is the reason given, and the next run goes on", async () => {
    mkdirSync(join(laboratory.root, ".cache"));
    symlinkSync("/dev/full", join(laboratory.root, ".cache", "setup.log"));
    expect(refusal(await laboratory.run())).toMatch(/The disk is full\. .*Free some space/);
    rmSync(join(laboratory.root, ".cache"), { recursive: true });
    expectSuccess(await laboratory.run());
  });

  it.skipIf(!mayMount)("that is too small is named before anything is downloaded", async () => {
    const small = join(laboratory.folder, "small");
    mkdirSync(small);
    const script = `mount -t tmpfs -o size=16m none ${small} && cp -r ${laboratory.root}/. ${small} &&
      exec ${process.execPath} ${small}/jupyter-config/setup.mjs`;
    expect(refusal(await mounted(script))).toMatch(
      /^The disk is full: the set-up needs about \d.* GB in .*small, where 0\.0 GB/,
    );
  });

  it.skipIf(!mayMount)(
    "whose temporary folder is full is the reason given, and the next run goes on",
    async () => {
      laboratory.requireWheel();
      const small = join(laboratory.folder, "small");
      mkdirSync(small);
      const script = `mount -t tmpfs -o size=1m none ${small} && TMPDIR=${small} PATH=${laboratory.bin} exec ${process.execPath} \
      ${laboratory.root}/jupyter-config/setup.mjs`;
      expect(refusal(await mounted(script))).toMatch(
        /^Python and JupyterLab: The disk is full\. Free some space/,
      );
      expectSuccess(await laboratory.run());
    },
  );

  it("on which this user may not write is the reason given", async () => {
    chmodSync(laboratory.folder, 0o755);
    chmodSync(laboratory.root, 0o555);
    // The superuser may write everywhere, so there the script runs as nobody.
    const nobody = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
    const line = refusal(await laboratory.run(["setup.mjs"], nobody));
    chmodSync(laboratory.root, 0o755);
    expect(line).toMatch(
      /^Set-up: A file or folder cannot be written to\. \(.*\.cache\) Give yourself write access/,
    );
  });
});

describe("an earlier run", () => {
  it("that was killed is mended by the next one, which refuses to work beside what it left running", async () => {
    laboratory.requireWheel();
    // An index that names the wheel and never sends it: pip hangs in the middle of its download.
    const server = createServer((request, response) => {
      if (request.url?.endsWith(".whl")) response.writeHead(200, { "content-length": "4000000" }).write("PK");
      else
        response
          .writeHead(200, { "content-type": "text/html" })
          .end(`<a href="/${WHEEL_FILE}">${WHEEL_FILE}</a>`);
    });
    const asked = new Promise<void>((resolve) => {
      server.on("request", (request) => request.url?.endsWith(".whl") && resolve());
    });
    const stalled = laboratory.withIndex(await listen(server));
    const first = laboratory.start(["setup.mjs"], { env: stalled });
    const ended = outcome(first);
    await asked;
    first.kill("SIGKILL");

    const line = refusal(await laboratory.run());
    const [, pip] =
      /^Another set-up is at work in this folder \(process (\d+)\)\. Wait for it, or end it with/.exec(
        line,
      ) ?? [];
    process.kill(Number(pip), "SIGKILL");
    await ended;

    expectSuccess(await laboratory.run());
    const site = spawnSync(join(laboratory.root, ".venv/bin/python"), ["-m", "pip", "list"], {
      encoding: "utf8",
    });
    expect(site.stdout).toMatch(/nautilus +1\.0/);
  });

  it("that Ctrl-C stops leaves no process behind, and the next one goes on", async () => {
    laboratory.requireWheel();
    const server = createServer(() => {});
    const asked = new Promise<void>((resolve) => server.on("request", () => resolve()));
    const stalled = laboratory.withIndex(await listen(server));
    const first = laboratory.start(["setup.mjs"], { env: stalled });
    const ended = outcome(first);
    await asked;
    first.kill("SIGINT");
    // The pipes close when the last process that holds them, pip among them, is gone.
    const { status, stderr } = await ended;
    expect(status).toBe(130);
    expect(stderr).toContain("Stopped. The next run goes on from here.");
    expectSuccess(await laboratory.run());
  });

  it("whose build failed is told from one that succeeded", async () => {
    laboratory.write("package.json", {
      name: "miniature",
      version: "1.0.0",
      scripts: { build: "echo 'error TS1: no'; false" },
    });
    expect(refusal(await laboratory.run())).toMatch(
      /^Build failed: error TS1: no \(The whole output is in .*setup\.log\.\)$/,
    );
    const scripts = { build: "mkdir -p core/dist kernel/dist lab-extension/labextension" };
    laboratory.write("package.json", { name: "miniature", version: "1.0.0", scripts });
    expectSuccess(await laboratory.run());
  });
});

describe("a port", () => {
  it("that is taken is named before anything is done", async () => {
    const port = await listen(createServer());
    const line = refusal(await laboratory.run(["lab.mjs", "--port", String(port)]));
    expect(line).toMatch(new RegExp(`^Port ${port} is taken\\. Name another`));
    expect(existsSync(join(laboratory.root, ".cache"))).toBe(false);
  });
});
