export type { Constraint } from "./constraint.js";
export { Grammars } from "./grammars.js";
