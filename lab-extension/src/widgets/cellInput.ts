import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import { Widget } from "@lumino/widgets";
import { InputLink } from "../model/inputLink.js";
import type { KernelHost } from "../model/kernelFeed.js";
import type { ViewEnvironment } from "./environment.js";
import { type InputControl, type InputModel, makeControl } from "./inputControls.js";

export const INPUT_MIME_TYPE = "application/vnd.aronnax.input+json";

/**
 * An input in a cell's output. It takes values while its kernel knows it; without that, as in a notebook that was opened
 * again, it shows the last one and why it does no more.
 */
export class CellInputOutput extends Widget implements IRenderMime.IRenderer {
  /** @param host - gives the session of the notebook; null where there is none. */
  constructor(
    private readonly host: () => KernelHost | null,
    private readonly environment: ViewEnvironment,
  ) {
    super();
    this.addClass("aronnax-CellInput");
    // The keys are the control's: arrows move the slider, not the notebook's cells. Shortcuts with Ctrl stay JupyterLab's.
    this.node.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey) {
        event.stopPropagation();
      }
    });
    this.#notice.className = "aronnax-CellInput-notice";
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const input = model.data[INPUT_MIME_TYPE] as unknown as InputModel;
    if (this.#id === input.id) {
      // The saved value has been brought up to date; a live control has it by its link.
      if (!this.#link?.isLive) {
        this.#control?.show(input.value);
      }
      return;
    }
    this.#clear();
    this.#id = input.id;
    const link = new InputLink(this.host(), input.id);
    const control = makeControl(input, this.environment.trans, (data, buffers) => link.send(data, buffers));
    if (!control) {
      link.dispose();
      this.node.textContent = String(model.data["text/plain"] ?? "");
      return;
    }
    this.#link = link;
    this.#control = control;
    this.node.replaceChildren(...control.nodes, this.#notice);
    control.show(input.value);
    link.valueChanged.connect((_, value) => control.show(value));
    link.liveChanged.connect(this.#showState, this);
    this.#showState();
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this.#clear();
    }
    super.dispose();
  }

  #clear(): void {
    this.#link?.dispose();
    this.#control?.dispose?.();
    this.#link = undefined;
    this.#control = undefined;
  }

  #showState(): void {
    const isLive = this.#link?.isLive ?? false;
    this.#control?.setEnabled(isLive);
    this.#notice.textContent = isLive ? "" : this.environment.trans.__("Run the cell to use this.");
  }

  #id: string | undefined;
  #link: InputLink | undefined;
  #control: InputControl | undefined;
  readonly #notice = document.createElement("span");
}
