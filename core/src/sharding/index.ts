export { Mesh, type PartitionSpec, type Placement } from "../graph/mesh.js";
export { shard } from "./constraint.js";
export { distribute } from "./distribute.js";
export type { Layout } from "./layout.js";
export { defaultRules, type Rules } from "./rules.js";
