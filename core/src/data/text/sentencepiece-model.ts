import { DataError } from "../errors.js";

/** `SentencePiece.Type` of sentencepiece_model.proto. */
export const PieceType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** What a SentencePiece `tokenizer.model` says, as far as it decides an encoding. */
export interface SentencePieceModel {
  pieces: { piece: string; score: number; type: number }[];
  modelType: "unigram" | "bpe" | "word" | "char";
  byteFallback: boolean;
  treatWhitespaceAsSuffix: boolean;
  /** -1: none. */
  ids: { unk: number; bos: number; eos: number; pad: number };
  normalizer: {
    name: string;
    charsmap: Uint8Array;
    addDummyPrefix: boolean;
    removeExtraWhitespaces: boolean;
    escapeWhitespaces: boolean;
  };
}

type Field = { number: number; value: number | Uint8Array };

/** Reads the protocol buffer of sentencepiece_model.proto; fields that do not concern an encoding are passed over. */
export function parseSentencePieceModel(bytes: Uint8Array): SentencePieceModel {
  const model: SentencePieceModel = {
    pieces: [],
    modelType: "unigram",
    byteFallback: false,
    treatWhitespaceAsSuffix: false,
    ids: { unk: 0, bos: 1, eos: 2, pad: -1 },
    normalizer: {
      name: "",
      charsmap: new Uint8Array(),
      addDummyPrefix: true,
      removeExtraWhitespaces: true,
      escapeWhitespaces: true,
    },
  };
  for (const { number, value } of fields(bytes)) {
    if (number === 1) model.pieces.push(readPiece(message(value)));
    else if (number === 2) readTrainer(message(value), model);
    else if (number === 3) readNormalizer(message(value), model.normalizer);
  }
  if (model.pieces.length === 0) throw new DataError("it has no pieces");
  return model;
}

function readPiece(bytes: Uint8Array) {
  const piece = { piece: "", score: 0, type: PieceType.normal as number };
  for (const { number, value } of fields(bytes)) {
    if (number === 1) piece.piece = text(value);
    else if (number === 2) piece.score = float(value);
    else if (number === 3) piece.type = Number(value);
  }
  return piece;
}

function readTrainer(bytes: Uint8Array, model: SentencePieceModel): void {
  const types = [undefined, "unigram", "bpe", "word", "char"] as const;
  for (const { number, value } of fields(bytes)) {
    if (number === 3) model.modelType = types[Number(value)] ?? "unigram";
    else if (number === 24) model.treatWhitespaceAsSuffix = value !== 0;
    else if (number === 35) model.byteFallback = value !== 0;
    else if (number === 40) model.ids.unk = signed(value);
    else if (number === 41) model.ids.bos = signed(value);
    else if (number === 42) model.ids.eos = signed(value);
    else if (number === 43) model.ids.pad = signed(value);
  }
}

function readNormalizer(bytes: Uint8Array, normalizer: SentencePieceModel["normalizer"]): void {
  for (const { number, value } of fields(bytes)) {
    if (number === 1) normalizer.name = text(value);
    else if (number === 2) normalizer.charsmap = message(value);
    else if (number === 3) normalizer.addDummyPrefix = value !== 0;
    else if (number === 4) normalizer.removeExtraWhitespaces = value !== 0;
    else if (number === 5) normalizer.escapeWhitespaces = value !== 0;
  }
}

/** The fields of a protocol buffer message: varints as numbers (modulo 2^53), all else as bytes. */
function* fields(bytes: Uint8Array): Iterable<Field> {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1, count = 0; ; factor *= 128, count++) {
      const byte = bytes[at++];
      if (byte === undefined || count > 9) throw new DataError("it ends inside a number");
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  const take = (length: number) => {
    if (at + length > bytes.length) throw new DataError("it is cut off");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    switch (tag % 8) {
      case 0:
        yield { number, value: varint() };
        break;
      case 1:
        yield { number, value: take(8) };
        break;
      case 2:
        yield { number, value: take(varint()) };
        break;
      case 5:
        yield { number, value: take(4) };
        break;
      default:
        throw new DataError("it is no protocol buffer");
    }
  }
}

function message(value: number | Uint8Array): Uint8Array {
  if (typeof value === "number") throw new DataError("a message is expected where it has a number");
  return value;
}

function text(value: number | Uint8Array): string {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(message(value));
}

function float(value: number | Uint8Array): number {
  const bytes = message(value);
  if (bytes.length !== 4) throw new DataError("a score has not four bytes");
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true);
}

/** A negative int32 is written as a 64-bit varint, which `fields` rounds: far above any id. */
function signed(value: number | Uint8Array): number {
  return Number(value) >= 2 ** 31 ? -1 : Number(value);
}
