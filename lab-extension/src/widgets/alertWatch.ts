import type { Message } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";
import { type Alert, alertsOf, DEFAULT_RULES } from "../model/alerts.js";
import { formatDuration, formatInteger, formatValue } from "../model/format.js";
import type { Run } from "../model/run.js";
import type { ViewEnvironment } from "./environment.js";

const LOOK_MS = 2_000;

/** Watches a run, and tells in the view and beside it what the settings ask for. Each thing is told once. */
export class AlertWatch extends Widget {
  constructor(private readonly environment: ViewEnvironment) {
    super();
    this.addClass("aronnax-Alerts");
    this.node.setAttribute("role", "alert");
    this.hide();
  }

  watch(
    run: Run | undefined,
    silence: () => number,
    devices: () => readonly { readonly name: string; readonly share: number }[],
  ): void {
    this.#run = run;
    this.#silence = silence;
    this.#devices = devices;
    if (run?.id !== this.#id) {
      this.#id = run?.id;
      this.#told.clear();
      // What an ended run had is in its notices.
      this.#isNew = run?.info.status === "running";
    }
    if (run === undefined || run.version !== this.#version) {
      this.#version = run?.version;
      this.#look();
    }
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  protected override onBeforeDetach(message: Message): void {
    clearInterval(this.#timer);
    super.onBeforeDetach(message);
  }

  #look(): void {
    const run = this.#run;
    const rules = this.environment.alertRules?.() ?? DEFAULT_RULES;
    const alerts = run ? alertsOf(run, rules, this.#silence(), this.#devices()) : [];
    // That a value is not finite stands in the header already.
    const texts = alerts.filter(({ kind }) => kind !== "notFinite").map((alert) => this.#text(alert));
    if (texts.join("\n") !== this.node.textContent) {
      this.node.textContent = texts.join("\n");
    }
    this.setHidden(texts.length === 0);
    for (const alert of alerts) {
      const key =
        alert.kind === "notFinite"
          ? `${alert.column} ${alert.step}`
          : alert.kind === "memory"
            ? alert.device
            : alert.kind;
      if (!this.#told.has(key)) {
        this.#told.add(key);
        if (this.#isNew && run) {
          this.environment.notify?.(`${run.info.name}: ${this.#text(alert)}`);
        }
      }
    }
    if (!alerts.some(({ kind }) => kind === "stalled")) {
      this.#told.delete("stalled");
    }
  }

  #text(alert: Alert): string {
    const { trans } = this.environment;
    switch (alert.kind) {
      case "notFinite":
        return trans.__("%1 is %2 since step %3.", alert.column, alert.value, formatInteger(alert.step));
      case "stalled":
        return trans.__("No step for %1.", formatDuration(Math.floor(alert.seconds / 10) * 10));
      case "memory":
        return trans.__(
          "%1 of the memory of %2 is taken.",
          formatValue(alert.share, "fraction"),
          alert.device,
        );
    }
  }

  #run: Run | undefined;
  #id: string | undefined;
  #version: number | undefined;
  #isNew = false;
  #silence: () => number = () => 0;
  #devices: () => readonly { readonly name: string; readonly share: number }[] = () => [];
  #timer: ReturnType<typeof setInterval> | undefined;
  readonly #told = new Set<string>();
}
