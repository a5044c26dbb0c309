/** What a kernel offers to long work (docs/contracts.md, section 3), for a test that interrupts. */
export function interruptible() {
  const name = Symbol.for("aronnax.interrupt");
  const controller = new AbortController();
  const state = { observers: 0 };
  Object.defineProperty(globalThis, name, {
    configurable: true,
    value: {
      signal: controller.signal,
      observe: () => {
        state.observers++;
        return () => void state.observers--;
      },
    },
  });
  return {
    get observers() {
      return state.observers;
    },
    interrupt: () => controller.abort(),
    end: () => Reflect.deleteProperty(globalThis, name),
  };
}
