import type { TranslationBundle } from "@jupyterlab/translation";
import type { JSONObject, JSONValue } from "@lumino/coreutils";
import { MicrophoneProblem, MicrophoneRecording } from "./microphone.js";

/** What an input's MIME bundle says (docs/contracts.md §4). */
export interface InputModel {
  readonly id: string;
  readonly kind: string;
  readonly label: string;
  readonly value: JSONValue;
  readonly min?: number;
  readonly max?: number;
  readonly step?: number;
  readonly options?: readonly string[];
  readonly placeholder?: string;
  readonly multiline?: boolean;
}

/** A control drawn: its elements, and how a value of the kernel gets into it. */
export interface InputControl {
  readonly nodes: readonly HTMLElement[];
  show(value: JSONValue): void;
  setEnabled(isEnabled: boolean): void;
  dispose?(): void;
}

/** How a control gives what the user did to the kernel. */
export type Give = (data: JSONObject, buffers?: ArrayBuffer[]) => void;

let made = 0;

/** The control of an input; null for a kind that this extension does not know. */
export function makeControl(model: InputModel, trans: TranslationBundle, give: Give): InputControl | null {
  switch (model.kind) {
    case "slider":
      return slider(model, give);
    case "choice":
      return choice(model, give);
    case "button":
      return button(model, give);
    case "text":
      return text(model, give);
    case "microphone":
      return microphone(model, trans, give);
    default:
      return null;
  }
}

function slider({ label, min = 0, max = 1, step }: InputModel, give: Give): InputControl {
  const range = document.createElement("input");
  range.type = "range";
  range.min = String(min);
  range.max = String(max);
  range.step = String(step ?? "any");
  const output = document.createElement("output");
  output.htmlFor.add(identify(range));
  const say = () => {
    output.textContent = range.value;
    range.setAttribute("aria-valuetext", range.value);
  };
  range.addEventListener("input", () => {
    say();
    give({ type: "set", value: range.valueAsNumber });
  });
  return {
    nodes: [labelOf(range, label), range, output],
    show: (value) => {
      range.valueAsNumber = Number(value);
      say();
    },
    setEnabled: (isEnabled) => {
      range.disabled = !isEnabled;
    },
  };
}

function choice({ label, options = [] }: InputModel, give: Give): InputControl {
  const select = document.createElement("select");
  for (const [index, name] of options.entries()) {
    select.add(new Option(name, String(index)));
  }
  select.addEventListener("change", () => give({ type: "set", value: select.selectedIndex }));
  return {
    nodes: [labelOf(select, label), select],
    show: (value) => {
      select.selectedIndex = Number(value);
    },
    setEnabled: (isEnabled) => {
      select.disabled = !isEnabled;
    },
  };
}

function button({ label }: InputModel, give: Give): InputControl {
  const node = document.createElement("button");
  node.type = "button";
  node.className = "jp-mod-styled";
  node.textContent = label;
  node.addEventListener("click", () => give({ type: "set" }));
  return {
    nodes: [node],
    show: () => undefined,
    setEnabled: (isEnabled) => {
      node.disabled = !isEnabled;
    },
  };
}

/** A line goes to the kernel with Enter or when it is left, a text of many lines when it is left or with Ctrl+Enter. */
function text({ label, placeholder = "", multiline }: InputModel, give: Give): InputControl {
  const field = document.createElement(multiline ? "textarea" : "input");
  field.placeholder = placeholder;
  field.className = "jp-mod-styled";
  let given = "";
  const send = () => {
    if (field.value !== given) {
      given = field.value;
      give({ type: "set", value: given });
    }
  };
  field.addEventListener("change", send);
  field.addEventListener("keydown", (event) => {
    const { key, ctrlKey, metaKey } = event as KeyboardEvent;
    if (key === "Enter" && (!multiline || ctrlKey || metaKey)) {
      event.preventDefault();
      send();
    }
  });
  return {
    nodes: [labelOf(field, label), field],
    show: (value) => {
      const isUnsent = document.activeElement === field && field.value !== given;
      given = String(value);
      // What the user is typing is not taken away.
      if (!isUnsent) {
        field.value = given;
      }
    },
    setEnabled: (isEnabled) => {
      field.disabled = !isEnabled;
    },
  };
}

/** Bytes in one message: the server limits them. */
const PART_BYTES = 1 << 20;

function microphone({ label }: InputModel, trans: TranslationBundle, give: Give): InputControl {
  const node = document.createElement("button");
  node.type = "button";
  node.className = "jp-mod-styled";
  const status = document.createElement("span");
  status.setAttribute("role", "status");
  let recording: MicrophoneRecording | null = null;
  let isBusy = false;
  const draw = () => {
    node.textContent = recording ? trans.__("Stop") : trans.__("Record");
    node.setAttribute("aria-pressed", String(recording !== null));
  };
  const toggle = async () => {
    if (!recording) {
      recording = await MicrophoneRecording.start();
      status.textContent = trans.__("Recording…");
      return;
    }
    const ending = recording;
    recording = null;
    status.textContent = trans.__("Sending…");
    const { samples, sampleRate } = await ending.stop();
    const bytes = samples.buffer;
    const count = Math.max(1, Math.ceil(bytes.byteLength / PART_BYTES));
    for (let index = 0; index < count; index++) {
      give({ type: "recording", index, count, sampleRate }, [
        bytes.slice(index * PART_BYTES, (index + 1) * PART_BYTES),
      ]);
    }
    status.textContent = trans.__("%1 s recorded", (samples.length / sampleRate).toFixed(1));
  };
  node.addEventListener("click", () => {
    if (isBusy) {
      return;
    }
    isBusy = true;
    toggle()
      .catch((error: unknown) => {
        const reason = error instanceof Error ? error.message : String(error);
        status.textContent = trans.__("Nothing was recorded: %1.", reason);
        give({ type: "problem", name: error instanceof MicrophoneProblem ? error.name : "Error", reason });
      })
      .finally(() => {
        isBusy = false;
        draw();
      });
  });
  draw();
  return {
    nodes: [labelOf(node, label), node, status],
    show: (value) => {
      if (typeof value === "number" && !recording) {
        status.textContent = trans.__("%1 s recorded", value.toFixed(1));
      }
    },
    setEnabled: (isEnabled) => {
      node.disabled = !isEnabled;
    },
    dispose: () => recording?.cancel(),
  };
}

function identify(node: HTMLElement): string {
  made += 1;
  node.id = `aronnax-input-${made}`;
  return node.id;
}

/** Without words, the control still has a name for screen readers. */
function labelOf(control: HTMLElement, label: string): HTMLElement {
  const node = document.createElement("label");
  node.htmlFor = control.id || identify(control);
  node.textContent = label;
  if (label === "") {
    control.setAttribute("aria-label", control.tagName.toLowerCase());
  }
  return node;
}
