import { derivative, secondDerivative } from "../../oracle/operations.js";
import { checkProperties } from "../../oracle/properties.js";
import { operations } from "../../oracle/table.js";

for (const [name, family] of Object.entries(operations)) {
  const smooth = family.filter((operation) => !operation.forwardOnly);
  checkProperties(`derivatives, ${name}`, smooth.map(derivative));
  const curved = smooth
    .filter((operation) => !operation.firstOnly)
    .map((operation) => ({ ...operation, runs: 1 }));
  if (curved.length > 0) checkProperties(`second derivatives, ${name}`, curved.map(secondDerivative));
}
