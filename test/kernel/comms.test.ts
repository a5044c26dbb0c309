import { tableFromIPC } from "apache-arrow";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KernelClient, type Received } from "./client.js";

let kernel: KernelClient;
beforeAll(async () => {
  kernel = await KernelClient.start();
});
afterAll(() => kernel.stop());

const ofComm =
  (id: string, type = "comm_msg") =>
  (m: Received) =>
    m.header.msg_type === type && m.content.comm_id === id;

describe("comms of cells", () => {
  it("carry data and binary buffers both ways", async () => {
    await kernel.execute(
      "jupyter.comms.register('echo', (comm, data, buffers) => {\n  comm.send({ opened: data }, { buffers });\n  comm.onmessage = (m) => comm.send({ echo: m.data, count: m.buffers.length }, { buffers: m.buffers.map((b) => b.map((x) => x + 1)) });\n  comm.onclose = () => console.log('closed by the front end');\n});",
    );
    kernel.send("shell", "comm_open", { comm_id: "c1", target_name: "echo", data: { hello: 1 } }, [
      new Uint8Array([9]),
    ]);
    const opened = await kernel.until(ofComm("c1"));
    expect(opened.content.data).toEqual({ opened: { hello: 1 } });
    expect([...opened.buffers[0]!]).toEqual([9]);
    kernel.send("shell", "comm_msg", { comm_id: "c1", data: "ping" }, [
      new Uint8Array([1, 2]),
      new Uint8Array(0),
    ]);
    const echo = await kernel.until((m) => ofComm("c1")(m) && "echo" in (m.content.data as object));
    expect(echo.content.data).toEqual({ echo: "ping", count: 2 });
    expect(echo.buffers.map((buffer) => [...buffer])).toEqual([[2, 3], []]);
    const { content } = await kernel.ask("shell", "comm_info_request", { target_name: "echo" });
    expect(content.comms).toEqual({ c1: { target_name: "echo" } });
    kernel.send("shell", "comm_close", { comm_id: "c1", data: {} });
    await kernel.until((m) => String(m.content.text ?? "").includes("closed by the front end"));
  });

  it("open from the kernel's side too", async () => {
    const { iopub } = await kernel.execute(
      "const comm = jupyter.comms.open('panel', { a: 1 }, { buffers: [new Float32Array([1.5])] });\ncomm.send({ b: 2 });\ncomm.close();",
    );
    const types = iopub.map((m) => m.header.msg_type).filter((type) => type.startsWith("comm"));
    expect(types).toEqual(["comm_open", "comm_msg", "comm_close"]);
    const open = iopub.find((m) => m.header.msg_type === "comm_open")!;
    expect(open.content).toMatchObject({ target_name: "panel", data: { a: 1 } });
    expect([...open.buffers[0]!]).toEqual([0, 0, 0xc0, 0x3f]);
  });

  it("close at once where no target is registered", async () => {
    kernel.send("shell", "comm_open", { comm_id: "lost", target_name: "nobody", data: {} });
    await kernel.until(ofComm("lost", "comm_close"));
  });

  it("are served while a cell waits, also through a subshell", async () => {
    await kernel.execute(
      "jupyter.comms.register('pong', (comm) => { comm.onmessage = (m) => comm.send(m.data); })",
    );
    const { content } = await kernel.ask("control", "create_subshell_request");
    expect((await kernel.ask("control", "list_subshell_request")).content.subshell_id).toEqual([
      content.subshell_id,
    ]);
    const id = kernel.startExecution("await new Promise((go) => setTimeout(go, 800)); 'waited'");
    await kernel.until((m) => m.header.msg_type === "execute_input" && m.parent.msg_id === id);
    kernel.send("shell", "comm_open", { comm_id: "p1", target_name: "pong", data: {} });
    kernel.send("shell", "comm_msg", { comm_id: "p1", data: { n: 1 } });
    const pong = await kernel.until(ofComm("p1"));
    expect(pong.content.data).toEqual({ n: 1 });
    expect(kernel.log.some((m) => m.channel === "shell" && m.parent.msg_id === id)).toBe(false);
    expect((await kernel.finish(id)).result).toEqual({ "text/plain": "'waited'" });
    const gone = await kernel.ask("control", "delete_subshell_request", { subshell_id: content.subshell_id });
    expect(gone.content.status).toBe("ok");
    const twice = await kernel.ask("control", "delete_subshell_request", {
      subshell_id: content.subshell_id,
    });
    expect(twice.content.status).toBe("error");
  });

  it("carry a buffer of 100 MB", async () => {
    const { iopub } = await kernel.execute(
      "const big = new Uint8Array(100 * 1024 * 1024); big[big.length - 1] = 7;\njupyter.comms.open('big', {}, { buffers: [big] }).close();",
      {},
      30_000,
    );
    const buffer = iopub.find((m) => m.header.msg_type === "comm_open")!.buffers[0]!;
    expect([buffer.length, buffer.at(-1)]).toEqual([100 * 1024 * 1024, 7]);
  });
});

