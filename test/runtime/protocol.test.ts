import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CompileError, InvalidArgument } from "../../core/src/runtime/errors.js";
import { pythonCommand } from "../../core/src/runtime/locate.js";
import { encodeFrame } from "../../core/src/runtime/protocol.js";
import type { Runtime } from "../../core/src/runtime/runtime.js";
import { saveSafetensors } from "../../core/src/runtime/safetensors.js";
import { addProgram, floats, generator, startRuntime, stopAll, until } from "./support.js";
import { frame, WireClient } from "./wire.js";

const f32 = (shape: number[]) => ({ shape, dtype: "float32" as const });

describe("the runtime's wire", () => {
  let runtime: Runtime;
  let directory: string;
  let socket: string;

  beforeAll(async () => {
    ({ runtime, directory } = await startRuntime());
    ({ socket } = await runtime.ready);
  });
  afterAll(stopAll);

  const greeted = async () => {
    const client = new WireClient(socket);
    await client.hello();
    return client;
  };

  it("greets first, and refuses other protocols by name", async () => {
    const early = new WireClient(socket);
    await early.send(frame({ op: "ping", id: 1 }));
    await early.until(() => false);
    expect(early.replies).toMatchObject([{ error: { kind: "ProtocolError", message: /must be hello/ } }]);
    const other = new WireClient(socket);
    await other.send(frame({ op: "hello", id: 0, protocol: 99 }));
    await other.until(() => false);
    expect(other.replies).toMatchObject([{ error: { kind: "ProtocolError" } }]);
    expect(other.replies[0]!.error!.message).toContain("speaks protocol 1, the client 99");
  });

  it("closes on what is no frame, and says why", async () => {
    const cases: [Buffer, RegExp][] = [
      [frame({ op: "ping" }, undefined, { magic: 0x47455420 }), /starts with/],
      [frame({ op: "ping" }, undefined, { headerLength: 0 }), /header of 0 bytes/],
      [frame({ op: "ping" }, undefined, { headerLength: 0xffffffff }), /header of 4294967295/],
      [frame({ op: "ping" }, undefined, { payloadLength: 1n << 60n }), /payload of/],
      [frame(Buffer.from([0xc1])), /not valid MessagePack/],
      [frame([1, 2]), /not a map/],
    ];
    for (const [bytes, message] of cases) {
      const client = await greeted();
      await client.send(bytes);
      await client.until(() => false);
      expect(client.replies.at(-1)!.error).toMatchObject({ kind: "ProtocolError" });
      expect(client.replies.at(-1)!.error!.message).toMatch(message);
    }
  });

  it("sends no frame that is over a limit, and says so instead", async () => {
    const client = new WireClient(socket);
    await client.send(frame({ op: "hello", id: 0, protocol: 1, maxPayload: 1000 }));
    const put = { op: "put", shape: [251], dtype: "float32" };
    await client.send(frame({ ...put, id: 1, buffer: 1 }, new Uint8Array(1004)));
    await client.send(frame({ ...put, id: 2, buffer: 2, shape: [250] }, new Uint8Array(1000)));
    for (const [id, buffer] of [
      [3, 1],
      [4, 2],
    ])
      await client.send(frame({ op: "get", id, buffer }));
    await client.send(frame({ op: "get", id: 5, buffer: 1, device: 0 }));
    const names = Array.from({ length: 20_000 }, (_, i) => `${i}`.padEnd(900, "x"));
    const tensors = Object.fromEntries(
      names.map((name) => [name, { dtype: "F32", shape: [0], data_offsets: [0, 0] }]),
    );
    const header = Buffer.from(JSON.stringify(tensors));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    const file = path.join(directory, "many.safetensors");
    fs.writeFileSync(file, Buffer.concat([length, header]));
    await client.send(frame({ op: "safetensors.index", id: 6, path: file }));
    await client.send(frame({ op: "ping", id: 7 }));
    await client.until(() => client.reply(7) !== undefined);
    const refused = { kind: "InvalidArgument" };
    for (const id of [3, 5]) {
      expect(client.reply(id)!.error).toMatchObject(refused);
      expect(client.reply(id)!.error!.message).toContain("1004 bytes is over the limit of 1000");
    }
    expect(client.reply(4)!.error).toBeUndefined();
    expect(client.reply(6)!.error).toMatchObject(refused);
    expect(client.reply(6)!.error!.message).toMatch(/answer's header has \d+ bytes/);
    expect(client.reply(7)!.error).toBeUndefined();
    client.destroy();

    expect(() => encodeFrame({ op: "put" }, 2 ** 40 + 1)).toThrow(InvalidArgument);
    await expect(runtime.request({ op: "sync", buffers: names, more: names })).rejects.toThrow(
      /request of \d+ bytes is over the limit/,
    );
    await runtime.ping();
  });

  it("shortens the words of an error that would fill a frame", async () => {
    const text = `func.func @main() -> tensor<f32> { ${"x".repeat(20 << 20)} }`;
    const error = await runtime.compile({ text, outputs: [f32([])] }).info.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(CompileError);
    expect((error as CompileError).message.length).toBeLessThan(100_000);
    expect((error as CompileError).diagnostics.length).toBeLessThan(100_000);
  });

  it("answers a request that makes no sense, and goes on", async () => {
    const client = await greeted();
    const requests: object[] = [
      { op: "nonsense" },
      { op: ["ping"] },
      {},
      { op: "get", buffer: "x" },
      { op: "get", buffer: 77 },
      { op: "get", buffer: -1 },
      { op: "execute", program: 5, inputs: [], outputs: 1 },
      { op: "compile", program: 1 },
      { op: "put", buffer: 1, shape: [2 ** 40, 2 ** 40], dtype: "float32" },
      { op: "put", buffer: 1, shape: [4], dtype: "float33" },
      { op: "put", buffer: 1, shape: "4", dtype: "float32" },
      { op: "put", buffer: 1, shape: [1e6, 1e6], dtype: "float32" },
      { op: "put", buffer: 1, shape: [4], dtype: "float32", sharding: { mesh: [["x", 0]], spec: [] } },
      { op: "put", buffer: 1, shape: [4], dtype: "float32", tag: "nothing" },
      { op: "sync", buffers: 3 },
      { op: "free", handles: "all" },
      { op: "workspace.set", workspace: "", buffers: {} },
      { op: "workspace.get", workspace: "x", names: [3] },
      { op: "safetensors.load", path: "/x", tensors: 1 },
      { op: "safetensors.save", path: "/x", tensors: { a: 1 } },
    ];
    for (const [id, request] of requests.entries()) await client.send(frame({ ...request, id: 1000 + id }));
    await client.until(() => client.reply(999 + requests.length) !== undefined);
    for (const [id, request] of requests.entries()) {
      expect(client.reply(1000 + id)?.error, JSON.stringify(request)).toBeDefined();
      expect(client.reply(1000 + id)!.error!.message, JSON.stringify(request)).not.toContain(
        "inside the runtime",
      );
    }
    await client.send(frame({ op: "ping", id: 99 }));
    await client.until(() => client.reply(99) !== undefined);
    expect(client.reply(99)).toEqual({ id: 99, result: null });
    client.destroy();
  });

  it("takes a payload that nobody asked for as part of its frame", async () => {
    const client = await greeted();
    await client.send(frame({ op: "ping", id: 1 }, randomBytes(300_000)));
    await client.send(frame({ op: "put", id: 2, buffer: 1, shape: [3], dtype: "float32" }, randomBytes(13)));
    await client.send(frame({ op: "ping", id: 3 }));
    await client.until(() => client.reply(3) !== undefined);
    expect(client.reply(2)!.error!.message).toContain("takes 12 bytes, but 13 came");
    expect(client.reply(3)!.error).toBeUndefined();
    client.destroy();
  });

  it("knows handles of an own client only, and never twice", async () => {
    const mine = runtime.put(new Float32Array(1), f32([1]));
    await runtime.sync();
    const client = await greeted();
    await client.send(frame({ op: "get", id: 1, buffer: mine.id }));
    const put = { op: "put", buffer: 5, shape: [1], dtype: "float32" };
    await client.send(frame({ ...put, id: 2 }, new Uint8Array(4)));
    await client.send(frame({ ...put, id: 3 }, new Uint8Array(4)));
    await client.until(() => client.reply(3) !== undefined);
    expect(client.reply(1)!.error).toMatchObject({ kind: "BufferDeleted" });
    expect(client.reply(2)!.error).toBeUndefined();
    expect(client.reply(3)!.error!.message).toContain("in use");
    client.destroy();
  });

  it("takes what comes in a wrong order as it comes, and goes on", async () => {
    const client = await greeted();
    const t = "tensor<1xf32>";
    const text = new TextEncoder().encode(
      `func.func @main(%a: ${t}) -> ${t} { %0 = stablehlo.add %a, %a : ${t} return %0 : ${t} }`,
    );
    const described = { shape: [1], dtype: "float32" };
    const run = (outputs: number) => frame({ op: "execute", program: 1, inputs: [1], outputs });
    const two = new Uint8Array(Float32Array.of(2).buffer);
    await client.send(run(10)); // before its program and its input
    await client.send(frame({ op: "get", id: 1, buffer: 10 }));
    await client.send(frame({ op: "free", handles: [1, 10] }));
    await client.send(frame({ op: "put", buffer: 1, ...described }, two));
    await client.send(run(20)); // before its program
    await client.send(frame({ op: "hello", id: 2, protocol: 1 }));
    await client.send(frame({ op: "compile", id: 3, program: 1, outputs: [described] }, text));
    await client.send(run(30));
    await client.send(frame({ op: "delete", handles: [1] }));
    await client.send(frame({ op: "free", handles: [1] })); // both in use by a run that may not have begun
    await client.send(frame({ op: "get", id: 4, buffer: 30 }));
    await client.send(frame({ op: "get", id: 5, buffer: 20 }));
    await client.send(frame({ op: "telemetry.unsubscribe", id: 6, subscription: 9 }));
    await client.send(frame({ op: "profile.stop", id: 7 }));
    await client.until(() => [1, 2, 3, 4, 5, 6, 7].every((id) => client.reply(id) !== undefined));
    for (const id of [1, 5]) expect(client.reply(id)!.error).toMatchObject({ kind: "BufferDeleted" });
    expect(client.reply(2)!.error).toMatchObject({ kind: "ProtocolError" });
    expect(client.reply(4)).toMatchObject({ id: 4, result: null });
    expect(client.reply(7)!.error).toMatchObject({ kind: "InvalidArgument" });
    for (const id of [3, 4, 6]) expect(client.reply(id)!.error, `${id}`).toBeUndefined();
    client.destroy();
  });

  it("answers others while a client does not read what it asked for", async () => {
    const deaf = net.connect(socket);
    const described = { shape: [1 << 23], dtype: "float32" };
    deaf.write(frame({ op: "hello", id: 0, protocol: 1 }));
    deaf.write(frame({ op: "put", buffer: 1, ...described }, new Uint8Array(1 << 25)));
    deaf.write(frame({ op: "get", id: 1, buffer: 1 }));
    // As many as the compiler has threads, whose answers find no room.
    for (let program = 1; program <= 4; program++) {
      const text = new TextEncoder().encode(addProgram([program + 40]));
      const outputs = [f32([program + 40]), f32([])];
      deaf.write(frame({ op: "compile", id: 10 + program, program, outputs }, text));
    }
    deaf.write(
      frame({
        op: "safetensors.save",
        id: 20,
        path: path.join(directory, "deaf.safetensors"),
        tensors: { w: 1 },
      }),
    );
    await until(() => fs.existsSync(path.join(directory, "deaf.safetensors")));
    const shape = [45];
    await runtime.compile({ text: addProgram(shape), outputs: [f32(shape), f32([])] }).info;
    const file = path.join(directory, "heard.safetensors");
    await saveSafetensors(runtime, file, { w: runtime.put(new Float32Array(1), f32([1])) });
    // Once it reads, it gets everything.
    const client = { bytes: 0 };
    deaf.on("data", (chunk: Buffer) => (client.bytes += chunk.length));
    await until(() => client.bytes > 1 << 25);
    deaf.destroy();
  });

  it("drops a client whose frame ends early", async () => {
    const whole = frame({ op: "put", buffer: 1, shape: [1024], dtype: "float32" }, new Uint8Array(4096));
    for (const length of [3, 16, 20, 1000]) {
      const client = await greeted();
      await client.send(whole.subarray(0, length));
      client.end();
      await client.until(() => false);
      expect(client.closed).toBe(true);
    }
    await runtime.ping();
  });

  it("survives a hundred thousand random and mutated frames", async () => {
    const program = runtime.compile({ text: addProgram([4]), outputs: [f32([4]), f32([])] });
    const input = runtime.put(new Float32Array(4).fill(1), f32([4]));
    await program.info;
    const random = generator(11);
    const value = (depth = 0): unknown => {
      const kinds = [
        () => random(20),
        () => -random(2 ** 31),
        () => random(2 ** 32) * 2 ** 21,
        () => "x".repeat(random(12)),
        () => null,
        () => random(2) === 0,
        () => Math.random() * 1e300,
        () => ["float32", "int8", "parameter", "x", "main"][random(5)],
        () => Array.from({ length: random(4) }, () => (depth < 3 ? value(depth + 1) : 0)),
        () =>
          Object.fromEntries(
            Array.from({ length: random(3) }, (_, i) => [`k${i}`, depth < 3 ? value(depth + 1) : 0]),
          ),
      ];
      return kinds[random(kinds.length)]!();
    };
    const operations = [
      "ping",
      "put",
      "get",
      "free",
      "delete",
      "execute",
      "sync",
      "memory",
      "hlo",
      "compile",
    ];
    operations.push(
      "workspace.set",
      "workspace.get",
      "workspace.list",
      "safetensors.index",
      "safetensors.load",
    );
    const keys = [
      "id",
      "buffer",
      "buffers",
      "shape",
      "dtype",
      "sharding",
      "tag",
      "name",
      "program",
      "inputs",
    ];
    keys.push("outputs", "handles", "devices", "options", "workspace", "names", "path", "tensors", "device");
    const randomFrame = (): Buffer => {
      const header: Record<string, unknown> = { op: operations[random(operations.length)] };
      for (let n = random(6); n > 0; n--) header[keys[random(keys.length)]!] = value();
      return frame(header, new Uint8Array(random(8) === 0 ? random(64) : 0));
    };
    const damaged = (): Buffer => {
      const bytes = randomFrame();
      for (let n = 1 + random(3); n > 0; n--) bytes[random(bytes.length)] = random(256);
      return bytes;
    };

    let sent = 0;
    // Whole frames, whose connection lives on.
    for (let round = 0; round < 8; round++) {
      const client = await greeted();
      for (let batch = 0; batch < 12; batch++) {
        await client.send(Buffer.concat(Array.from({ length: 1000 }, randomFrame)));
        sent += 1000;
      }
      const last = 1e9 + round;
      await client.send(frame({ op: "ping", id: last }));
      await client.until(() => client.reply(last) !== undefined);
      expect(client.reply(last)).toEqual({ id: last, result: null });
      client.destroy();
    }
    // Damaged ones, which end it.
    for (let round = 0; round < 300; round++) {
      const client = await greeted();
      await client.send(Buffer.concat(Array.from({ length: 20 }, damaged)));
      sent += 20;
      client.end();
      await client.until(() => false);
    }
    expect(sent).toBeGreaterThanOrEqual(100_000);
    expect(await floats(runtime, runtime.execute(program, [input, input])[1]!)).toEqual([8]);
    const log = fs.readFileSync(path.join(directory, "cpu.log"), "utf8");
    expect(log.match(/^\w+Error: .*$/gm) ?? []).toEqual([]);
  }, 300_000);

  it("refuses another user, even one who gets at the socket", async () => {
    expect(fs.statSync(directory).mode & 0o777).toBe(0o700);
    expect(fs.statSync(socket).mode & 0o777).toBe(0o600);
    if (process.getuid?.() !== 0) return;
    const connect = () =>
      spawnSync(
        pythonCommand(),
        [
          "-c",
          `import os, socket, sys
s = socket.socket(socket.AF_UNIX)
os.setgid(65534); os.setuid(65534)
try:
    s.connect(sys.argv[1])
except PermissionError:
    print("no permission")
else:
    print(s.recv(4096))`,
          socket,
        ],
        { encoding: "utf8" },
      ).stdout;
    expect(connect()).toBe("no permission\n");
    fs.chmodSync(directory, 0o755);
    fs.chmodSync(socket, 0o666);
    try {
      expect(connect()).toContain("serves user 0 only, not user 65534");
    } finally {
      fs.chmodSync(socket, 0o600);
      fs.chmodSync(directory, 0o700);
    }
  });
});
