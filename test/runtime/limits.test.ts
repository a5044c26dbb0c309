import net from "node:net";
import { afterAll, describe, expect, it } from "vitest";
import { OutOfDeviceMemory } from "../../core/src/runtime/errors.js";
import { addProgram, floats, isAlive, privateFolder, startRuntime, stopAll, until } from "./support.js";
import { frame, WireClient } from "./wire.js";

const f32 = (shape: number[]) => ({ shape, dtype: "float32" as const });

describe("what one client may take", () => {
  afterAll(stopAll);

  it("keeps the host's memory within its setting", async () => {
    process.env.ARONNAX_RUNTIME_HOST_BYTES = String(1 << 30);
    try {
      const { runtime, pid } = await startRuntime();
      const size = 50 << 20;
      const held = Array.from({ length: 15 }, () =>
        runtime.put(new Float32Array(size), { ...f32([size]), transfer: true }),
      );
      const outcomes = await Promise.allSettled(held.map((buffer) => runtime.sync([buffer])));
      const refused = outcomes.flatMap((o) => (o.status === "rejected" ? [o.reason as unknown] : []));
      expect(refused.length).toBeGreaterThanOrEqual(10);
      for (const error of refused) expect(error).toBeInstanceOf(OutOfDeviceMemory);
      expect(outcomes[0]!.status).toBe("fulfilled");
      expect((await runtime.memory()).host.processBytes).toBeLessThan(1 << 30);
      for (const buffer of held) buffer.free();
      // Small ones are counted together.
      const small = Array.from({ length: 3000 }, () =>
        runtime.put(new Float32Array(1 << 17), f32([1 << 17])),
      );
      const last = await Promise.allSettled(small.map((buffer) => runtime.sync([buffer])));
      expect(last.filter(({ status }) => status === "rejected").length).toBeGreaterThan(500);
      expect((await runtime.memory()).host.processBytes).toBeLessThan(1.1 * 2 ** 30);
      expect(isAlive(pid)).toBe(true);
    } finally {
      delete process.env.ARONNAX_RUNTIME_HOST_BYTES;
    }
  });

  it("leaves others their turns while it sends long headers, makes many arrays, and does not read", async () => {
    const { runtime } = await startRuntime("cpu", privateFolder());
    const { socket } = await runtime.ready;
    const program = runtime.compile({ text: addProgram([4]), outputs: [f32([4]), f32([])] });
    const one = runtime.put(new Float32Array(4).fill(1), f32([4]));
    await program.info;
    const hostile = new WireClient(socket);
    await hostile.hello();
    const deaf = net.connect(socket).on("error", () => {});
    deaf.write(frame({ op: "hello", id: 0, protocol: 1 }));
    deaf.write(frame({ op: "put", buffer: 1, shape: [1 << 16], dtype: "float32" }, new Uint8Array(1 << 18)));
    const unread = Buffer.concat(Array.from({ length: 1000 }, () => frame({ op: "get", id: 7, buffer: 1 })));
    for (let i = 0; i < 20; i++) deaf.write(unread);
    const long = Buffer.concat([
      Buffer.from([0x81, 0xa1, 0x78, 0xdd, 0x00, 0x30, 0x00, 0x00]),
      Buffer.alloc(3 << 20, 0x80),
    ]);
    let done = false;
    const flood = (async () => {
      for (let round = 0; round < 6; round++) {
        await hostile.send(frame(long));
        const puts = Array.from({ length: 4000 }, (_, i) =>
          frame({ op: "put", buffer: 1 + round * 4000 + i, shape: [1], dtype: "float32" }, new Uint8Array(4)),
        );
        await hostile.send(Buffer.concat(puts));
        await hostile.send(frame({ op: "ping", id: 100 + round }));
        await hostile.until(() => hostile.reply(100 + round) !== undefined);
      }
      done = true;
    })();
    const waits: number[] = [];
    while (!done || waits.length < 50) {
      const start = performance.now();
      const [sum] = runtime.execute(program, [one, one]);
      expect(await floats(runtime, sum!)).toEqual([2, 2, 2, 2]);
      waits.push(performance.now() - start);
    }
    await flood;
    waits.sort((a, b) => a - b);
    // On a quiet machine it is far below 100 ms (bench/runtime/fairness.ts); here other processes take their turns too.
    expect(waits[Math.floor(waits.length / 2)]).toBeLessThan(1000);
    expect(waits.at(-1)).toBeLessThan(10_000);
    const tooLong = new WireClient(socket);
    await tooLong.hello();
    await tooLong.send(frame(Buffer.alloc(16), undefined, { headerLength: 5 << 20 }));
    await tooLong.until(() => false);
    expect(tooLong.replies.at(-1)!.error!.message).toMatch(/header of 5242880 bytes/);
    deaf.destroy();
    hostile.destroy();
    await until(
      async () =>
        ((await runtime.request({ op: "status" })).result as { clients: string[] }).clients.length === 1,
      60,
    );
  }, 120_000);
});
