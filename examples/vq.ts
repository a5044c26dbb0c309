/** A vector-quantized autoencoder (van den Oord et al. 2017) whose codebook moves by averages: a buffer, no parameter. */
import { adamw, data, metrics, nn, type Tensor, Trainer } from "aronnax";
import { digits } from "./digits.ts";

class VqAutoencoder extends nn.Module {
  encode = nn.sequential(
    new nn.Conv2d(1, 32, 3, { padding: 1, strides: 2 }),
    (x: Tensor) => x.relu(),
    new nn.Conv2d(32, 8, 1),
  );
  quantizer = new nn.VectorQuantizer(32, 8, { decay: 0.9, restart: 0.5 });
  decode = nn.sequential(
    new nn.ConvTranspose2d(8, 32, 2, { strides: 2 }),
    (x: Tensor) => x.relu(),
    new nn.Conv2d(32, 1, 3, { padding: 1 }),
  );

  /** [rows, 1, 8, 8], through 16 codes an image. */
  forward(image: Tensor, options: { training: boolean; key?: Tensor }) {
    const found = this.quantizer.forward(this.encode.forward(image).moveAxis(1, -1), options);
    return { ...found, image: this.decode.forward(found.quantized.moveAxis(-1, 1)) };
  }
}

export async function run() {
  const trainer = new Trainer({
    name: "vq",
    model: new VqAutoencoder(),
    data: data.arrays(digits, { batchSize: 64, validation: 0.2 }),
    optimizer: adamw({ learningRate: 5e-3 }),
    steps: 200,
    printEvery: 0,
    loss: (model, { image }, { training, key }) => {
      const { image: decoded, loss, perplexity } = model.forward(image, { training, key });
      const error = decoded.sub(image).square().mean();
      const variance = image
        .sub(image.mean(0, { keepDims: true }))
        .square()
        .mean();
      return { loss: error.add(loss), metrics: { error, variance, perplexity: metrics.max(perplexity) } };
    },
  });
  const untrained = (await trainer.evaluate())!.valid_error!;
  await trainer.fit();
  const { valid_error, valid_variance, valid_perplexity } = (await trainer.evaluate())!;
  // What is left of the images' variance, which the mean image leaves whole.
  return {
    left: valid_error! / valid_variance!,
    untrained: untrained / valid_variance!,
    codes: valid_perplexity!,
  };
}

if (import.meta.main) console.log(await run());
