import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KernelClient } from "./client.js";

let kernel: KernelClient;
beforeAll(async () => {
  kernel = await KernelClient.start();
});
afterAll(() => kernel.stop());

describe("display", () => {
  it("takes bundles from Symbol.for('Jupyter.display'), sync and async", async () => {
    const value = (async_: boolean) =>
      `({ ${async_ ? "async " : ""}[Symbol.for("Jupyter.display")]() { return { "text/html": "<b>x</b>" }; } })`;
    for (const isAsync of [false, true]) {
      const { result } = await kernel.execute(value(isAsync));
      expect(result).toEqual({ "text/html": "<b>x</b>", "text/plain": "Object" });
    }
  });

  it("is not shown a second time as the value of its cell", async () => {
    const { displays, result } = await kernel.execute("display(5)");
    expect([displays.length, result]).toEqual([1, undefined]);
  });

  it("updates an output in place by its id", async () => {
    const { displays, iopub } = await kernel.execute(
      "const shown = display({ 'text/markdown': '*a*' }, { raw: true, id: 'mine' });\nshown.update({ 'text/markdown': '*b*' }, { raw: true })",
    );
    expect(displays).toEqual([
      { data: { "text/markdown": "*a*" }, metadata: {}, transient: { display_id: "mine" } },
    ]);
    const update = iopub.find((m) => m.header.msg_type === "update_display_data")!;
    expect(update.content).toEqual({
      data: { "text/markdown": "*b*" },
      metadata: {},
      transient: { display_id: "mine" },
    });
  });

  it("keeps the order of displays whose bundles take time, and waits for them", async () => {
    const { displays } = await kernel.execute(
      "const slow = { [Symbol.for('Jupyter.display')]: () => new Promise((done) => setTimeout(() => done({ 'text/plain': 'slow' }), 60)) };\ndisplay(slow); display('fast');",
    );
    expect(displays.map((d) => (d.data as Record<string, string>)["text/plain"])).toEqual(["slow", "'fast'"]);
  });

  it("shows Arrow tables as tables and image bytes as images", async () => {
    const { result } = await kernel.execute(
      "import { tableFromArrays } from 'apache-arrow';\ntableFromArrays({ loss: [0.5, 0.25] })",
    );
    expect(result!["text/html"]).toContain("<td>0.25</td>");
    expect(result!["text/plain"]).toBe("Table of 2 rows (loss: Float64)");
    const png = await kernel.execute("new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 1])");
    expect(png.result!["image/png"]).toBe(
      Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 1]).toString("base64"),
    );
  });

  it("shows data frames of other libraries, and records on request, as tables", async () => {
    // As nodejs-polars, Arquero and Danfo present themselves.
    const frames: Record<string, string> = {
      polars:
        "({ schema: { loss: 'Float64' }, height: 30, head(n: number) { return { toRecords: () => Array.from({ length: n }, (_, i) => ({ loss: i / 2 })) }; }, toRecords() { throw new Error('all'); } })",
      arquero:
        "({ columnNames: () => ['loss'], numRows: () => 30, objects: ({ limit }: { limit: number }) => Array.from({ length: limit }, (_, i) => ({ loss: i / 2 })) })",
      danfo:
        "({ $data: [], columns: ['loss'], ctypes: { values: ['float32'] }, values: Array.from({ length: 30 }, (_, i) => [i / 2]) })",
      records: "jupyter.table(Array.from({ length: 30 }, (_, i) => ({ loss: i / 2 })))",
    };
    for (const [library, code] of Object.entries(frames)) {
      const { result } = await kernel.execute(code);
      expect([library, String(result!["text/html"])]).toEqual([
        library,
        expect.stringContaining("<td>9.5</td>"),
      ]);
      expect(result!["text/html"]).not.toContain("<td>10</td>");
      expect(result!["text/plain"]).toMatch(/^Table of 30 rows \(loss/);
    }
    const { result } = await kernel.execute("jupyter.table([{ a: '<b>', b: [1, { c: 2 }] }, { d: null }])");
    expect(result!["text/html"]).toContain("<td>&#60;b&#62;</td><td>[ 1, { c: 2 } ]</td><td></td>");
  });

  it("shows maps, typed arrays and class instances as text", async () => {
    const plainOf = async (code: string) => (await kernel.execute(code)).result!["text/plain"];
    expect(await plainOf("new Map([['a', 1]])")).toBe("Map(1) { 'a' => 1 }");
    expect(await plainOf("new Float32Array([1, 2])")).toBe("Float32Array(2) [ 1, 2 ]");
    expect(await plainOf("class Dog { name = 'Rex' }\nnew Dog()")).toBe("Dog { name: 'Rex' }");
  });

  it("clears outputs", async () => {
    const { iopub } = await kernel.execute("console.log('gone'); jupyter.clearOutput({ wait: true })");
    expect(iopub.find((m) => m.header.msg_type === "clear_output")?.content).toEqual({ wait: true });
  });
});

