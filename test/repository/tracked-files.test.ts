import { execFileSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const repository = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const tracked = execFileSync("git", ["ls-files", "-z"], { cwd: repository, encoding: "utf8" })
  .split("\0")
  .filter(Boolean);

/** The lines of the tracked text files that match, as "file:line: text". */
function linesMatching(pattern: RegExp): string[] {
  return tracked.flatMap((file) => {
    const path = join(repository, file);
    if (!statSync(path, { throwIfNoEntry: false })?.isFile()) return [];
    const text = readFileSync(path, "latin1");
    if (text.includes("\0")) return [];
    return text
      .split("\n")
      .flatMap((line, index) =>
        pattern.test(line) ? [`${file}:${index + 1}: ${line.trim().slice(0, 120)}`] : [],
      );
  });
}

describe("no tracked file", () => {
  it("names the host of a package registry", () => {
    // Assembled, so that this file does not name one itself.
    const hosts = ["registry.npmjs", "registry.yarnpkg", "pypi", "files.pythonhosted", "npm.jsr"].map(
      (host) => host.replace(".", "\\."),
    );
    expect(linesMatching(new RegExp(`(https?:)?//(www\\.)?(${hosts.join("|")})\\.`))).toEqual([]);
  });

  it("carries an absolute path of somebody's machine", () => {
    const folders = ["home/\\w+", "Users/\\w+", "root", "work", "private/tmp", "mnt/\\w+"];
    expect(linesMatching(new RegExp(`(?<![\\w.~$}\\])-])/(${folders.join("|")})/[\\w.]`))).toEqual([]);
  });

  it("is larger than 5 MB", () => {
    const large = tracked.filter(
      (file) => (statSync(join(repository, file), { throwIfNoEntry: false })?.size ?? 0) > 5_000_000,
    );
    expect(large).toEqual([]);
  });
});
