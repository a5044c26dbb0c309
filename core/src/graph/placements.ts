/** Where a program's outputs lie on a mesh, from where its parameters lie. */
import { isReplicated, type Placement } from "./mesh.js";
import { type Graph, reachable, type Value } from "./node.js";

/**
 * The placement of each output that follows from the graph alone, so that it is known before the compiler has decided anything: what an
 * operation says of its output, else that of the first input of the same shape that is split. The others are undefined. A step of an
 * optimizer thus leaves parameters and states where they were.
 */
export function propagate(
  { parameters, outputs }: Graph,
  given: readonly (Placement | undefined)[],
): (Placement | undefined)[] {
  const places = new Map<string, Placement | undefined>();
  const keyOf = (value: Value): string => `${value.node.id}.${value.index}`;
  for (const [i, p] of parameters.entries()) places.set(keyOf(p), given[i]);
  for (const { primitive, attributes, inputs, outputs: results } of reachable(outputs, (value) =>
    places.has(keyOf(value)),
  )) {
    const said = primitive.placement?.(attributes);
    for (const result of results) {
      places.set(keyOf(result), said ?? inherited(result, inputs, places, keyOf));
    }
  }
  return outputs.map((value) => places.get(keyOf(value)));
}

function inherited(
  result: Value,
  inputs: readonly Value[],
  places: ReadonlyMap<string, Placement | undefined>,
  keyOf: (value: Value) => string,
): Placement | undefined {
  for (const input of inputs) {
    const place = places.get(keyOf(input));
    if (place === undefined || isReplicated(place)) continue;
    if (input.shape.length === result.shape.length && input.shape.every((n, i) => n === result.shape[i])) {
      return place;
    }
  }
  return undefined;
}
