import { derivative, secondDerivatives } from "../../oracle/operations.js";
import { checkProperties } from "../../oracle/properties.js";
import { operations } from "../../oracle/table.js";

for (const [name, family] of Object.entries(operations)) {
  checkProperties(
    `derivatives, ${name}`,
    family.filter((operation) => !operation.forwardOnly).map(derivative),
  );
  const second = secondDerivatives(family);
  if (second.length > 0) checkProperties(`second derivatives, ${name}`, second);
}
