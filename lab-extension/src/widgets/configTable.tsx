import type { TranslationBundle } from "@jupyterlab/translation";
import { ReactWidget } from "@jupyterlab/ui-components";
import { useState } from "react";
import { configOf, configText, differingKeys, keysOf } from "../model/config.js";
import type { RunEntry } from "../model/source.js";

interface ConfigTableProps {
  readonly entries: readonly RunEntry[];
  readonly trans: TranslationBundle;
}

function ConfigTable({ entries, trans }: ConfigTableProps): JSX.Element {
  const [onlyDifferent, setOnlyDifferent] = useState(false);
  const [query, setQuery] = useState("");
  const differing = new Set(entries.length > 1 ? differingKeys(entries) : []);
  const keys = keysOf(entries).filter(
    (key) =>
      (!onlyDifferent || differing.has(key)) &&
      (query === "" ||
        `${key} ${entries.map((entry) => configText(configOf(entry).get(key))).join(" ")}`
          .toLowerCase()
          .includes(query.toLowerCase())),
  );
  if (keysOf(entries).length === 0) {
    return <p className="aronnax-Empty">{trans.__("The run tells no configuration.")}</p>;
  }
  return (
    <>
      <div className="aronnax-Config-tools">
        <input
          type="search"
          className="aronnax-Input"
          value={query}
          aria-label={trans.__("Search the configuration")}
          placeholder={trans.__("Search")}
          onChange={(event) => setQuery(event.currentTarget.value)}
        />
        {entries.length > 1 ? (
          <label className="aronnax-Control">
            <input
              type="checkbox"
              checked={onlyDifferent}
              onChange={(event) => setOnlyDifferent(event.currentTarget.checked)}
            />
            <span>{trans.__("Only what differs")}</span>
          </label>
        ) : null}
      </div>
      <section
        className="aronnax-TableFrame"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keys
        tabIndex={0}
        aria-label={trans.__("Configuration")}
      >
        <table className="aronnax-Table">
          <thead>
            <tr>
              <th scope="col">{trans.__("Parameter")}</th>
              {entries.map((entry) => (
                <th key={entry.id} scope="col">
                  {entry.name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {keys.map((key) => (
              <tr key={key} data-key={key} data-differs={differing.has(key) ? true : undefined}>
                <th scope="row">{key}</th>
                {entries.map((entry) => (
                  <td key={entry.id}>{configText(configOf(entry).get(key))}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </section>
    </>
  );
}

/** The configuration of the runs on display, side by side. */
export class ConfigTableWidget extends ReactWidget {
  constructor(private readonly trans: TranslationBundle) {
    super();
    this.addClass("aronnax-Config");
  }

  showRuns(entries: readonly RunEntry[]): void {
    const changed =
      entries.length !== this.#entries.length ||
      entries.some((entry, i) => {
        const before = this.#entries[i]!;
        return entry.id !== before.id || entry.config !== before.config || entry.name !== before.name;
      });
    if (changed || !this.#isShown) {
      this.#isShown = true;
      this.#entries = entries;
      this.update();
    }
  }

  protected override render(): JSX.Element | null {
    return this.#isShown ? <ConfigTable entries={this.#entries} trans={this.trans} /> : null;
  }

  #entries: readonly RunEntry[] = [];
  #isShown = false;
}
