/** Trainings that are under way in this process: no two may write one run or read one source of data. */
import { ArgumentError } from "../graph/errors.js";

const runs = new Map<string, string>();
const sources = new Map<object, string>();

/**
 * Takes a run's folder and its data for a training, until it is disposed.
 *
 * @throws ArgumentError if another training has one of them
 */
export function takePart(name: string, folder: string, data: object): Disposable {
  if (runs.has(folder)) {
    throw new ArgumentError(
      `the run "${name}" is being trained already`,
      "await the first fit() before the next, or choose another name",
    );
  }
  const reader = sources.get(data);
  if (reader !== undefined) {
    throw new ArgumentError(
      `the run "${reader}" is reading the data of "${name}": each would miss what the other takes`,
      "give each training a source of its own, or await the first fit()",
    );
  }
  runs.set(folder, name);
  sources.set(data, name);
  return {
    [Symbol.dispose]() {
      runs.delete(folder);
      sources.delete(data);
    },
  };
}
