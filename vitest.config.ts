import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// A browser, a notebook or a fresh environment fills two cores by itself: those files run one at a time, after the rest.
const heavy = ["test/lab/**/*.test.ts", "test/notebooks/**/*.test.ts", "test/setup/**/*.test.ts"];

export default defineConfig({
  resolve: { alias: { aronnax: fileURLToPath(new URL("core/src/index.ts", import.meta.url)) } },
  test: {
    // Longer than a test waits for another process, 60 s: what it waited for is told first.
    testTimeout: 120_000,
    hookTimeout: 180_000,
    globalSetup: "test/support/whole-run.ts",
    projects: [
      {
        extends: true,
        test: {
          name: "parts",
          include: ["test/**/*.test.ts"],
          exclude: heavy,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: "whole",
          include: heavy,
          fileParallelism: false,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
          testTimeout: 240_000,
        },
      },
    ],
  },
});
