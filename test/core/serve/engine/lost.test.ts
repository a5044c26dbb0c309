/** What happens to requests when the runtime process is killed. */
import "../../../support/runtime.js";
import { expect, it } from "vitest";
import { Runtime } from "../../../../core/src/runtime/runtime.js";
import { createEngine } from "../../../../core/src/serve/engine/index.js";
import { tiny, tokenizer } from "../../../support/served.js";

const make = () => createEngine(tiny(), { tokenizer, context: 512 });
const request = { prompt: [...tokenizer.encode("whale")], sampling: { temperature: 0 }, ignoreEnd: true };

it("ends them with the reason, frees their pages, and another engine begins in the next runtime", async () => {
  const engine = make();
  const read = async (): Promise<number> => {
    let count = 0;
    for await (const { tokens } of engine.submit(request)) {
      count += tokens.length;
      if (count === 5) process.kill((await Runtime.default().ready).pid, "SIGKILL");
    }
    return count;
  };
  await expect(read()).rejects.toThrow(/SIGKILL/);
  expect(engine.statistics()).toMatchObject({ running: 0, waiting: 0, cacheUsage: 0 });
  // Its parameters were on the device: a request is refused with what became of them, and nothing hangs.
  const again = engine.submit({ ...request, maxTokens: 3 });
  await expect(again[Symbol.asyncIterator]().next()).rejects.toThrow(/runtime/);
  await engine.close();

  const next = make();
  let drawn = 0;
  for await (const { tokens } of next.submit({ ...request, maxTokens: 4 })) drawn += tokens.length;
  expect(drawn).toBe(4);
  await next.close();
}, 180_000);
