/** Log-mel features of sound: frames under a Hann window, the power of their Fourier transform, triangles on the mel scale. */
import { arange, fft, imag, jit, linspace, maximum, minimum, real, type Tensor, tensor } from "aronnax";

export const [sampleRate, frame, hop, bands] = [16_000, 400, 160, 40];

const toMel = (hertz: number) => 2595 * Math.log10(1 + hertz / 700);

/** Triangles of the mel bands over the frequencies of `rfft` (HTK's scale): [frame / 2 + 1, bands]. */
function melBank(): Tensor {
  const edges = linspace(0, toMel(sampleRate / 2), bands + 2);
  const hertz = edges
    .mul(Math.LN10 / 2595)
    .exp()
    .sub(1)
    .mul(700);
  const [low, middle, high] = [0, 1, 2].map((i) => hertz.slice([i, i + bands])) as [Tensor, Tensor, Tensor];
  const of = fft.rfftfreq(frame, 1 / sampleRate).expandDims(1);
  return maximum(minimum(of.sub(low).div(middle.sub(low)), high.sub(of).div(high.sub(middle))), 0);
}

/** Samples [time] to [frames, bands]. */
export const logMel = jit((samples: Tensor) => {
  const count = 1 + Math.floor((samples.shape[0]! - frame) / hop);
  const places = arange(count).mul(hop).expandDims(1).add(arange(frame));
  const hann = arange(frame)
    .astype("float32")
    .mul((2 * Math.PI) / frame)
    .cos()
    .mul(-0.5)
    .add(0.5);
  const spectrum = fft.rfft(samples.take(places).mul(hann));
  return real(spectrum).square().add(imag(spectrum).square()).matmul(melBank()).maximum(1e-10).log();
});

export const tone = (hertz: number, seconds = 0.5) =>
  Float32Array.from({ length: seconds * sampleRate }, (_, i) =>
    Math.sin((2 * Math.PI * hertz * i) / sampleRate),
  );

/** For each of some tones the middle of the loudest band, in hertz. */
export async function run() {
  const heard: Record<string, number> = {};
  for (const hertz of [440, 1000, 3000]) {
    const loudest = await logMel(tensor(tone(hertz)))
      .mean(0)
      .argmax()
      .item();
    heard[hertz] = 700 * (10 ** (((loudest + 1) * toMel(sampleRate / 2)) / (bands + 1) / 2595) - 1);
  }
  return heard;
}

if (import.meta.main) console.log(await run());
