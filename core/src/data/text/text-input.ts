import { statSync } from "node:fs";
import { DataError } from "../errors.js";
import { documents, jsonLines, type SourceRecipe, type TextSource, textFiles } from "./sources.js";
import { arrowFiles, parquetFiles } from "./table-files.js";

/**
 * What `packed` and `tokenize` read: a path (by its ending `.jsonl` or `.ndjson`, `.parquet`, `.arrow`, else plain
 * text; a further `.gz` is decompressed), documents as an array of strings, or a source.
 */
export type TextInput = string | readonly string[] | TextSource;

export function textSource(input: TextInput): TextSource {
  const given = input as Partial<TextSource> | null | undefined;
  if (typeof input !== "string" && !Array.isArray(input) && typeof given?.documents !== "function") {
    throw new DataError(
      `A source of text is ${given === null ? "null" : typeof given}.`,
      "Give a path, an array of documents, or a source such as text.jsonLines(path).",
    );
  }
  if (typeof input === "string") return fileSource(input);
  if (Array.isArray(input)) {
    const [first] = input as readonly string[];
    if (typeof first === "string" && isFile(first)) {
      throw new DataError(
        `An array of strings holds documents, but its first one is the name of a file: ${first}.`,
        "Use `textFiles([...])`, `jsonLines([...])`, `parquetFiles([...])` or `arrowFiles([...])` for files.",
      );
    }
    return documents(input as readonly string[]);
  }
  return input as TextSource;
}

function fileSource(path: string): TextSource {
  switch (/\.(\w+)(?:\.gz)?$/.exec(path)?.[1]?.toLowerCase()) {
    case "jsonl":
    case "ndjson":
      return jsonLines(path);
    case "parquet":
      return parquetFiles(path);
    case "arrow":
      return arrowFiles(path);
    case "json":
    case "csv":
    case "tsv":
      throw new DataError(
        `${path} holds records, and which part of them is text is not known.`,
        "Read it with text.jsonLines(path, { text }) if each line is an object, map its records to an array of " +
          "documents, or take all its characters with text.textFiles(path).",
      );
    default:
      return textFiles(path);
  }
}

function isFile(path: string): boolean {
  // A name of 256 bytes or more is an error of stat, not a missing file.
  return path.length < 256 && (statSync(path, { throwIfNoEntry: false })?.isFile() ?? false);
}

/** The source that has this recipe. */
export function sourceFromRecipe(recipe: SourceRecipe): TextSource {
  switch (recipe.kind) {
    case "documents":
      return documents(recipe.texts, recipe.name);
    case "text":
      return textFiles(recipe.paths, recipe.options);
    case "jsonl":
      return jsonLines(recipe.paths, recipe.options);
    case "parquet":
      return parquetFiles(recipe.paths, recipe.options);
    case "arrow":
      return arrowFiles(recipe.paths, recipe.options);
  }
}
