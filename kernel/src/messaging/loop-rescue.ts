import type { Debugger } from "node:inspector";
import { InspectorClient } from "../debugger/inspector-client.js";
import { LOOP_NAME, LOOP_SETTER } from "../link.js";

/** How long the code may take to reach a place where it can be paused, in ms: a native call, or a busy machine. */
const PATIENCE = 5_000;

/**
 * Stops the main thread in a loop that has taken names of the notebook to itself (language/loops.ts): pauses it, has the
 * loop's function give the names their values, and ends it. Returns false, and has done nothing, where the code does not
 * pause in time or stands in no such loop.
 *
 * @param loops - the names, by the number of the loop.
 */
export async function stopInLoop(loops: string[][]): Promise<boolean> {
  if (loops.length === 0) return false;
  const inspector = new InspectorClient();
  try {
    const paused = new Promise<Debugger.CallFrame[] | undefined>((resolve) => {
      inspector.on<Debugger.PausedEventDataType>("Debugger.paused", ({ callFrames }) => resolve(callFrames));
      setTimeout(() => resolve(undefined), PATIENCE);
    });
    // Their answers come when the code yields, which it does only once it is paused.
    void inspector.post("Debugger.enable").catch(() => {});
    void inspector.post("Debugger.pause").catch(() => {});
    const frames = await paused;
    let saved = false;
    for (const { functionName, callFrameId } of frames ?? []) {
      const variables = loops[Number(LOOP_NAME.exec(functionName)?.[1] ?? Number.NaN)];
      if (!variables) continue;
      const expression = `${LOOP_SETTER}(${variables.join(", ")})`;
      await inspector.post("Debugger.evaluateOnCallFrame", { callFrameId, expression, silent: true });
      saved = true;
    }
    if (saved) await inspector.post("Debugger.resume", { terminateOnResume: true });
    return saved;
  } finally {
    // It lets paused code go on, and takes back a pause that has not come.
    inspector.close();
  }
}
