export {
  type Comparison,
  type SmallGradient,
  type VerifyOptions,
  type VerifyReport,
  verify,
} from "./verify.js";
