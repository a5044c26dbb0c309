/**
 * The account of device memory that this process holds. A buffer's handle is small: V8 lets thousands of dead ones lie, whatever they hold, and
 * runs no finalizers at all in a loop that awaits nothing. So garbage is collected by the bytes behind the handles, at once.
 */
import { collectNow } from "../host/garbage.js";

/** Smaller buffers are left to V8. */
const least = 2 ** 16;

/** So much may be allocated before the first collection, where the device's memory is not known. */
const unknown = 2 ** 29;

export class Outstanding {
  readonly #held = new Map<number, { readonly bytes: number; readonly buffer: WeakRef<object> }>();
  /** Handles that were found dead here, whose finalizers are yet to run. */
  readonly #swept = new Set<number>();
  #bytes = 0;
  #next = unknown;
  #memory: number | undefined;

  /** Bytes of one device. */
  set memory(bytes: number | undefined) {
    this.#memory = bytes;
    this.#next = this.#after(this.#bytes);
  }

  /** Bytes in buffers that were alive when last looked at. */
  get bytes(): number {
    return this.#bytes;
  }

  add(handle: number, bytes: number, buffer: object): void {
    if (bytes < least) return;
    this.#held.set(handle, { bytes, buffer: new WeakRef(buffer) });
    this.#bytes += bytes;
  }

  /** A buffer was freed, or taken by donation. */
  remove(handle: number): void {
    this.#bytes -= this.#held.get(handle)?.bytes ?? 0;
    this.#held.delete(handle);
  }

  /** V8 found a buffer dead; false if that is known already. */
  finalized(handle: number): boolean {
    this.remove(handle);
    return !this.#swept.delete(handle);
  }

  /** Handles of dead buffers, if it is time to look for them: before `bytes` more are allocated. */
  before(bytes: number): number[] {
    return this.#bytes + bytes <= this.#next ? [] : this.sweep();
  }

  /** Collects garbage; the handles of dead buffers. */
  sweep(): number[] {
    collectNow();
    const dead: number[] = [];
    for (const [handle, { buffer }] of this.#held) if (buffer.deref() === undefined) dead.push(handle);
    for (const handle of dead) {
      this.remove(handle);
      this.#swept.add(handle);
    }
    this.#next = this.#after(this.#bytes);
    return dead;
  }

  /** When to look again: collecting takes some 10 ms, and must not come with every call. */
  #after(live: number): number {
    const memory = this.#memory;
    if (memory === undefined) return live + Math.max(unknown, live / 2);
    // Always before the device is nearly full.
    return Math.max(live + memory / 32, Math.min(live + Math.max(memory / 8, live / 2), 0.7 * memory));
  }
}
