import { forward } from "../../oracle/operations.js";
import { checkProperties } from "../../oracle/properties.js";
import { operations } from "../../oracle/table.js";

for (const family of ["shaping", "reduced", "contraction", "indexing"] as const) {
  checkProperties(family, operations[family].map(forward));
}
