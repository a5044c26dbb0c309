import type { Run } from "../model/run.js";

/** The rows of a run as a Parquet file of nullable doubles, its description in the file's metadata under `aronnax.run`. */
export async function toParquet(run: Run): Promise<ArrayBuffer> {
  // Loaded with the first export.
  const { parquetWriteBuffer } = await import("hyparquet-writer");
  const { id, name, startedAt, totalSteps, config, status } = run.info;
  return parquetWriteBuffer({
    columnData: run.columns.map((column) => {
      const series = run.series(column)!;
      const isWhole = series.length === run.rowCount;
      let data: Float64Array | (number | null)[] = series.values;
      if (!isWhole) {
        data = new Array<number | null>(run.rowCount).fill(null);
        const { values } = series;
        for (let i = 0; i < values.length; i++) {
          data[series.rowOf(i)] = values[i]!;
        }
      }
      return { name: column, data, type: "DOUBLE" as const, nullable: !isWhole };
    }),
    kvMetadata: [
      { key: "aronnax.run", value: JSON.stringify({ id, name, startedAt, totalSteps, status, config }) },
    ],
  });
}
