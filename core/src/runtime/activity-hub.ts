/**
 * What a process that runs cells needs to know of the runtime (docs/contracts.md, section 1). It lives on `globalThis` under a registered
 * symbol, so that packages that do not import each other (framework and Jupyter kernel) share it.
 */
import type { Runtime } from "./runtime.js";
import type { Recovery } from "./types.js";
import { describeCompiling, describeRunning, recoverAdvice } from "./waiting.js";

export interface RuntimeHub {
  readonly version: 1;
  /**
   * To be called when an interrupt has ended a cell by force: gives up what this process has compiled, and says which program still holds
   * the device, whose it is, since when, and what can be done; undefined where none does.
   */
  interrupted(): Promise<string | undefined>;
  /** What the process waits for, in a line, e.g. `compiling train for 20 s`; undefined where nothing waits for long. */
  waiting(): Promise<string | undefined>;
  /** The action: ends programs that do not end, and says what is back and what is lost. */
  recover(): Promise<string>;
}

const key = Symbol.for("aronnax.runtime");
/** Seconds of compiling after which a cell says so, and then each time that they have doubled. */
const firstNotice = 20;

/** Offers the process's runtime to whoever runs its cells, in the place of an earlier one, and says in the cell what takes long. */
export function offerActivity(runtime: Runtime): void {
  const hub: RuntimeHub = {
    version: 1,
    async interrupted() {
      await runtime.giveUpCompiling();
      const { running } = await runtime.activity();
      if (running.length === 0) return undefined;
      return `After the interrupt ${running.map(describeRunning).join("; ")}. ${recoverAdvice}`;
    },
    async waiting() {
      const { running, compiling } = await runtime.activity();
      const lines = [
        ...compiling.filter(({ own }) => own).map(describeCompiling),
        ...running.map(describeRunning),
      ];
      return lines[0];
    },
    async recover() {
      return describeRecovery(await runtime.recover());
    },
  };
  (globalThis as { [key]?: RuntimeHub })[key] = hub;
  let notice = firstNotice;
  runtime.onWait(({ seconds, activity: { running, compiling } }) => {
    const [own] = compiling.filter((entry) => entry.own && entry.begun);
    // What began long before the request that waits: the request is not its own.
    const [holder] = running.filter((entry) => entry.own && entry.seconds > seconds + 1);
    if (seconds < 2 * firstNotice) notice = Math.min(notice, firstNotice);
    if (holder !== undefined && seconds < 10)
      console.warn(`Waiting: ${describeRunning(holder)}. ${recoverAdvice}`);
    else if (own !== undefined && own.seconds >= notice) {
      console.warn(`Still ${describeCompiling(own)}.`);
      notice = 2 * own.seconds;
    }
  });
}

/** What a recovery has done, in words. */
export function describeRecovery({ buffers, bytes, ended, lost }: Recovery): string {
  const programs = ended.map(({ program, client }) => `${program} of ${client}`).join(", ") || "no program";
  const gone = lost.map(
    ({ buffer, name, reason, workspace }) =>
      `\n  ${name || buffer}${workspace === undefined ? "" : ` of workspace ${workspace}`}: ${reason}`,
  );
  return `The runtime was restarted. Ended: ${programs}. Back: ${buffers} buffers (${bytes} bytes). Lost: ${gone.join("") || "nothing else"}.`;
}
