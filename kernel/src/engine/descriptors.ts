import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import type { OutputStreams } from "./streams.js";

type Name = "stdout" | "stderr";
type Call = (...args: unknown[]) => unknown;

/**
 * Has what the process writes to its descriptors 1 and 2 reach the cell, as what it writes to `process.stdout`. The
 * descriptors themselves stay those of the log, to which also V8 writes why it ends.
 */
export function captureDescriptors(streams: OutputStreams): void {
  const write = (name: Name, bytes: Uint8Array | string): number => {
    streams.write(name, typeof bytes === "string" ? bytes : decoders[name].decode(bytes, { stream: true }));
    return Buffer.byteLength(bytes);
  };
  const originals = { ...fs };
  const patch = (name: keyof typeof fs, call: (original: Call) => Call) =>
    Object.assign(fs, { [name]: named(name, call(originals[name] as Call)) });
  patch("writeSync", (original) => (fd, data, ...rest) => {
    const name = nameOf(fd);
    return name ? write(name, part(data, rest)) : original(fd, data, ...rest);
  });
  patch("write", (original) => (fd, data, ...rest) => {
    const name = nameOf(fd);
    const done = rest.findLast((one) => typeof one === "function") as Call | undefined;
    if (!name || !done) return original(fd, data, ...rest);
    const count = write(name, part(data, rest));
    process.nextTick(() => done(null, count, data));
    return undefined;
  });
  patch("writevSync", (original) => (fd, list, ...rest) => {
    const name = nameOf(fd);
    if (!name) return original(fd, list, ...rest);
    return (list as ArrayBufferView[]).reduce((count, one) => count + write(name, bytesOf(one)), 0);
  });
  patch("writev", (original) => (fd, list, ...rest) => {
    const name = nameOf(fd);
    const done = rest.findLast((one) => typeof one === "function") as Call | undefined;
    if (!name || !done) return original(fd, list, ...rest);
    const count = (list as ArrayBufferView[]).reduce((sum, one) => sum + write(name, bytesOf(one)), 0);
    process.nextTick(() => done(null, count, list));
    return undefined;
  });
  for (const key of ["writeFileSync", "appendFileSync"] as const)
    patch(key, (original) => (file, data, ...rest) => {
      const name = nameOf(file);
      if (!name) return original(file, data, ...rest);
      write(name, typeof data === "string" ? data : bytesOf(data as ArrayBufferView));
      return undefined;
    });
  for (const key of ["writeFile", "appendFile"] as const)
    patch(key, (original) => (file, data, ...rest) => {
      const name = nameOf(file);
      const done = rest.findLast((one) => typeof one === "function") as Call | undefined;
      if (!name || !done) return original(file, data, ...rest);
      write(name, typeof data === "string" ? data : bytesOf(data as ArrayBufferView));
      process.nextTick(() => done(null));
      return undefined;
    });
  // Opened by its path it would be the log, from its beginning.
  patch("createWriteStream", (original) => (path, options) => {
    const name = nameOf(path);
    if (!name) return original(path, options);
    const given = typeof options === "string" ? { encoding: options } : (options as object | undefined);
    return original("", { ...given, fd: name === "stdout" ? 1 : 2, autoClose: false });
  });
  syncBuiltinESMExports();
}

const decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };

/** The stream of a descriptor, or of a path that means one. */
function nameOf(file: unknown): Name | undefined {
  if (file === 1 || file === "/dev/stdout" || file === "/dev/fd/1") return "stdout";
  return file === 2 || file === "/dev/stderr" || file === "/dev/fd/2" ? "stderr" : undefined;
}

/** What a write takes of its data, given `offset, length` or as an object; of a text all. */
function part(data: unknown, [first, second]: unknown[]): Uint8Array | string {
  if (typeof data === "string") return data;
  if (!ArrayBuffer.isView(data)) {
    const type = "ERR_INVALID_ARG_TYPE";
    throw Object.assign(new TypeError('The "buffer" argument must be a string or a view of bytes'), {
      code: type,
    });
  }
  const bytes = bytesOf(data);
  const { offset, length } =
    typeof first === "object" && first !== null
      ? (first as { offset?: number; length?: number })
      : { offset: first as number | undefined, length: second as number | undefined };
  const start = typeof offset === "number" ? offset : 0;
  return bytes.subarray(start, typeof length === "number" ? start + length : undefined);
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function named(name: string, call: Call): Call {
  return Object.defineProperty(call, "name", { value: name });
}