interface Batch {
  version: number;
  type: string;
  seq: number;
  runs: {
    id: string;
    name: string;
    status: string;
    rowCount: number;
    firstRow: number;
    buffer: number | null;
    totalSteps: number | null;
  }[];
}

describe("the aronnax.metrics comm", () => {
  const hub = 'const hub = (globalThis as any)[Symbol.for("aronnax.metrics")];';

  it("answers with an empty snapshot before anything ran", async () => {
    kernel.send("shell", "comm_open", {
      comm_id: "m0",
      target_name: "aronnax.metrics",
      data: { version: 1 },
    });
    const { content } = await kernel.until(ofComm("m0"));
    expect(content.data).toEqual({ version: 1, type: "snapshot", seq: 0, runs: [] });
  });

  it("sends batches in sequence, at most ten a second, also while the main thread is busy", async () => {
    kernel.send("shell", "comm_open", {
      comm_id: "m1",
      target_name: "aronnax.metrics",
      data: { version: 1 },
    });
    await kernel.until(ofComm("m1"));
    const started = performance.now();
    const id = kernel.startExecution(
      `${hub}
       hub.publish({ type: 'start', id: 'r1', name: 'tiny', startedAt: Date.now(), totalSteps: 300 });
       for (let step = 0; step < 300; step++) {
         hub.publish({ type: 'rows', id: 'r1', rows: [{ step, loss: step === 5 ? NaN : 1 / (step + 1), ...(step % 100 === 99 ? { valid_loss: 2 } : {}) }] });
         const until = Date.now() + 4; while (Date.now() < until) {}
       }
       hub.publish({ type: 'status', id: 'r1', status: 'finished' });`,
    );
    const last = await kernel.until((m) => {
      const data = m.content.data as Batch | undefined;
      return ofComm("m1")(m) && data!.runs[0]?.status === "finished";
    });
    const whileRunning = kernel.log.filter((m) => ofComm("m1")(m) && m !== last);
    await kernel.finish(id);
    const seconds = (performance.now() - started) / 1_000;
    const batches = kernel.log
      .filter(ofComm("m1"))
      .map((m) => ({ data: m.content.data as unknown as Batch, buffers: m.buffers }));
    expect(whileRunning.length).toBeGreaterThan(5);
    expect(batches.length).toBeLessThanOrEqual(seconds * 10 + 2);
    expect(batches.map(({ data }) => data.seq)).toEqual(batches.map((_, index) => index));
    expect(batches.map(({ data }) => data.type)).toEqual([
      "snapshot",
      ...batches.slice(1).map(() => "batch"),
    ]);

    const losses: (number | null)[] = [];
    const valid: (number | null)[] = [];
    for (const { data, buffers } of batches) {
      for (const run of data.runs) {
        if (run.buffer === null) continue;
        expect(run.firstRow).toBe(losses.length);
        const table = tableFromIPC(buffers[run.buffer]!);
        expect(table.schema.fields.every((field) => field.nullable && String(field.type) === "Float64")).toBe(
          true,
        );
        losses.push(...(table.getChild("loss")!.toArray() as Float64Array));
        const column = table.getChild("valid_loss");
        for (let row = 0; row < table.numRows; row += 1)
          valid.push((column?.get(row) as number | null) ?? null);
        expect(run.rowCount).toBe(losses.length);
      }
    }
    expect(losses.length).toBe(300);
    expect(losses[5]).toBeNaN();
    expect(losses[299]).toBeCloseTo(1 / 300);
    expect(valid.filter((value) => value !== null)).toEqual([2, 2, 2]);
    expect(batches.at(-1)!.data.runs[0]).toMatchObject({ name: "tiny", status: "finished", totalSteps: 300 });
  });

  it("gives a late front end, and one that asks again, everything as a snapshot", async () => {
    kernel.send("shell", "comm_open", {
      comm_id: "m2",
      target_name: "aronnax.metrics",
      data: { version: 1 },
    });
    const first = await kernel.until(ofComm("m2"));
    const data = first.content.data as unknown as Batch;
    expect(data).toMatchObject({ type: "snapshot", seq: 0 });
    expect(tableFromIPC(first.buffers[data.runs[0]!.buffer!]!).numRows).toBe(300);
    kernel.send("shell", "comm_msg", { comm_id: "m2", data: { type: "snapshot" } });
    const again = await kernel.until(
      (m) => ofComm("m2")(m) && (m.content.data as unknown as Batch).seq === 1,
    );
    expect(again.content.data).toMatchObject({ type: "snapshot" });
    expect(again.buffers[0]!.length).toBe(first.buffers[0]!.length);
  });

  it("forgets a front end that closed", async () => {
    kernel.send("shell", "comm_close", { comm_id: "m2", data: {} });
    await kernel.execute(
      `(globalThis as any)[Symbol.for("aronnax.metrics")].publish({ type: 'rows', id: 'r1', rows: [{ step: 300 }] })`,
    );
    await kernel.until(
      (m) => ofComm("m1")(m) && (m.content.data as unknown as Batch).runs[0]?.rowCount === 301,
    );
    expect(kernel.log.filter(ofComm("m2")).length).toBe(2);
  });
});
