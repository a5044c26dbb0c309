/** The globals of a cell, as the checker sees them; `engine/globals.ts` defines them. */
export const PRELUDE = `
/// <reference lib="esnext" />
/// <reference types="node" />
interface JupyterDisplayOptions {
  /** A name by which the output can be updated later. */
  id?: string;
  /** The value is a MIME bundle already: keys are MIME types. */
  raw?: boolean;
  /** Replace the output of the same \`id\`. */
  update?: boolean;
  metadata?: Record<string, unknown>;
}
interface JupyterDisplayHandle {
  readonly id: string;
  /** Replaces what is shown, in place. */
  update(value: unknown, options?: Omit<JupyterDisplayOptions, "id" | "update">): void;
}
interface JupyterComm {
  readonly id: string;
  readonly target: string;
  onmessage: ((message: { data: unknown; metadata: Record<string, unknown>; buffers: Uint8Array[] }) => void) | undefined;
  onclose: ((data: unknown) => void) | undefined;
  send(data: unknown, options?: { metadata?: Record<string, unknown>; buffers?: ArrayBufferView[] }): void;
  close(data?: unknown): void;
}
/** A value that shows as a MIME bundle. */
interface JupyterRich {
  readonly jupyterRich: true;
}
interface JupyterProgress {
  readonly total: number;
  /** Setting it draws the bar, at most ten times a second. */
  value: number;
  advance(by?: number): void;
}
/** A control in a cell's output. As the value of a cell, or given to \`display\`, it is shown. */
interface JupyterInput<T> {
  readonly label: string;
  /** Setting it moves the control, and calls no listener. */
  value: T;
  /** Calls \`listener\` with each value that the user gives; the result ends it. */
  onChange(listener: (value: T) => void): () => void;
  /** The next value that the user gives. */
  next(): Promise<T>;
  /** The values that the user gives, one after another. */
  [Symbol.asyncIterator](): AsyncGenerator<T, void>;
}
/** What a microphone gave: mono samples from -1 to 1. */
interface JupyterRecording {
  readonly samples: Float32Array<ArrayBuffer>;
  /** Samples a second. */
  readonly sampleRate: number;
  readonly seconds: number;
  /** The same as a WAV file of 16 bits a sample. */
  wav(): Uint8Array;
}
interface JupyterInputs {
  /** A number from \`min\` to \`max\`; \`step\` is a hundredth of that by default. */
  slider(options: { min: number; max: number; step?: number; value?: number; label?: string }): JupyterInput<number>;
  /** One of some values; a record gives them by the names that are shown. */
  choice<const T>(options: { options: readonly T[] | Readonly<Record<string, T>>; value?: NoInfer<T>; label?: string }): JupyterInput<T>;
  /** Its value is how often it was pressed. */
  button(options?: { label?: string }): JupyterInput<number>;
  text(options?: { value?: string; placeholder?: string; multiline?: boolean; label?: string }): JupyterInput<string>;
  /** Its value is the last recording; \`next()\` rejects where the browser refuses. */
  microphone(options?: { label?: string }): JupyterInput<JupyterRecording | undefined>;
}
interface JupyterGlobal {
  /** Controls: a slider, a choice, a button, a text, a microphone. */
  readonly input: JupyterInputs;
  html(text: string): JupyterRich;
  markdown(text: string): JupyterRich;
  latex(text: string): JupyterRich;
  svg(text: string): JupyterRich;
  javascript(text: string): JupyterRich;
  png(bytes: Uint8Array): JupyterRich;
  jpeg(bytes: Uint8Array): JupyterRich;
  gif(bytes: Uint8Array): JupyterRich;
  pdf(bytes: Uint8Array): JupyterRich;
  json(value: unknown): JupyterRich;
  /** Records, one a row, as a table. */
  table(records: Iterable<object>): JupyterRich;
  /** A Plotly figure: \`{ data, layout }\`. */
  plotly(figure: object): JupyterRich;
  vega(spec: object): JupyterRich;
  vegaLite(spec: object): JupyterRich;
  /** A progress bar to move by hand, up to a number, or around a list that is walked through. */
  progress(total: number, label?: string): JupyterProgress;
  progress<T>(items: Iterable<T>, label?: string): Generator<T, void>;
  /** Shows a value as an output of the cell. */
  display(value: unknown, options?: JupyterDisplayOptions): JupyterDisplayHandle;
  /** Removes the outputs of the cell; with \`wait\`, when the next output comes. */
  clearOutput(options?: { wait?: boolean }): void;
  /** Asks the user for a secret: what is typed is not shown. */
  password(message?: string): string;
  /** Aborted when the running cell is interrupted. */
  readonly signal: AbortSignal;
  readonly comms: {
    /** Answers comms that the front end opens with this target name. */
    register(target: string, opened: (comm: JupyterComm, data: unknown, buffers: Uint8Array[]) => void): () => void;
    /** Opens a comm towards the front end. */
    open(target: string, data?: unknown, options?: { metadata?: Record<string, unknown>; buffers?: ArrayBufferView[] }): JupyterComm;
  };
  /** Publishes any message on the iopub channel. */
  broadcast(type: string, content: Record<string, unknown>, options?: { metadata?: Record<string, unknown>; buffers?: ArrayBufferView[] }): void;
}
/** Shows a value as an output of the cell. */
declare function display(value: unknown, options?: JupyterDisplayOptions): JupyterDisplayHandle;
/** Asks the user for a line of text. */
declare function prompt(message?: string, defaultValue?: string): string | null;
declare const jupyter: JupyterGlobal;
declare var require: NodeJS.Require;
declare module "@aronnax/kernel" {
  export const input: JupyterInputs;
  export const display: (value: unknown, options?: JupyterDisplayOptions) => JupyterDisplayHandle;
}
declare module "tslab" {
  export interface Display {
    javascript(s: string): void;
    html(s: string): void;
    markdown(s: string): void;
    latex(s: string): void;
    svg(s: string): void;
    png(b: Uint8Array): void;
    jpeg(b: Uint8Array): void;
    gif(b: Uint8Array): void;
    pdf(b: Uint8Array): void;
    text(s: string): void;
    raw(contentType: string, b: string | Uint8Array): void;
  }
  export const display: Display;
  /** A display whose methods overwrite one and the same output. */
  export function newDisplay(): Display;
  export const versions: { tslab: string; typescript: string; node: string };
}
`;