describe("display helpers", () => {
  it("make HTML, Markdown, LaTeX, SVG, JSON, Plotly, Vega and image values", async () => {
    const types: Record<string, string> = {
      "jupyter.html('<i>a</i>')": "text/html",
      "jupyter.markdown('*a*')": "text/markdown",
      "jupyter.latex('$x$')": "text/latex",
      "jupyter.svg('<svg/>')": "image/svg+xml",
      "jupyter.json({ a: 1 })": "application/json",
      "jupyter.plotly({ data: [], layout: {} })": "application/vnd.plotly.v1+json",
      "jupyter.vegaLite({ mark: 'point' })": "application/vnd.vegalite.v5+json",
      "jupyter.png(new Uint8Array([1]))": "image/png",
    };
    for (const [code, type] of Object.entries(types)) {
      const { result, error } = await kernel.execute(code);
      expect([code, Object.keys(result ?? {}), error]).toEqual([code, [type, "text/plain"], undefined]);
    }
    expect((await kernel.execute("jupyter.json({ a: [1] })")).result!["application/json"]).toEqual({
      a: [1],
    });
  });

  it("draw a progress bar in place, at most ten times a second", async () => {
    const started = performance.now();
    const { displays, iopub, stdout } = await kernel.execute(
      "let sum = 0;\nfor (const n of jupyter.progress([1, 2, 3, 4], 'steps')) { sum += n; await new Promise((go) => setTimeout(go, 30)); }\nconsole.log(sum)",
    );
    expect(stdout).toBe("10\n");
    expect(displays.length).toBe(1);
    const updates = iopub.filter((m) => m.header.msg_type === "update_display_data").map((m) => m.content);
    expect(updates.length).toBeGreaterThan(0);
    expect(updates.length).toBeLessThanOrEqual((performance.now() - started) / 100 + 2);
    expect((updates.at(-1)!.data as Record<string, string>)["text/plain"]).toContain("4/4 100%");
    expect(updates.at(-1)!.transient).toEqual(displays[0]!.transient);
  });

  it("come from tslab's module too, for notebooks written for it", async () => {
    const { displays, iopub } = await kernel.execute(
      "import * as tslab from 'tslab';\ntslab.display.html('<b>x</b>');\nconst slot = tslab.newDisplay();\nslot.markdown('1');\nslot.markdown('2');\ntslab.display.raw('text/plain', 'raw');\ntslab.display.png(new Uint8Array([1, 2]));",
    );
    expect(displays.map((d) => Object.keys(d.data as object)[0])).toEqual([
      "text/html",
      "text/markdown",
      "text/plain",
      "image/png",
    ]);
    const update = iopub.find((m) => m.header.msg_type === "update_display_data");
    expect(update?.content).toMatchObject({
      data: { "text/markdown": "2" },
      transient: displays[1]!.transient,
    });
    expect((await kernel.execute("require('tslab').display === tslab.display")).result).toEqual({
      "text/plain": "true",
    });
  });

  it("are updated by an id of their own, also as a cell's value", async () => {
    const { displays, result } = await kernel.execute(
      "let state = 'begun';\nconst shown = { [Symbol.for('Jupyter.displayId')]: 'my-id', [Symbol.for('Jupyter.display')]: () => ({ 'text/plain': state }) };\nshown",
    );
    expect(result).toBeUndefined();
    expect(displays).toMatchObject([{ data: { "text/plain": "begun" }, transient: { display_id: "my-id" } }]);
    const { iopub } = await kernel.execute("state = 'ended'; display(shown, { update: true });");
    const update = iopub.find((m) => m.header.msg_type === "update_display_data");
    expect(update?.content).toMatchObject({
      data: { "text/plain": "ended" },
      transient: { display_id: "my-id" },
    });
  });
});
