import { randomUUID } from "node:crypto";
import type { Bundle, ToMessaging } from "../link.js";
import type { Json } from "../protocol/wire.js";
import { asJsonObject } from "./json.js";
import { displayIdOf, isThenable, rawBundle, toBundle } from "./mime.js";
import type { OutputStreams } from "./streams.js";

export interface DisplayOptions {
  id?: string;
  raw?: boolean;
  update?: boolean;
  metadata?: Json;
}

/** What `display` returns. As the value of a cell it shows nothing more. */
export class DisplayHandle {
  constructor(
    readonly id: string,
    readonly update: (value: unknown, options?: Omit<DisplayOptions, "id" | "update">) => void,
  ) {}
}

/** Sends rich outputs. Those whose bundle takes time keep their place among the displays; the cell waits for them. */
export class Displays {
  #last: Promise<void> | undefined;
  /** The values that have ids of their own, as long as cells hold them. */
  readonly #shown = new Map<string, WeakRef<object>>();

  constructor(
    private readonly streams: OutputStreams,
    private readonly tell: (message: ToMessaging) => void,
    private readonly failed: (error: unknown) => void,
  ) {}

  readonly display = (value: unknown, options: DisplayOptions = {}): DisplayHandle => {
    const own = options.raw ? undefined : displayIdOf(value);
    const id = options.id ?? own ?? randomUUID();
    if (own !== undefined) this.#shown.set(id, new WeakRef(value as object));
    const bundle = options.raw ? rawBundle(value as Json) : toBundle(value);
    const more = asJsonObject(options.metadata ?? {});
    const send = ({ data, metadata }: Bundle) => {
      this.streams.flush();
      this.tell({
        type: "display",
        bundle: { data, metadata: { ...metadata, ...more } },
        displayId: id,
        update: options.update === true,
      });
    };
    if (!isThenable(bundle) && !this.#last) send(bundle as Bundle);
    else this.#last = this.#sendAfter(this.#last, bundle, send);
    return new DisplayHandle(
      id,
      (next, changes) => void this.display(next, { ...changes, id, update: true }),
    );
  };

  /** Whether a value with an id of its own was shown. */
  hasShown(id: string): boolean {
    return this.#shown.has(id);
  }

  /** Shows a value anew wherever it was shown by an id of its own; what is not held any more stays as it was. */
  refresh(id: string): void {
    const value = this.#shown.get(id)?.deref();
    if (value === undefined) return;
    try {
      this.display(value, { update: true });
    } catch (error) {
      this.failed(error);
    }
  }

  async #sendAfter(
    before: Promise<void> | undefined,
    bundle: Bundle | Promise<Bundle>,
    send: (bundle: Bundle) => void,
  ): Promise<void> {
    await before;
    try {
      send(await bundle);
    } catch (error) {
      this.failed(error);
    }
  }

  readonly clear = ({ wait = false }: { wait?: boolean } = {}): void => {
    this.streams.flush();
    this.tell({ type: "clear", wait });
  };

  async settled(): Promise<void> {
    for (let last = this.#last; last; last = this.#last) {
      await last;
      if (this.#last === last) this.#last = undefined;
    }
  }
}
