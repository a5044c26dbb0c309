/**
 * Makes notebooks/06-data, what the tutorial on vision reads: some pictures of Fashion-MNIST, and emoji in the drawings of three houses.
 *
 *     apt install dataset-fashion-mnist    # Debian; MIT
 *     npm install --prefix /tmp/emoji emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0 openmoji@17.0.0
 *     node bench/vision/make-data.ts /tmp/emoji/node_modules
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import sharp from "sharp";

const [packages] = process.argv.slice(2);
if (packages === undefined) throw new Error("usage: node bench/vision/make-data.ts NODE_MODULES");
const out = new URL("../../notebooks/06-data/", import.meta.url).pathname;
mkdirSync(out, { recursive: true });

/** Tiles side by side, 50 a row, without loss. */
async function sheet(
  path: string,
  tiles: readonly Uint8Array[],
  side: number,
  channels: 1 | 3,
): Promise<void> {
  const across = 50;
  const width = across * side;
  const height = Math.ceil(tiles.length / across) * side;
  const pixels = new Uint8Array(width * height * channels);
  for (const [i, tile] of tiles.entries())
    for (let y = 0; y < side; y++) {
      const row = Math.floor(i / across) * side + y;
      const at = (row * width + (i % across) * side) * channels;
      pixels.set(tile.subarray(y * side * channels, (y + 1) * side * channels), at);
    }
  await sharp(pixels, { raw: { width, height, channels } }).webp({ lossless: true, effort: 6 }).toFile(path);
}

async function fashion(): Promise<void> {
  const folder = "/usr/share/datasets/fashion-mnist";
  const read = (name: string, skip: number): Buffer => {
    const path = [folder, "/usr/share/dataset-fashion-mnist", "/usr/share/datasets/dataset-fashion-mnist"]
      .map((each) => join(each, `${name}.gz`))
      .find((each) => existsSync(each));
    if (path === undefined) throw new Error(`there is no ${name}.gz: apt install dataset-fashion-mnist`);
    return gunzipSync(readFileSync(path)).subarray(skip);
  };
  for (const [split, name, count] of [
    ["train", "train", 5000],
    ["test", "t10k", 1000],
  ] as const) {
    const images = read(`${name}-images-idx3-ubyte`, 16);
    const labels = read(`${name}-labels-idx1-ubyte`, 8);
    const tiles = Array.from({ length: count }, (_, i) => images.subarray(784 * i, 784 * (i + 1)));
    await sheet(join(out, `fashion-${split}.webp`), tiles, 28, 1);
    writeFileSync(join(out, `fashion-${split}.json`), `${JSON.stringify([...labels.subarray(0, count)])}\n`);
  }
}

interface Emoji {
  unified: string;
  non_qualified: string | null;
  name: string;
  short_names: string[];
  category: string;
  sort_order: number;
  has_img_google: boolean;
  has_img_twitter: boolean;
}

async function emoji(): Promise<void> {
  const side = 32;
  const all = JSON.parse(
    readFileSync(join(packages!, "emoji-datasource-google", "emoji.json"), "utf8"),
  ) as Emoji[];
  const openmoji = ({ unified, non_qualified: plain }: Emoji): string | undefined =>
    [unified, plain, unified.replaceAll("-FE0F", "")]
      .flatMap((code) =>
        code === null ? [] : [join(packages!, "openmoji", "color", "svg", `${code.toUpperCase()}.svg`)],
      )
      .find((path) => existsSync(path));
  // Neither flags nor keys and clocks, which are all but alike.
  const found = all
    .filter((each) => each.has_img_google && each.has_img_twitter && openmoji(each) !== undefined)
    .filter(({ category }) => !["Flags", "Symbols", "Component"].includes(category))
    .sort((a, b) => a.sort_order - b.sort_order);
  const chosen = found.filter((_, i) => i % 2 === 0).slice(0, 600);
  const tile = async (path: string): Promise<Uint8Array> =>
    new Uint8Array(
      await sharp(path, { density: 72 })
        .resize(side, side, { fit: "contain", background: "white" })
        .flatten({ background: "white" })
        .toColourspace("srgb")
        .raw()
        .toBuffer(),
    );
  const styles: Record<string, (each: Emoji) => string> = {
    google: (each) => imageOf("google", each),
    twitter: (each) => imageOf("twitter", each),
    openmoji: (each) => openmoji(each)!,
  };
  for (const [style, path] of Object.entries(styles))
    await sheet(
      join(out, `emoji-${style}.webp`),
      await Promise.all(chosen.map((each) => tile(path(each)))),
      side,
      3,
    );
  const names = chosen.map(({ name, short_names: [short] }) => (name ?? short!).toLowerCase());
  writeFileSync(join(out, "emoji.json"), `${JSON.stringify(names, null, 1)}\n`);
  console.log(`${chosen.length} of ${found.length} emoji`);
}

function imageOf(house: string, { unified }: Emoji): string {
  return join(packages!, `emoji-datasource-${house}`, "img", house, "64", `${unified.toLowerCase()}.png`);
}

await fashion();
await emoji();
