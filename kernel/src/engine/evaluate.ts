import { type Runtime, Session } from "node:inspector";
import { promiseHooks } from "node:v8";

/** A cell under way: `result` settles with the raw value of its last statement or rejects with what it threw. */
export interface Evaluation {
  result: Promise<unknown>;
  /** Whether the code was stopped by force before its first await. */
  terminated: boolean;
  /** Lets go of the cell; without this V8 would report, and die of, the collection of a promise that nobody holds. */
  release(): void;
}

/**
 * Runs a script in V8's REPL mode, through an inspector session on this same thread: names can be declared again,
 * `await` stands at the top level, and declarations outlive a throw.
 *
 * The protocol hands out descriptions of values. The value itself is had from the promise of the script: every REPL
 * script is one, it is the first promise that the script makes, and it resolves to `{ ".repl_result": value }`. Holding it also
 * keeps a pending cell from being garbage-collected. A debugger that asks for values in between runs scripts of its own.
 *
 * @param stopsAtErrors - whether a debugger that wants to stop where something is thrown is to hear of it.
 */
export function evaluate(code: string, fileName: string, stopsAtErrors: boolean): Evaluation {
  const session = new Session();
  session.connect();
  let script: Promise<Record<string, unknown>> | undefined;
  let failure: Error | undefined;
  const made = (promise: Promise<unknown>): void => {
    if (callerOf(made) !== fileName) return;
    script = promise as Promise<Record<string, unknown>>;
    stop();
  };
  const stop = promiseHooks.onInit(made) as () => void;
  session.post(
    "Runtime.evaluate",
    {
      expression: `${code}\n//# sourceURL=${fileName}`,
      replMode: true,
      awaitPromise: true,
      silent: !stopsAtErrors,
    },
    (error: Error | null, reply?: object) => {
      const answer = reply as Runtime.EvaluateReturnType | undefined;
      if (error) failure ??= error;
      else if (answer?.exceptionDetails && !script) failure ??= asSyntaxError(answer.exceptionDetails);
    },
  );
  if (!script) stop();
  const terminated = failure !== undefined && !(failure instanceof SyntaxError);
  return {
    result: failure && !terminated ? rejected(failure) : resultOf(script),
    terminated,
    release: () => session.disconnect(),
  };
}

/** The name of the script that called a function which is running. */
function callerOf(running: (promise: Promise<unknown>) => void): string | undefined {
  const { prepareStackTrace, stackTraceLimit } = Error;
  const trace: { stack?: unknown } = {};
  let caller: string | undefined;
  Error.stackTraceLimit = 1;
  Error.prepareStackTrace = (_, [frame]) => {
    caller = frame?.getScriptNameOrSourceURL() ?? undefined;
  };
  Error.captureStackTrace(trace, running);
  void trace.stack;
  Object.assign(Error, { prepareStackTrace, stackTraceLimit });
  return caller;
}

async function rejected(error: Error): Promise<never> {
  throw error;
}

async function resultOf(script: Promise<Record<string, unknown>> | undefined): Promise<unknown> {
  const result = await (script ?? new Promise<Record<string, unknown>>(() => {}));
  return result?.[".repl_result"];
}

function asSyntaxError(details: { text: string; exception?: { description?: string } }): SyntaxError {
  const text = details.exception?.description?.split("\n")[0] ?? details.text;
  const error = new SyntaxError(text.replace(/^SyntaxError: /, ""));
  error.stack = details.exception?.description ?? text;
  return error;
}
