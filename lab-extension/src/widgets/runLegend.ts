import type { TranslationBundle } from "@jupyterlab/translation";
import { Widget } from "@lumino/widgets";
import type { Run } from "../model/run.js";
import type { RunGroup } from "../model/seedAverage.js";
import { nameOf } from "../model/wording.js";
import { seriesColour } from "../painting/palette.js";

/** Which colour is which run, once for all charts. */
export class RunLegend extends Widget {
  constructor(private readonly trans: TranslationBundle) {
    super();
    this.addClass("aronnax-RunLegend");
    this.node.setAttribute("role", "list");
    this.node.setAttribute("aria-label", trans.__("Colours of the runs"));
  }

  showRuns(runs: readonly Run[], groups: readonly RunGroup[] | null, baseline: string | null): void {
    const items = groups
      ? groups.map(({ label, runs: members }) => ({
          text: this.trans._n("%2 (%1 run)", "%2 (mean of %1 runs ± σ)", members.length, label),
          isBaseline: false,
        }))
      : runs.map((run) => ({ text: nameOf(run, runs), isBaseline: run.id === baseline }));
    this.setHidden(items.length < 2);
    const key = JSON.stringify(items);
    if (key === this.#key) {
      return;
    }
    this.#key = key;
    this.node.replaceChildren(
      ...items.map(({ text, isBaseline }, colour) => {
        const item = document.createElement("span");
        item.className = "aronnax-Legend-item";
        item.setAttribute("role", "listitem");
        const swatch = document.createElement("span");
        swatch.className = "aronnax-Legend-swatch";
        swatch.style.setProperty("--aronnax-colour", seriesColour(colour));
        const name = document.createElement("span");
        name.className = "aronnax-Legend-name";
        name.textContent = isBaseline ? this.trans.__("%1 (baseline)", text) : text;
        item.append(swatch, name);
        return item;
      }),
    );
  }

  #key = "";
}
