/** Functions that the debugger has the notebook's thread run, as text: they see the values themselves, and nothing of this module. */

/** `(object, most)`: the object, or where it has more than `most` elements, entries or properties, one with the first of them. */
export const PART_OF = String((object: object, most: number): object => {
  const first = (items: Iterable<unknown>) => {
    const list: unknown[] = [];
    for (const item of items) {
      if (list.length >= most) break;
      list.push(item);
    }
    return list;
  };
  const part = (list: ArrayLike<unknown>, rest: object) =>
    Object.assign(Object.create(null) as object, Array.prototype.slice.call(list, 0, most), rest);
  if (Array.isArray(object) || (ArrayBuffer.isView(object) && !(object instanceof DataView))) {
    const list = object as unknown as ArrayLike<unknown>;
    return list.length > most ? part(list, { length: list.length }) : object;
  }
  if (object instanceof Map || object instanceof Set) return part(first(object), { size: object.size });
  const names = Object.getOwnPropertyNames(object);
  if (names.length <= most) return object;
  const cut = Object.create(Object.getPrototypeOf(object) as object | null) as object;
  // By their descriptors, for reading them would run getters.
  for (const name of names.slice(0, most))
    Object.defineProperty(cut, name, Object.getOwnPropertyDescriptor(object, name)!);
  return cut;
});

/** `(...objects)`: a line of text for each, of its first parts; null for one that does not let itself be looked at. */
export const TEXTS_OF = String((...objects: object[]): (string | null)[] => {
  const SHOWN = 10;
  const nameOf = (object: object) => String(object.constructor?.name || "Object");
  const brief = (value: unknown): string => {
    if (typeof value === "string")
      return JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}…` : value);
    if (typeof value === "bigint") return `${value}n`;
    if (typeof value === "function") return `ƒ ${value.name}`;
    if (typeof value !== "object" || value === null) return String(value);
    return Array.isArray(value) ? `Array(${value.length})` : nameOf(value);
  };
  const parts = <T>(items: Iterable<T>, count: number, text: (item: T) => string) => {
    const list: string[] = [];
    for (const item of items) {
      if (list.length >= SHOWN) break;
      list.push(text(item));
    }
    return (count > list.length ? [...list, "…"] : list).join(", ");
  };
  const textOf = (object: object): string => {
    if (typeof object === "function") return String(object).slice(0, 200);
    if (typeof object !== "object") return brief(object);
    if (Array.isArray(object) || (ArrayBuffer.isView(object) && !(object instanceof DataView))) {
      const list = object as unknown as unknown[];
      return `${nameOf(object)}(${list.length}) [${parts(list, list.length, brief)}]`;
    }
    if (object instanceof Map)
      return `Map(${object.size}) {${parts(object, object.size, ([key, value]) => `${brief(key)} => ${brief(value)}`)}}`;
    if (object instanceof Set) return `Set(${object.size}) {${parts(object, object.size, brief)}}`;
    if (object instanceof Error) return `${object.name}: ${object.message}`;
    if (object instanceof Date || object instanceof RegExp) return String(object);
    const names: string[] = [];
    for (const name in object) {
      if (names.length > SHOWN) break;
      if (Object.hasOwn(object, name)) names.push(name);
    }
    const ofProperty = (name: string) => {
      const { get, value } = Object.getOwnPropertyDescriptor(object, name) ?? {};
      return `${name}: ${get ? "(...)" : brief(value)}`;
    };
    return `${nameOf(object)} {${parts(names, names.length, ofProperty)}}`;
  };
  return objects.map((object) => {
    try {
      return textOf(object);
    } catch {
      return null;
    }
  });
});
