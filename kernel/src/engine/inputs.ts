import { randomUUID } from "node:crypto";
import type { Json } from "../protocol/wire.js";
import type { Comm, CommMessage, Comms } from "./comms.js";
import type { Displays } from "./displays.js";
import { DISPLAY, DISPLAY_ID } from "./mime.js";
import { native } from "./native-timers.js";
import { Recorder, type Recording } from "./recording.js";
import { escapeHtml } from "./tables.js";

/** The comm by which a shown input and its kernel speak (docs/contracts.md §4). */
export const INPUT_TARGET = "aronnax.input";
export const INPUT_MIME = "application/vnd.aronnax.input+json";

/** Least time between two updates of what is saved with the notebook, in ms. */
const INTERVAL = 250;
/** Values that an iteration keeps while its body runs; of more the oldest are dropped. */
const QUEUED = 1024;
const MOST_TEXT = 1 << 20;

/** What an input is made of: how its value comes from the front end, goes there, and reads. */
interface Kind<T> {
  kind: string;
  label: string;
  value: T;
  /** What the front end needs to draw it, beside label and value. */
  options: Json;
  /** The value that a message gives; undefined where it gives none. */
  take(message: CommMessage): T | undefined;
  /** The value as the front end has it. */
  give(value: T): unknown;
  /** For where there is no front end that draws it. */
  text(value: T): string;
  /** A value that the cell sets. Throws where it is none. */
  check(value: T): T;
}

/** What there is to an input, whatever its values are. */
interface Connectable {
  readonly [DISPLAY_ID]: string;
  connect(comm: Comm): void;
}

/** A control in a cell's output, whose value the cells read. */
export class CellInput<T> implements Connectable {
  readonly id = randomUUID();
  readonly #kind: Kind<T>;
  readonly #comms = new Set<Comm>();
  readonly #listeners = new Set<(value: T) => void>();
  readonly #waiting = new Set<{ resolve(value: T): void; reject(error: Error): void }>();
  readonly #changed: (input: Connectable) => void;
  #value: T;

  /** @param changed - called when what is shown is no longer the value. */
  constructor(kind: Kind<T>, changed: (input: Connectable) => void) {
    this.#kind = kind;
    this.#value = kind.value;
    this.#changed = changed;
  }

  get label(): string {
    return this.#kind.label;
  }

  get value(): T {
    return this.#value;
  }

  /** Moves the control too, wherever it is shown. It counts as no change: listeners are for what the user does. */
  set value(value: T) {
    this.#value = this.#kind.check(value);
    this.#tell();
    this.#changed(this);
  }

  /** Calls `listener` with each value that the user gives; the result ends it. */
  onChange(listener: (value: T) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** The next value that the user gives. Rejects where the browser refuses it, as a microphone. */
  next(): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiting.add({ resolve, reject });
    });
  }

  /** The values that the user gives, one after another, also those that came while the loop's body ran. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void> {
    const values: T[] = [];
    const end = this.onChange((value) => {
      if (values.length === QUEUED) values.shift();
      values.push(value);
    });
    try {
      for (;;) {
        if (values.length === 0) await this.next();
        // What came is among the values too.
        if (values.length > 0) yield values.shift()!;
      }
    } finally {
      end();
    }
  }

  get [DISPLAY_ID](): string {
    return `aronnax-input-${this.id}`;
  }

  [DISPLAY](): Json {
    const { kind, label, options, give, text } = this.#kind;
    const words = text(this.#value);
    return {
      [INPUT_MIME]: { version: 1, id: this.id, kind, label, value: give(this.#value), ...options },
      "text/html": `<div><b>${escapeHtml(label)}</b> ${escapeHtml(words)}</div>`,
      "text/plain": [label, words].filter((part) => part !== "").join(": "),
    };
  }

  /** A front end shows it. */
  connect(comm: Comm): void {
    this.#comms.add(comm);
    comm.onclose = () => this.#comms.delete(comm);
    comm.onmessage = (message) => {
      const { type, name, reason } = (message.data ?? {}) as Json;
      if (type === "problem") this.#fail(String(name), String(reason));
      else this.#take(message, comm);
    };
    comm.send(this.#state());
  }

  #take(message: CommMessage, from: Comm): void {
    const value = this.#kind.take(message);
    if (value === undefined) return;
    this.#value = value;
    this.#tell(from);
    this.#changed(this);
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    try {
      for (const listener of [...this.#listeners]) listener(value);
    } finally {
      for (const { resolve } of waiting) resolve(value);
    }
  }

  #fail(name: string, reason: string): void {
    const error = Object.assign(new Error(`the browser gives nothing for "${this.label}": ${reason}`), {
      name: "InputRefused",
      fix:
        name === "NotAllowedError"
          ? "allow the microphone for this page in the browser, and try again"
          : "connect the device, or run the notebook where there is one",
    });
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(error);
  }

  /** @param but - who has it already. */
  #tell(but?: Comm): void {
    for (const comm of this.#comms) if (comm !== but) comm.send(this.#state());
  }

  #state(): Json {
    return { type: "state", value: this.#kind.give(this.#value) };
  }
}

export interface InputOptions {
  label?: string;
}

export interface SliderOptions extends InputOptions {
  min: number;
  max: number;
  step?: number;
  value?: number;
}

export interface ChoiceOptions<T> extends InputOptions {
  /** The values, or the values by the names that are shown. */
  options: readonly T[] | Readonly<Record<string, T>>;
  value?: T;
}

export interface TextOptions extends InputOptions {
  value?: string;
  placeholder?: string;
  multiline?: boolean;
}

