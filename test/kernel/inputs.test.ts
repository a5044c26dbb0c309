/** Inputs in cells, over the wire: what is shown, what the front end sends, and what the cells see. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { KernelClient, plain, type Received } from "./client.js";

let kernel: KernelClient;
let comms = 0;

beforeAll(async () => {
  kernel = await KernelClient.start();
  await kernel.execute('import { input } from "@aronnax/kernel";');
});
afterAll(() => kernel.stop());

const MIME = "application/vnd.aronnax.input+json";
type Bundle = Record<string, unknown> & { [MIME]: Record<string, unknown> & { id: string } };

/** Runs a cell whose value is an input; what it shows. */
async function shown(code: string) {
  const { iopub, error } = await kernel.execute(code);
  expect(error).toBeUndefined();
  const display = iopub.find((m) => m.header.msg_type === "display_data")!;
  expect(iopub.some((m) => m.header.msg_type === "execute_result")).toBe(false);
  const bundle = display.content.data as Bundle;
  const { id } = bundle[MIME];
  expect(display.content.transient).toEqual({ display_id: `aronnax-input-${id}` });
  return { bundle, id };
}

const toComm = (comm: string, type: string) => (m: Received) =>
  m.header.msg_type === type && m.content.comm_id === comm;

/** Opens an input as a front end does; how to send to it, and what it said last. */
async function open(id: string) {
  const comm = `input-${++comms}`;
  kernel.send("shell", "comm_open", {
    comm_id: comm,
    target_name: "aronnax.input",
    data: { version: 1, id },
  });
  await kernel.until(toComm(comm, "comm_msg"));
  return {
    comm,
    send: (data: object, buffers: Uint8Array[] = []) =>
      kernel.send("shell", "comm_msg", { comm_id: comm, data }, buffers),
    states: () =>
      kernel.log.filter(toComm(comm, "comm_msg")).map((m) => (m.content.data as { value: unknown }).value),
  };
}

const textOf = async (code: string) => (await kernel.execute(code)).result?.["text/plain"];

/** Starts a cell that waits for something, and waits until it does. */
async function startWaiting(code: string): Promise<string> {
  const id = kernel.startExecution(`console.log("waits"); ${code}`);
  await kernel.until(
    (m) =>
      m.header.msg_type === "stream" && m.parent.msg_id === id && String(m.content.text).includes("waits"),
  );
  return id;
}

it("a slider gives what the user chose, to every front end, and is saved with it", async () => {
  const { bundle, id } = await shown(
    "const rate = input.slider({ min: 0, max: 1, step: 0.1, value: 0.5, label: 'rate <1>' }); rate",
  );
  expect(bundle[MIME]).toMatchObject({ version: 1, kind: "slider", value: 0.5, min: 0, max: 1, step: 0.1 });
  expect(bundle["text/html"]).toBe("<div><b>rate &#60;1&#62;</b> 0.5 (0 to 1)</div>");
  expect(bundle["text/plain"]).toBe("rate <1>: 0.5 (0 to 1)");
  const [one, two] = [await open(id), await open(id)];
  await kernel.execute("const seen: number[] = []; const end = rate.onChange((x) => seen.push(x));");
  for (const value of [0.7, 5, "0.9", null, 0.3]) one.send({ type: "set", value });
  await kernel.until(() => two.states().at(-1) === 0.3);
  expect(two.states()).toEqual([0.5, 0.7, 0.3]);
  expect(one.states()).toEqual([0.5]);
  const update = await kernel.until(
    (m) =>
      m.header.msg_type === "update_display_data" &&
      (m.content.data as Bundle)[MIME].id === id &&
      (m.content.data as Bundle)[MIME].value === 0.3,
  );
  expect((update.content.data as Bundle)["text/html"]).toContain("0.3 (0 to 1)");
  expect(await textOf("[rate.value, seen]")).toBe("[ 0.3, [ 0.7, 0.3 ] ]");
  await kernel.execute("end(); rate.value = 0.9;");
  await kernel.until(() => one.states().at(-1) === 0.9 && two.states().at(-1) === 0.9);
  expect(await textOf("seen.length")).toBe("2");
  const wrong = await kernel.execute("rate.value = 7");
  expect(plain(wrong.error!.traceback.join("\n"))).toMatch(/the value is 7[\s\S]*give a number from 0 to 1/);
});

