import { DataError } from "../../errors.js";
import { type Part, unknownPart } from "./part.js";

/** Puts special tokens around the ids of a text. */
export type PostProcessor = (ids: readonly number[]) => readonly number[];

/** A tokenizer.json's `post_processor`, for single texts. */
export function postProcessor(part: Part | null): PostProcessor {
  switch (part?.type) {
    case undefined:
    case "ByteLevel":
      // It trims the places of tokens in the text.
      return (ids) => ids;
    case "TemplateProcessing":
      return template(part as Part);
    case "BertProcessing":
    case "RobertaProcessing": {
      const [begin, end] = [id((part as Part).cls), id((part as Part).sep)];
      return (ids) => [begin, ...ids, end];
    }
    case "Sequence": {
      const steps = ((part as Part).processors as Part[]).map(postProcessor);
      return (ids) => steps.reduce<readonly number[]>((done, step) => step(done), ids);
    }
    default:
      throw unknownPart("post-processor", part as Part);
  }
}

/** A special token is `[content, id]`. */
function id(token: unknown): number {
  const number = (token as [string, number] | undefined)?.[1];
  if (typeof number !== "number") throw new DataError(`a special token is ${JSON.stringify(token)}`);
  return number;
}

interface TemplatePiece {
  readonly Sequence?: { readonly id: string };
  readonly SpecialToken?: { readonly id: string };
}

function template(part: Part): PostProcessor {
  const special = part.special_tokens as Record<string, { ids: number[] }>;
  const pieces = (part.single as TemplatePiece[]).map((piece) => {
    if (piece.SpecialToken === undefined) return undefined;
    const token = special[piece.SpecialToken.id];
    if (token === undefined)
      throw new DataError(
        `the template's token ${JSON.stringify(piece.SpecialToken.id)} is not in its special_tokens`,
      );
    return token.ids;
  });
  return (ids) => pieces.flatMap((piece) => piece ?? ids);
}
