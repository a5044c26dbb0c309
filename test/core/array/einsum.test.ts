import "../../support/runtime.js";
import type { Tensor } from "aronnax";
import * as a from "aronnax";
import { describe, expect, it } from "vitest";

/** The shapes of the products that an equation is computed with. */
function products(equation: string, ...shapes: readonly (readonly number[])[]): string[] {
  const { text } = a
    .jit((...xs: Tensor[]) => a.einsum(equation, ...xs))
    .lower(...shapes.map((shape) => a.zeros(shape)));
  return [...text.matchAll(/dot_general .* -> tensor<([\dx]*)xf32>/g)].map((m) => m[1]!);
}

describe("einsum multiplies in the order that needs the fewest multiplications", () => {
  it("from the right where the last operand is a vector", () => {
    expect(products("ij,jk,kl,l->i", [50, 60], [60, 70], [70, 80], [80])).toEqual(["70", "60", "50"]);
  });
  it("from the left where the first is", () => {
    expect(products("i,ij,jk,kl->l", [50], [50, 60], [60, 70], [70, 80])).toEqual(["60", "70", "80"]);
  });
  it("around the thin middle", () => {
    expect(products("ij,jk,kl->il", [100, 90], [90, 2], [2, 100])).toEqual(["100x2", "100x100"]);
  });
  it("and two operands as they are", () => {
    expect(products("btd,df->btf", [2, 3, 4], [4, 5])).toEqual(["2x3x5"]);
  });
});
