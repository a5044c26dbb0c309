/** The measurement of the dashboard, once and small: so that it works when it is needed. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));

it("measures eight charts in a browser", { timeout: 300_000 }, async () => {
  const command = ["bench/lab/dashboard.mjs", "--rows", "300000", "--seconds", "1"];
  const { stdout } = await promisify(execFile)(process.execPath, command, { cwd: root });
  const results = JSON.parse(stdout) as Record<string, unknown>;
  expect(results.charts_drawn).toBe(8);
  expect(results.activation_ms).toBeGreaterThan(0);
  expect(results.panning).toMatchObject({ charts: 8 });
});
