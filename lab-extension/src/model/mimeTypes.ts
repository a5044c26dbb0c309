/** A training run in a cell's output (docs/contracts.md §4). */
export const RUN_MIME_TYPE = "application/vnd.aronnax.run+json";
