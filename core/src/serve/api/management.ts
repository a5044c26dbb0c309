/** NIM's management endpoints. */
import { readFileSync } from "node:fs";
import { HttpError } from "./errors.js";
import type { Exchange } from "./service.js";
import { Text } from "./text.js";

const { version, license } = JSON.parse(
  readFileSync(new URL("../../../package.json", import.meta.url), "utf8"),
) as { version: string; license: string };

export function health(status: string) {
  return { object: "health.response", message: `Service is ${status}.`, status };
}

export function ready({ service }: Exchange) {
  if (!service.ready) throw new HttpError(503, "The service is not ready.", { retryAfter: 1 });
  return health("ready");
}

export function versions() {
  return { release: version, api: version };
}

/** Of the service; a model's own licence is in its folder. */
export function licence() {
  const content = `Aronnax is licensed under ${license}. A model has a licence of its own.`;
  return { name: license, path: "LICENSE", size: content.length, url: "", type: "text", content };
}

export function metadata({ service }: Exchange) {
  return {
    version,
    assetInfo: [],
    licenseInfo: licence(),
    modelInfo: service.models.map(({ name }) => ({ shortName: name, modelUrl: "" })),
    repository_override: "",
    selectedModelProfileId: "",
  };
}

export function manifest({ service }: Exchange) {
  const models = service.models.map(({ name, engine }) => ({
    name,
    context: engine.context,
    adapters: engine.adapters(),
  }));
  return { manifest_file: JSON.stringify({ version, models }), repository_override: "" };
}

export async function metrics({ service }: Exchange) {
  const { registry } = service.metrics;
  return new Text(await registry.metrics(), registry.contentType);
}
