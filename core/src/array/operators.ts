/** JavaScript's operators know nothing of Tensors: they throw with the method's name, where they would give NaN, text or a branch taken silently. */
import { ArgumentError } from "../graph/errors.js";
import { Value } from "../graph/node.js";
import { Tensor } from "./tensor.js";

/** The number or text that an operator asks an object for. Text is as it was: `${x}`. */
function toPrimitive(this: Tensor, hint: "default" | "number" | "string"): string {
  if (hint === "string") return this.toString();
  throw hint === "default"
    ? new ArgumentError(
        `+ or == on ${this}: JavaScript's operators do not compute with Tensors`,
        `use x.add(y) or x.equal(y); text is made with \`\${x}\``,
      )
    : new ArgumentError(
        `an operator or function of JavaScript's numbers on ${this}`,
        "use the methods: x.mul(y) for *, x.sub(y) for -, x.div(y) for /, x.mod(y) for %, x.pow(y) for **, x.neg() for -x, x.less(y) and " +
          "x.greater(y) for < and >, x.exp() for Math.exp; a branch takes where(), cond() or, outside of traced functions, await x.item()",
      );
}

function iterator(this: Tensor): never {
  throw new ArgumentError(
    `iteration over ${this}`,
    "take its rows with x.split(n), or map over them with vmap() or scan(); its numbers come with await x.array()",
  );
}

const integer = /^-?\d+$/;

/** What Tensors inherit from beyond their classes: catches `x[0]` and `x[0] = 1`. */
const beyond = new Proxy(Object.prototype, {
  get(target, key, receiver) {
    if (typeof key !== "string" || !integer.test(key) || !(receiver instanceof Tensor))
      return Reflect.get(target, key, receiver) as unknown;
    throw new ArgumentError(
      `[${key}] of ${receiver}`,
      `use x.slice(${key}) for a part; its numbers come with await x.array()`,
    );
  },
  set(target, key, value, receiver) {
    if (typeof key !== "string" || !integer.test(key) || !(receiver instanceof Tensor))
      return Reflect.set(target, key, value, receiver);
    throw new ArgumentError(
      `[${key}] of ${receiver} was assigned`,
      `Tensors do not change: x.at(${key}).set(v) gives a new one`,
    );
  },
});

for (const [key, value] of [
  [Symbol.toPrimitive, toPrimitive],
  [Symbol.iterator, iterator],
] as const) {
  Object.defineProperty(Tensor.prototype, key, { configurable: true, writable: true, value });
}
Object.setPrototypeOf(Value.prototype, beyond);