/** What cells make inputs with. */
export interface Inputs {
  slider(options: SliderOptions): CellInput<number>;
  choice<T>(options: ChoiceOptions<T>): CellInput<T>;
  button(options?: InputOptions): CellInput<number>;
  text(options?: TextOptions): CellInput<string>;
  microphone(options?: InputOptions): CellInput<Recording | undefined>;
}

export function makeInputs(comms: Comms, displays: Displays): Inputs {
  const inputs = new Map<string, WeakRef<Connectable>>();
  const gone = new FinalizationRegistry<string>((id) => inputs.delete(id));
  let registered = false;
  const add = <T>(kind: Kind<T>): CellInput<T> => {
    if (!registered) {
      registered = true;
      comms.register(INPUT_TARGET, (comm, data) => {
        const input = inputs.get(String((data as Json | null)?.id))?.deref();
        if (input) input.connect(comm);
        else comm.close({ reason: "unknown" });
      });
    }
    const input = new CellInput(kind, refresher(displays));
    inputs.set(input.id, new WeakRef<Connectable>(input));
    gone.register(input, input.id);
    return input;
  };
  return {
    slider: (o) => add(slider(o)),
    choice: (o) => add(choice(o)),
    button: (o = {}) => add(button(o)),
    text: (o = {}) => add(text(o)),
    microphone: (o = {}) => add(microphone(o)),
  };
}

/** Brings what is saved with the notebook up to date, not too often. */
function refresher(displays: Displays): (input: Connectable) => void {
  let isDue = false;
  return (input) => {
    if (isDue || !displays.hasShown(input[DISPLAY_ID])) return;
    isDue = true;
    native
      .setTimeout(() => {
        isDue = false;
        displays.display(input, { update: true });
      }, INTERVAL)
      .unref();
  };
}

function slider({
  min,
  max,
  step = (max - min) / 100,
  value = min,
  label = "",
}: SliderOptions): Kind<number> {
  for (const [name, number] of Object.entries({ min, max, step, value })) {
    if (typeof number !== "number" || !Number.isFinite(number)) {
      throw refused(`slider: ${name} is ${String(number)}`, "give a finite number");
    }
  }
  if (min >= max || step <= 0) {
    throw refused(`slider: from ${min} to ${max} by ${step}`, "give min < max and a step above 0");
  }
  const check = (wanted: number): number => {
    if (!(wanted >= min && wanted <= max)) {
      throw refused(`slider: the value is ${String(wanted)}`, `give a number from ${min} to ${max}`);
    }
    return wanted;
  };
  return {
    kind: "slider",
    label,
    value: check(value),
    options: { min, max, step },
    take: ({ data }) => {
      const given = (data as Json).value;
      return typeof given === "number" && given >= min && given <= max ? given : undefined;
    },
    give: (number) => number,
    text: (number) => `${number} (${min} to ${max})`,
    check,
  };
}

function choice<T>({ options, value, label = "" }: ChoiceOptions<T>): Kind<T> {
  const entries: [string, T][] = Array.isArray(options)
    ? options.map((option: T) => [String(option), option])
    : Object.entries(options ?? {});
  if (entries.length === 0) throw refused("choice: there are no options", "give at least one");
  const indexOf = (wanted: T): number => entries.findIndex(([, option]) => Object.is(option, wanted));
  const check = (wanted: T): T => {
    if (indexOf(wanted) < 0) {
      throw refused(
        `choice: ${String(wanted)} is none of its options`,
        `give one of ${entries.map(([name]) => name).join(", ")}`,
      );
    }
    return wanted;
  };
  return {
    kind: "choice",
    label,
    value: value === undefined ? entries[0]![1] : check(value),
    options: { options: entries.map(([name]) => name) },
    take: ({ data }) => {
      const index = (data as Json).value;
      return typeof index === "number" ? entries[index]?.[1] : undefined;
    },
    give: indexOf,
    text: (chosen) => entries[indexOf(chosen)]?.[0] ?? "",
    check,
  };
}

/** Its value is how often it was pressed. */
function button({ label = "Press" }: InputOptions): Kind<number> {
  let pressed = 0;
  return {
    kind: "button",
    label,
    value: 0,
    options: {},
    take: () => ++pressed,
    give: (count) => count,
    text: (count) => (count === 0 ? "not pressed" : `pressed ${count} times`),
    check: (count) => {
      pressed = count;
      return count;
    },
  };
}

function text({ value = "", placeholder = "", multiline = false, label = "" }: TextOptions): Kind<string> {
  const check = (wanted: string): string => {
    if (typeof wanted !== "string") throw refused(`text: the value is a ${typeof wanted}`, "give a string");
    return wanted;
  };
  return {
    kind: "text",
    label,
    value: check(value),
    options: { placeholder, multiline },
    take: ({ data }) => {
      const given = (data as Json).value;
      return typeof given === "string" && given.length <= MOST_TEXT ? given : undefined;
    },
    give: (words) => words,
    text: (words) => words,
    check,
  };
}

function microphone({ label = "Microphone" }: InputOptions): Kind<Recording | undefined> {
  const recorder = new Recorder();
  return {
    kind: "microphone",
    label,
    value: undefined,
    options: {},
    take: (message) => recorder.take(message),
    give: (recording) => recording?.seconds ?? null,
    text: (recording) =>
      recording === undefined
        ? "nothing recorded"
        : `${recording.seconds.toFixed(1)} s recorded at ${recording.sampleRate} Hz`,
    check: (recording) => recording,
  };
}

function refused(message: string, fix: string): Error {
  return Object.assign(new RangeError(message), { fix });
}
