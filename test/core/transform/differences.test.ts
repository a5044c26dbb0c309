import { linear } from "../../oracle/linear.js";
import { vocabulary } from "../../oracle/numpy.js";
import { finiteDifferences } from "../../oracle/operations.js";
import { checkProperties } from "../../oracle/properties.js";
import { operations } from "../../oracle/table.js";
import { windows } from "../../oracle/windows.js";

for (const [name, family] of Object.entries({ ...operations, windows, linear, vocabulary }))
  checkProperties(`derivatives against differences, ${name}`, finiteDifferences(family));