it("a cell waits for a button, and walks through what comes", async () => {
  const { id } = await shown("const go = input.button({ label: 'Go' }); go");
  const { send } = await open(id);
  const waiting = await startWaiting("const count = await go.next(); count");
  send({ type: "set" });
  expect((await kernel.finish(waiting)).result?.["text/plain"]).toBe("1");
  const loop = await startWaiting(
    "const counts: number[] = []; for await (const n of go) { counts.push(n); await new Promise((r) => setTimeout(r, 50)); if (n === 4) break; } counts",
  );
  for (let i = 0; i < 3; i++) send({ type: "set" });
  expect((await kernel.finish(loop)).result?.["text/plain"]).toBe("[ 2, 3, 4 ]");
});

it("a cell that waits for an input can be interrupted", async () => {
  await shown("const never = input.button(); never");
  const id = await startWaiting("await never.next()");
  await kernel.interrupt();
  expect((await kernel.finish(id)).error?.ename).toBe("Interrupted");
});

it("choices and texts give their values", async () => {
  const choice = await shown(
    "const size = input.choice({ options: { small: 1, large: 100 }, value: 100, label: 'size' }); size",
  );
  expect(choice.bundle[MIME]).toMatchObject({ options: ["small", "large"], value: 1 });
  expect(choice.bundle["text/plain"]).toBe("size: large");
  const text = await shown(
    "const prompt_ = input.text({ label: 'prompt', multiline: true, placeholder: 'say' }); prompt_",
  );
  expect(text.bundle[MIME]).toMatchObject({ kind: "text", value: "", multiline: true, placeholder: "say" });
  const [one, two] = [await open(choice.id), await open(text.id)];
  const [oneToo, twoToo] = [await open(choice.id), await open(text.id)];
  one.send({ type: "set", value: 9 });
  one.send({ type: "set", value: 0 });
  two.send({ type: "set", value: "There she <blows>!" });
  await kernel.until(() => oneToo.states().at(-1) === 0 && twoToo.states().at(-1) === "There she <blows>!");
  expect(await textOf("[size.value, prompt_.value]")).toBe("[ 1, 'There she <blows>!' ]");
  const none = await kernel.execute("input.choice({ options: ['a', 'b'], value: 'c' as any })");
  expect(none.error?.evalue).toMatch(/c is none of its options/);
  const wrong = await kernel.execute("input.slider({ min: 1, max: 1 })");
  expect(wrong.error?.evalue).toMatch(/from 1 to 1/);
});

it("a microphone gives samples, from parts, or says why not", async () => {
  const { id } = await shown("const mic = input.microphone({ label: 'voice' }); mic");
  const { send } = await open(id);
  const waiting = await startWaiting(
    "const r = (await mic.next())!; [r.samples.length, r.samples[0], r.samples[3], r.sampleRate, r.seconds, r.wav().length]",
  );
  const part = (...samples: number[]) => new Uint8Array(Float32Array.from(samples).buffer);
  send({ type: "recording", index: 1, count: 2, sampleRate: 4 }, [part(9)]);
  send({ type: "recording", index: 0, count: 2, sampleRate: 4 }, [part(0.5, -1)]);
  send({ type: "recording", index: 1, count: 2, sampleRate: 4 }, [part(0, 0.25)]);
  expect((await kernel.finish(waiting)).result?.["text/plain"]).toBe("[ 4, 0.5, 0.25, 4, 1, 52 ]");
  const refusedId = await startWaiting("await mic.next()");
  send({ type: "problem", name: "NotAllowedError", reason: "permission denied" });
  const refused = await kernel.finish(refusedId);
  expect(refused.error?.ename).toBe("InputRefused");
  expect(plain(refused.error!.traceback.join("\n"))).toMatch(
    /nothing for "voice": permission denied[\s\S]*allow the microphone/,
  );
});

it("an input that the kernel does not know is closed", async () => {
  kernel.send("shell", "comm_open", {
    comm_id: "old",
    target_name: "aronnax.input",
    data: { version: 1, id: "x" },
  });
  const closed = await kernel.until(toComm("old", "comm_close"));
  expect(closed.content.data).toEqual({ reason: "unknown" });
});

it("the checker knows the types", async () => {
  const wrong = await kernel.execute(
    "const s2 = input.slider({ min: 0, max: 1 }); const t: string = s2.value;",
  );
  expect(plain(wrong.error!.traceback.join("\n"))).toMatch(/number.*not assignable to type 'string'/);
});
