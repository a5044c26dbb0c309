/** MurmurHash2 (Austin Appleby, 32 bits): the hash by which JupyterLab names the source file of a cell. */
export function murmur2(text: string, seed: number): number {
  const multiplier = 0x5bd1e995;
  const data = new TextEncoder().encode(text);
  const view = new DataView(data.buffer);
  let hash = seed ^ data.length;
  let at = 0;
  for (; at + 4 <= data.length; at += 4) {
    let word = Math.imul(view.getUint32(at, true), multiplier);
    word = Math.imul(word ^ (word >>> 24), multiplier);
    hash = Math.imul(hash, multiplier) ^ word;
  }
  if (at < data.length) {
    for (let left = data.length - at - 1; left >= 0; left -= 1) hash ^= data[at + left]! << (8 * left);
    hash = Math.imul(hash, multiplier);
  }
  hash = Math.imul(hash ^ (hash >>> 13), multiplier);
  return (hash ^ (hash >>> 15)) >>> 0;
}
