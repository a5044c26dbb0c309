/** Named sets of buffers that stay in the runtime when the client goes. */
import { InvalidArgument } from "./errors.js";
import type { DeviceBuffer, Runtime } from "./runtime.js";
import type { BufferOptions } from "./types.js";

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

export interface WorkspaceInfo {
  name: string;
  /** What is in it, by name. */
  buffers: Record<string, BufferOptions>;
  /** Whatever was stored beside the buffers, e.g. the step. */
  metadata: JsonValue;
}

/**
 * The buffers stay the same ones: a workspace and a client may both hold a buffer, and a program that takes it by donation takes it
 * from both, so a training loop calls `set` again with the program's outputs.
 */
export class Workspace {
  readonly name: string;
  readonly #runtime: Runtime;

  constructor(runtime: Runtime, name: string) {
    if (name === "") throw new InvalidArgument("a workspace needs a name that is not empty");
    this.#runtime = runtime;
    this.name = name;
  }

  /** Stores buffers under names, in place of those that were there under the same names, and metadata if given. */
  async set(buffers: Record<string, DeviceBuffer>, metadata?: JsonValue): Promise<void> {
    const handles: Record<string, number> = {};
    for (const [name, buffer] of Object.entries(buffers)) handles[name] = this.#runtime.handle(buffer);
    await this.#runtime.request({
      op: "workspace.set",
      workspace: this.name,
      buffers: handles,
      ...(metadata === undefined ? {} : { metadata }),
    });
  }

  /** All buffers, or those named, as handles of this client. @throws InvalidArgument for a name that is not there */
  async get(names?: readonly string[]): Promise<Record<string, DeviceBuffer>> {
    const info = await this.list();
    const wanted = names ?? Object.keys(info.buffers);
    const described = wanted.map((name) => {
      const found = info.buffers[name];
      if (found === undefined) {
        throw new InvalidArgument(`workspace ${this.name} holds no buffer named ${name}`, {
          fix: `It holds: ${Object.keys(info.buffers).join(", ") || "nothing"}.`,
        });
      }
      return found;
    });
    const buffers = this.#runtime.adopt(described);
    await this.#runtime.request({
      op: "workspace.get",
      workspace: this.name,
      names: wanted,
      buffers: buffers[0]?.id ?? 0,
    });
    return Object.fromEntries(wanted.map((name, i) => [name, buffers[i]!]));
  }

  /** What it holds; empty for a workspace that does not exist. */
  async list(): Promise<WorkspaceInfo> {
    const { result } = await this.#runtime.request({ op: "workspace.list", workspace: this.name });
    return result as WorkspaceInfo;
  }

  /** Drops the named buffers, or the whole workspace. */
  async delete(names?: readonly string[]): Promise<void> {
    await this.#runtime.request({ op: "workspace.delete", workspace: this.name, names: names ?? null });
  }
}
