/** Device meshes and how arrays lie on them, with their text in Shardy's dialect. */
import type { Sharding } from "../runtime/types.js";
import { ArgumentError, ShapeError } from "./errors.js";
import type { Aval } from "./node.js";

/** For each dimension the mesh axes that split it, outermost first, or null; missing trailing dimensions are not split. */
export type PartitionSpec = readonly (string | readonly string[] | null)[];

/** A mesh and the axes that split each dimension of an array. */
export interface Placement {
  readonly mesh: Mesh;
  /** One entry a dimension. */
  readonly spec: readonly (readonly string[])[];
}

/**
 * Devices in a grid with named axes, as in GSPMD (Xu et al. 2021). Arrays are split along axes by a partition spec; what splits nothing
 * is replicated.
 */
export class Mesh {
  /** Name and size of each axis, outermost first: the last axis' neighbours are the nearest devices. */
  readonly axes: readonly (readonly [name: string, size: number])[];
  /** Device ids in row-major order of the axes. */
  readonly devices: readonly number[];
  /** Equal for equal meshes. */
  readonly key: string;

  /**
   * @param sizes - axis sizes in order, e.g. `{ data: 2, fsdp: 4 }`
   * @param devices - ids, one a place; default the first ones of the runtime's set
   */
  constructor(sizes: Readonly<Record<string, number>>, devices?: readonly number[]) {
    this.axes = Object.entries(sizes);
    for (const [name, size] of this.axes) {
      if (!/^[A-Za-z_]\w*$/.test(name)) {
        throw new ArgumentError(`Mesh: an axis is called "${name}"`, "use letters, digits and underscores");
      }
      if (!Number.isInteger(size) || size < 1) {
        throw new ArgumentError(`Mesh: axis "${name}" has size ${size}`, "give a positive integer");
      }
    }
    const count = this.axes.reduce((n, [, size]) => n * size, 1);
    this.devices = devices ?? Array.from({ length: count }, (_, i) => i);
    if (this.devices.length !== count || new Set(this.devices).size !== count) {
      throw new ArgumentError(
        `Mesh: ${count} places (${describeAxes(this.axes)}) for the devices ${this.devices.join(", ")}`,
        "name as many different devices as the product of the axis sizes",
      );
    }
    this.key = `${describeAxes(this.axes)} on ${this.devices.join(",")}`;
  }

  /** Devices along an axis; 1 for an axis that the mesh does not have. */
  size(axis: string): number {
    return this.axes.find(([name]) => name === axis)?.[1] ?? 1;
  }

  /** Devices in all. */
  get count(): number {
    return this.devices.length;
  }

  toString(): string {
    return `Mesh (${describeAxes(this.axes)}) on devices ${this.devices.join(", ")}`;
  }
}

function describeAxes(axes: Mesh["axes"]): string {
  return axes.map(([name, size]) => `${name}=${size}`).join(", ");
}

/** A spec checked against an array's shape. @throws ShapeError, ArgumentError */
export function placement(what: string, mesh: Mesh, spec: PartitionSpec, { shape }: Aval): Placement {
  if (spec.length > shape.length) {
    throw new ShapeError(
      `${what}: a spec of ${spec.length} entries for shape [${shape.join(", ")}]`,
      "give one entry a dimension at most",
    );
  }
  const used = new Set<string>();
  const full = shape.map((size, i) => {
    const entry = spec[i] ?? [];
    const axes = typeof entry === "string" ? [entry] : entry;
    let parts = 1;
    for (const axis of axes) {
      if (!mesh.axes.some(([name]) => name === axis)) {
        throw new ArgumentError(
          `${what}: "${axis}" is no axis of the mesh (${describeAxes(mesh.axes)})`,
          "name one of its axes, or null",
        );
      }
      if (used.has(axis)) {
        throw new ArgumentError(`${what}: axis "${axis}" splits two dimensions`, "use each axis once");
      }
      used.add(axis);
      parts *= mesh.size(axis);
    }
    if (size % parts !== 0) {
      throw new ShapeError(
        `${what}: dimension ${i} of [${shape.join(", ")}] does not split into ${parts} parts (${axes.join(", ")})`,
        "choose sizes that the mesh axes divide, or leave the dimension whole",
      );
    }
    return axes;
  });
  return { mesh, spec: full };
}

/** Whole on every device of the mesh. */
export function replicated(mesh: Mesh, { shape }: Aval): Placement {
  return { mesh, spec: shape.map(() => []) };
}

export function isReplicated({ spec }: Placement): boolean {
  return spec.every((axes) => axes.length === 0);
}

const keys = new WeakMap<Placement, string>();

/** Equal for placements that are the same. */
export function placementKey(placement: Placement): string {
  let key = keys.get(placement);
  if (key === undefined) {
    key = `${placement.mesh.key} ${dimensions(placement.spec)}`;
    keys.set(placement, key);
  }
  return key;
}

const known = new WeakMap<Sharding, Placement>();

/** The placement of a runtime's buffer. */
export function fromSharding(sharding: Sharding): Placement {
  let found = known.get(sharding);
  if (found === undefined) {
    const mesh = new Mesh(Object.fromEntries(sharding.mesh), sharding.devices);
    found = { mesh, spec: sharding.spec.map((axes) => axes ?? []) };
    known.set(sharding, found);
  }
  return found;
}

/** A placement as the runtime takes it. */
export function toSharding({ mesh, spec }: Placement): Sharding {
  return {
    mesh: mesh.axes.map(([name, size]) => [name, size]),
    spec: spec.map((axes) => (axes.length === 0 ? null : [...axes])),
    devices: [...mesh.devices],
  };
}

/** `[{"data"}, {}]`: the entries of a sharding in Shardy's text. */
function dimensions(spec: Placement["spec"]): string {
  return `[${spec.map((axes) => `{${axes.map((axis) => `"${axis}"`).join(", ")}}`).join(", ")}]`;
}

/** `<@mesh, [{"data"}, {}]>` */
export function shardingText({ spec }: Placement): string {
  return `<@mesh, ${dimensions(spec)}>`;
}

/** The declaration that a module's shardings refer to. */
export function meshText(mesh: Mesh): string {
  return `sdy.mesh @mesh = <[${mesh.axes.map(([name, size]) => `"${name}"=${size}`).join(", ")}]>`;
}

/** The shape that one device holds. */
export function localAval<A extends Aval>({ shape, dtype }: A, { mesh, spec }: Placement): Aval {
  return {
    dtype,
    shape: shape.map((size, i) => size / (spec[i] ?? []).reduce((n, axis) => n * mesh.size(axis), 1)),
  };
}
