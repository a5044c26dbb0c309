import { createHmac, randomUUID, timingSafeEqual } from "node:crypto";

/** A JSON object as it stands in a message. */
export type Json = { [key: string]: unknown };

export interface Header {
  msg_id: string;
  msg_type: string;
  session: string;
  username: string;
  date: string;
  version: string;
}

/** One Jupyter message; `identities` are the ZeroMQ routing frames in front of the delimiter. */
export interface Message {
  identities: Uint8Array[];
  header: Header;
  parent: Partial<Header>;
  metadata: Json;
  content: Json;
  buffers: Uint8Array[];
}

export const PROTOCOL_VERSION = "5.4";

const DELIMITER = Buffer.from("<IDS|MSG>");

export class WireError extends Error {
  override name = "WireError";
}

/**
 * Encodes, signs, verifies and decodes messages ("The wire protocol" of the Jupyter messaging specification).
 * The signature covers exactly the four JSON frames, never the buffers.
 */
export class WireFormat {
  readonly session = randomUUID();
  readonly #key: string;
  readonly #hash: string;
  readonly #seen = new Set<string>();

  constructor(key: string, signatureScheme: string) {
    this.#key = key;
    this.#hash = signatureScheme.replace(/^hmac-/, "");
  }

  header(type: string): Header {
    return {
      msg_id: randomUUID(),
      msg_type: type,
      session: this.session,
      username: "kernel",
      date: new Date().toISOString(),
      version: PROTOCOL_VERSION,
    };
  }

  encode(message: Message): (Uint8Array | string)[] {
    const frames = [message.header, message.parent, message.metadata, message.content].map((part) =>
      Buffer.from(wellFormed(JSON.stringify(part))),
    );
    return [...message.identities, DELIMITER, this.#sign(frames), ...frames, ...message.buffers];
  }

  /** Throws a `WireError` for a frame list that is not a message, is wrongly signed, or was seen before. */
  decode(frames: Buffer[]): Message {
    const at = frames.findIndex((frame) => frame.equals(DELIMITER));
    if (at < 0) throw new WireError("no <IDS|MSG> delimiter among the frames");
    if (frames.length < at + 6) {
      throw new WireError(`${frames.length - at - 1} frames after the delimiter, at least 5 are needed`);
    }
    const signature = frames[at + 1]!;
    const json = frames.slice(at + 2, at + 6);
    if (this.#key !== "") {
      const wanted = Buffer.from(this.#sign(json));
      if (signature.length !== wanted.length || !timingSafeEqual(signature, wanted)) {
        throw new WireError("the HMAC signature does not match");
      }
      const text = signature.toString();
      if (this.#seen.has(text)) throw new WireError("the same signed message came twice");
      this.#remember(text);
    }
    const [header, parent, metadata, content] = json.map((frame) => parseObject(frame));
    if (typeof header!.msg_type !== "string" || typeof header!.msg_id !== "string") {
      throw new WireError("the header has no msg_type or no msg_id");
    }
    return {
      identities: frames.slice(0, at),
      header: header as unknown as Header,
      parent: parent as Partial<Header>,
      metadata: metadata!,
      content: content!,
      buffers: frames.slice(at + 6),
    };
  }

  #sign(frames: Uint8Array[]): string {
    if (this.#key === "") return "";
    const hmac = createHmac(this.#hash, this.#key);
    for (const frame of frames) hmac.update(frame);
    return hmac.digest("hex");
  }

  #remember(signature: string): void {
    this.#seen.add(signature);
    if (this.#seen.size > 65_536) {
      for (const old of this.#seen) {
        this.#seen.delete(old);
        if (this.#seen.size <= 32_768) break;
      }
    }
  }
}

/**
 * JSON without the halves of surrogate pairs that JavaScript's strings may have, which `JSON.stringify` writes as escapes:
 * they are no Unicode, and a notebook that holds one cannot be saved.
 */
function wellFormed(json: string): string {
  if (!json.includes("\\ud")) return json;
  return json.replace(/\\(?:ud[89a-f][0-9a-f]{2}|.)/g, (part) => (part.startsWith("\\ud") ? "\ufffd" : part));
}

function parseObject(frame: Buffer): Json {
  let value: unknown;
  try {
    value = JSON.parse(frame.toString());
  } catch {
    throw new WireError("a message part is not JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new WireError("a message part is not a JSON object");
  }
  return value as Json;
}
