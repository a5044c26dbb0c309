/** Peak speeds of devices, for the share of them that a training uses. */

/**
 * Dense bfloat16 operations a second of NVIDIA's data-centre GPUs by a part of their name, from NVIDIA's data sheets (without sparsity). The
 * more particular names come first.
 */
const peaks: readonly (readonly [name: RegExp, flops: number])[] = [
  [/GB[23]00/, 2500e12],
  [/B[23]00/, 2250e12],
  [/H[12]00 NVL/, 835e12],
  [/H100 PCIe/, 756e12],
  [/H[1-2]00|H800/, 989e12],
  [/\bH20\b/, 148e12],
  [/A100|A800/, 312e12],
  [/A40\b/, 149.7e12],
  [/A30\b/, 165e12],
  [/A10G/, 70e12],
  [/A10\b/, 125e12],
  [/L40S/, 362e12],
  [/L40\b/, 181e12],
  [/\bL4\b/, 121e12],
];

/** Peak dense bfloat16 operations a second of a kind of device as the runtime names it; undefined where it is not known, as for CPUs. */
export function peakFlops(kind: string): number | undefined {
  return peaks.find(([name]) => name.test(kind))?.[1];
}
