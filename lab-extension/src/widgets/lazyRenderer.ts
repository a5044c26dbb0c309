import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import { Panel } from "@lumino/widgets";

/** A renderer whose code is loaded with the first output that it draws, not with JupyterLab. */
export class LazyRenderer extends Panel implements IRenderMime.IRenderer {
  constructor(private readonly load: () => Promise<IRenderMime.IRenderer>) {
    super();
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this.#renderer ??= this.load();
    const renderer = await this.#renderer;
    if (this.isDisposed) {
      renderer.dispose();
      return;
    }
    if (renderer.parent !== this) {
      this.addWidget(renderer);
    }
    await renderer.renderModel(model);
  }

  #renderer: Promise<IRenderMime.IRenderer> | undefined;
}
