/** Nodes without inputs that a program takes as arguments: a trace's parameters and arrays that live on the host. */

import type { BufferTag } from "../runtime/runtime.js";
import { TraceError } from "./errors.js";
import type { Placement } from "./mesh.js";
import type { Aval } from "./node.js";

/** The placeholder of a traced function's argument; it has a value only inside its own program. */
export const parameter = {
  name: "parameter",
  shape: (_inputs: readonly Aval[], attributes: { aval: Aval }): readonly Aval[] => [attributes.aval],
  lower(): never {
    throw new TraceError("a parameter was lowered outside its program");
  },
};

export interface HostArray {
  readonly [name: string]: unknown;
  readonly aval: Aval;
  readonly bytes: Uint8Array;
  /** What it holds, for the account of device memory. */
  readonly tag?: BufferTag;
  /** Where it is to lie on a mesh; default whole on the first device. */
  readonly placement?: Placement;
}

/** An array of the user's, uploaded when a program first needs it. */
export const hostArray = {
  name: "host_array",
  shape: (_inputs: readonly Aval[], attributes: HostArray): readonly Aval[] => [attributes.aval],
  lower(): never {
    throw new TraceError("a host array was lowered before it was uploaded");
  },
};
