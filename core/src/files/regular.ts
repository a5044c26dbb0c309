/** Opening files that must be files: a pipe or a device of the name would hold the process up, or never end. */
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

const flags = constants.O_RDONLY | constants.O_NONBLOCK;

/** @throws an error of the system, or one that says that the path is no regular file */
export async function openRegular(path: string): Promise<FileHandle> {
  const file = await open(path, flags);
  try {
    if (!(await file.stat()).isFile()) throw notRegular(path);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The text of a regular file. @throws as `openRegular` */
export async function readRegular(path: string): Promise<string> {
  const file = await openRegular(path);
  try {
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

/** `readRegular` at once. */
export function readRegularSync(path: string): string {
  const file = openSync(path, flags);
  try {
    if (!fstatSync(file).isFile()) throw notRegular(path);
    return readFileSync(file, "utf8");
  } finally {
    closeSync(file);
  }
}

function notRegular(path: string): Error {
  return new Error(`${path} is no regular file`);
}
