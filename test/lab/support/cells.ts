/** Cells that publish runs as a trainer does (docs/contracts.md §2), without the time that training takes. */

export interface FakeFit {
  readonly id: string;
  readonly name?: string;
  readonly from?: number;
  readonly to: number;
  readonly totalSteps?: number;
  /** Milliseconds a step. */
  readonly pace?: number;
  /** Ends the run with this status; without one it goes on. */
  readonly status?: "finished" | "interrupted" | "failed";
}

/** A cell that trains: `loss` falls as 2 + 4 exp(-step / 100). */
export function fitCell({ id, name = id, from = 1, to, totalSteps = to, pace = 0, status }: FakeFit): string {
  return `
const hub = (globalThis as any)[Symbol.for("aronnax.metrics")];
hub.publish({ type: "start", id: ${JSON.stringify(id)}, name: ${JSON.stringify(name)}, startedAt: Date.now(), totalSteps: ${totalSteps} });
for (let step = ${from}; step <= ${to}; step++) {
  const row: Record<string, number> = {
    step, time: step * 0.05, tokens: step * 2048, loss: 2 + 4 * Math.exp(-step / 100) + 0.1 * Math.sin(step * 7),
    learning_rate: 3e-4 * Math.min(1, step / 20), gradient_norm: 1 + 2 / step, tokens_per_second: 40000 + 900 * Math.sin(step),
    step_seconds: 0.05, memory_parameters: 4.2e6, memory_optimizer: 8.4e6, memory_data: 6e5, memory_total: 15.5e6,
  };
  if (step % 25 === 0) row.valid_loss = 2.1 + 4 * Math.exp(-step / 100);
  hub.publish({ type: "rows", id: ${JSON.stringify(id)}, rows: [row] });
  ${pace > 0 ? `await new Promise((resolve) => setTimeout(resolve, ${pace}));` : ""}
}
${status ? `hub.publish({ type: "status", id: ${JSON.stringify(id)}, status: "${status}" });` : ""}
"done"`.trim();
}

/** A cell whose value is the run's display, as a trainer's is. */
export function displayCell(id: string, name: string): string {
  return `({ [Symbol.for("Jupyter.display")]: () => ({
  "application/vnd.aronnax.run+json": { version: 1, id: ${JSON.stringify(id)}, name: ${JSON.stringify(name)}, path: "runs/${name}/metrics.arrow" },
  "text/html": "<b>run ${name}</b>",
  "text/plain": "run ${name}, at step 0",
}) })`;
}
