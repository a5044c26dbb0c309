/** What a saved notebook keeps of a run, and `record.json` in the run's folder. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { metrics } from "aronnax";
import { afterAll, expect, it, vi } from "vitest";

const root = mkdtempSync(join(tmpdir(), "aronnax-record-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const python = fileURLToPath(new URL("../../../.venv/bin/python", import.meta.url));

function writer(name: string, options: Partial<metrics.RunOptions> = {}): metrics.RunWriter {
  return new metrics.RunWriter({ name, root, totalSteps: 400, ...options });
}

const row = (step: number, loss: number) => ({
  step,
  tokens: step * 128,
  loss,
  learning_rate: 3e-4,
  gradient_norm: 1 / step,
  tokens_per_second: 31_000 + step,
});

/** Whether it is XML, by a parser that is not ours; the texts in it. */
function textsOf(svg: string): string[] {
  const code =
    "import sys, xml.etree.ElementTree as E; print('\\n'.join(t for t in E.fromstring(sys.stdin.read()).itertext()))";
  return execFileSync(python, ["-c", code], { input: svg, encoding: "utf8" }).split("\n");
}

it("has the last figures, the curves and the configuration", () => {
  const run = writer("whole", { config: { steps: 400, optimizer: { kind: "adamw", learningRate: 3e-4 } } });
  for (let step = 1; step <= 400; step++) run.log(row(step, 2 + 4 * Math.exp(-step / 50)));
  run.log({ step: 400, valid_loss: 2.25 });
  run.status("finished");
  const { "text/plain": text, "text/html": html, "image/svg+xml": svg } = run.savedRecord;
  expect(text).toMatch(
    /^run "whole": finished, step 400 of 400, loss 2.001, validation loss 2.25, .*tokens 51.2k, tokens\/s 31.4k/,
  );
  expect(text).toMatch(
    /configuration [0-9a-f]{12}: steps 400, optimizer.kind adamw, optimizer.learningRate 0.0003/,
  );
  expect(textsOf(svg!)).toEqual(
    expect.arrayContaining(["loss", "valid_loss", "learning rate", "gradient norm", "tokens/s"]),
  );
  expect(html).toContain("<td>400 of 400</td>");
  expect(html).not.toContain("<svg");
  const picture = /src="data:image\/svg\+xml;base64,([^"]+)"/.exec(html)![1]!;
  expect(Buffer.from(picture, "base64").toString()).toBe(svg);
  run.close();
});

it("is the same for the same configuration, whatever the order of its fields", () => {
  const digest = (config: metrics.RunOptions["config"], name: string): string => {
    const run = writer(name, { config });
    run.close();
    return /configuration (\w+)/.exec(run.savedRecord["text/plain"])![1]!;
  };
  const one = digest({ a: 1, b: { c: [1, 2], d: "x" } }, "one");
  expect(digest({ b: { d: "x", c: [1, 2] }, a: 1 }, "two")).toBe(one);
  expect(digest({ b: { d: "x", c: [2, 1] }, a: 1 }, "three")).not.toBe(one);
});

it("draws every extreme of many rows, and marks what was not finite", () => {
  const run = writer("spiky", { totalSteps: 100_000 });
  for (let step = 1; step <= 100_000; step++)
    run.log({ step, loss: step === 77_777 ? 95 : step === 5000 ? Number.NaN : 1 + 0.1 * Math.sin(step) });
  const svg = run.savedRecord["image/svg+xml"]!;
  const line = [.../d="M([^"]+)" fill="none"/.exec(svg)![1]!.split("L")].map((pair) =>
    pair.split(" ").map(Number),
  );
  expect(line.length).toBeLessThanOrEqual(2 * 180 + 2);
  const [x, y] = line.reduce((a, b) => (b[1]! < a[1]! ? b : a)) as [number, number];
  const xs = line.map((point) => point[0]!);
  const at = (x - Math.min(...xs)) / (Math.max(...xs) - Math.min(...xs));
  expect(at).toBeCloseTo(0.77777, 2);
  expect(line.filter((point) => point[1]! < y + 50)).toEqual([[x, y]]);
  expect(svg).toContain('stroke="#e5484d"');
  expect(run.savedRecord["text/plain"]).toContain("loss was not finite in 1 of 100000 rows");
  run.close();
});

it("keeps names and messages from becoming markup", () => {
  const run = writer('<img src=x onerror=alert(1)> & "quotes" \u0001', { config: { a: "</p><script>" } });
  run.log({ step: 1, "loss<b>": 1 });
  run.status("failed", "<script>alert('x')</script>");
  const { "text/html": html, "image/svg+xml": svg } = run.savedRecord;
  expect(html).not.toMatch(/<script|<img src=x/);
  expect(textsOf(svg!).join(" ")).toContain("<img src=x onerror=alert(1)>");
  run.close();
});

it("is in the folder while the run goes on, for when its process is gone, and at its end", () => {
  const run = writer("kept");
  const kept = () => JSON.parse(readFileSync(join(root, "kept", "record.json"), "utf8"));
  run.log(row(1, 3));
  run.log(row(2, 2));
  const later = Date.now() + 11_000;
  const clocks = [
    vi.spyOn(Date, "now").mockReturnValue(later),
    vi.spyOn(performance, "now").mockReturnValue(performance.now() + 11_000),
  ];
  run.flush();
  for (const clock of clocks) clock.mockRestore();
  expect(kept().id).toBe(run.id);
  expect(kept().bundle["text/plain"]).toMatch(/^run "kept": stopped: its process is gone, step/);
  expect(run.savedRecord["text/plain"]).toMatch(/^run "kept": running, step 2 of 400/);
  run.status("interrupted");
  expect(kept().bundle).toEqual(run.savedRecord);
  run.close();
  writer("kept").close();
  const [earlier] = metrics.listRuns(join(root, "kept", "earlier"));
  const before = JSON.parse(readFileSync(join(root, "kept", "earlier", earlier!, "record.json"), "utf8"));
  expect(before.id).toBe(run.id);
});

it("of a run without rows, or without the usual columns, says and draws what there is", () => {
  const empty = writer("empty");
  expect(empty.savedRecord["image/svg+xml"]).toBeUndefined();
  expect(empty.savedRecord["text/html"]).toContain("<b>empty</b>: running");
  empty.close();
  const other = writer("other");
  for (let step = 0; step < 5; step++)
    other.log({ step, wer: 1 / (step + 1), cer: Number.POSITIVE_INFINITY });
  expect(textsOf(other.savedRecord["image/svg+xml"]!)).toEqual(expect.arrayContaining(["wer", "cer"]));
  other.close();
});

it("is what a run shows in a notebook, by an id of its own and with a reference for a live panel", () => {
  const run = writer("shown");
  run.log(row(1, 3));
  const shown = run as unknown as { [key: symbol]: unknown };
  expect(shown[Symbol.for("Jupyter.displayId")]).toBe(`aronnax-run-${run.id}`);
  expect((shown[Symbol.for("Jupyter.display")] as () => object).call(run)).toMatchObject({
    ...run.savedRecord,
    "application/vnd.aronnax.run+json": {
      version: 1,
      id: run.id,
      name: "shown",
      path: join(root, "shown", "metrics.arrow"),
    },
  });
  run.close();
});
