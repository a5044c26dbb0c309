/** The globals of a cell, as the checker sees them; `engine/globals.ts` defines them. */
export const PRELUDE = `
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
interface JupyterGlobal {
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
`;
