import { randomUUID } from "node:crypto";
import type { Displays } from "./displays.js";
import { rich } from "./rich.js";

/** The public module of tslab 1.0, so that notebooks written for it run: `import * as tslab from "tslab"`. */
export function tslabModule(displays: Displays): object {
  const makeDisplay = (id?: string) => {
    let shown = false;
    const show = (value: unknown, raw = false) => {
      displays.display(value, { ...(id === undefined ? {} : { id, update: shown }), raw });
      shown = true;
    };
    const { javascript, html, markdown, latex, svg, png, jpeg, gif, pdf } = rich;
    const makers = { javascript, html, markdown, latex, svg, png, jpeg, gif, pdf };
    const methods = Object.fromEntries(
      Object.entries(makers).map(([name, make]) => [name, (content: never) => show(make(content))]),
    );
    return {
      ...methods,
      text: (content: string) => show({ "text/plain": content }, true),
      raw: (type: string, content: string | Uint8Array) => show({ [type]: content }, true),
    };
  };
  return {
    display: makeDisplay(),
    newDisplay: () => makeDisplay(randomUUID()),
    versions: { tslab: "1.0.22", typescript: "7.0.2", node: process.version },
  };
}
