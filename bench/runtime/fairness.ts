/**
 * How long a client waits for a run and its result while others misuse the runtime. Run from the repository after a build, with Node 24:
 *
 *     node bench/runtime/fairness.ts
 *
 * Prints one JSON object: for each misuse p50, p99 and the longest wait in milliseconds.
 */
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { Runtime } from "../../core/dist/runtime/runtime.js";
import { end, f32 } from "./parts.ts";

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "arx-"));
process.env.ARONNAX_CACHE_DIR = folder;
const seconds = 5;

/** A map of one key, or a frame of such a header. */
function frame(header: object | Buffer, payload: Uint8Array = new Uint8Array(0)): Buffer {
  const body = Buffer.isBuffer(header) ? header : pack(header);
  const prefix = Buffer.alloc(16);
  prefix.writeUInt32LE(0x31585241, 0);
  prefix.writeUInt32LE(body.length, 4);
  prefix.writeBigUInt64LE(BigInt(payload.length), 8);
  return Buffer.concat([prefix, body, payload]);
}

/** MessagePack of maps, lists, short texts and 32-bit numbers. */
function pack(value: unknown): Buffer {
  if (typeof value === "number") {
    const bytes = Buffer.alloc(5, 0xce);
    bytes.writeUInt32BE(value, 1);
    return bytes;
  }
  if (typeof value === "string")
    return Buffer.concat([Buffer.from([0xa0 + value.length]), Buffer.from(value)]);
  if (Array.isArray(value)) return Buffer.concat([Buffer.from([0x90 + value.length]), ...value.map(pack)]);
  const entries = Object.entries(value as object);
  return Buffer.concat([Buffer.from([0x80 + entries.length]), ...entries.flat().map(pack)]);
}

const put = (buffer: number, size: number) =>
  frame({ op: "put", buffer, shape: [size], dtype: "float32" }, new Uint8Array(4 * size));
const emptyMaps = Buffer.concat([
  Buffer.from([0x81, 0xa1, 0x78, 0xdd, 0, 0x3f, 0, 0]),
  Buffer.alloc(0x3f0000, 0x80),
]);

/** Chunks that each misuse sends, again and again. */
const misuses: Record<string, { begin: Buffer; chunk: (round: number) => Buffer; read: boolean }> = {
  nothing: { begin: Buffer.alloc(0), chunk: () => Buffer.alloc(0), read: true },
  "headers of 4 MiB": { begin: Buffer.alloc(0), chunk: () => frame(emptyMaps), read: true },
  "a million arrays": {
    begin: Buffer.alloc(0),
    chunk: (round) => Buffer.concat(Array.from({ length: 1000 }, (_, i) => put(1 + round * 1000 + i, 1))),
    read: true,
  },
  "gets that nobody reads": {
    begin: put(1, 1 << 16),
    chunk: () => Buffer.concat(Array.from({ length: 1000 }, () => frame({ op: "get", id: 1, buffer: 1 }))),
    read: false,
  },
};

const runtime = new Runtime({ directory: path.join(folder, "run"), devices: "cpu" });
const { socket } = await runtime.ready;
const t = "tensor<8xf32>";
const text = `func.func @main(%a: ${t}) -> ${t} { %0 = stablehlo.add %a, %a : ${t} return %0 : ${t} }`;
const program = runtime.compile({ text, outputs: [f32([8])] });
const one = runtime.put(new Float32Array(8), f32([8]));
const result: Record<string, object> = {};
try {
  await program.info;
  for (const [name, { begin, chunk, read }] of Object.entries(misuses)) {
    const client = net.connect(socket).on("error", () => {});
    if (read) client.resume();
    client.write(frame({ op: "hello", id: 0, protocol: 1 }));
    client.write(begin);
    let over = false;
    const send = async () => {
      for (let round = 0; !over; round++) {
        const bytes = chunk(round);
        if (bytes.length === 0 || client.write(bytes)) await new Promise((resolve) => setTimeout(resolve, 1));
        else await Promise.race([new Promise((resolve) => client.once("drain", resolve)), wait(seconds)]);
      }
    };
    const sending = send();
    const waits: number[] = [];
    for (const until = performance.now() + seconds * 1000; performance.now() < until; ) {
      const start = performance.now();
      const [sum] = runtime.execute(program, [one]);
      await runtime.get(sum!);
      waits.push(performance.now() - start);
    }
    over = true;
    client.destroy();
    await sending;
    waits.sort((a, b) => a - b);
    const at = (share: number) => waits[Math.floor(share * waits.length)];
    result[name] = { runs: waits.length, p50: at(0.5), p99: at(0.99), longest: waits.at(-1) };
  }
  console.log(JSON.stringify({ milliseconds: result }, null, 2));
} finally {
  await end(runtime);
  fs.rmSync(folder, { recursive: true, force: true });
}

function wait(time: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, time * 1000));
}
