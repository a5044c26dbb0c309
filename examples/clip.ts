/** CLIP (Radford et al. 2021, figure 3): pictures and their captions meet in one space; a batch in parts is still one batch. */
import { adamw, arange, coupled, data, metrics, nn, relu, type Tensor, Trainer } from "aronnax";

const [batchSize, size, words] = [64, 8, 5];

/** A bright rectangle, and the words for its left, top, width and height. */
const pictures = data.generated({
  batchSize,
  validation: 4,
  make: ({ random }) => {
    const image = Float32Array.from({ length: batchSize * size * size }, () => 0.2 * random.uniform());
    const caption = Int32Array.from(
      { length: 4 * batchSize },
      (_, i) => (i % 4) * words + random.below(words),
    );
    for (let row = 0; row < batchSize; row++) {
      const [left, top, wide, high] = caption
        .subarray(4 * row, 4 * row + 4)
        .map((word) => word % words) as unknown as number[];
      for (let y = top!; y <= Math.min(top! + high!, size - 1); y++)
        for (let x = left!; x <= Math.min(left! + wide!, size - 1); x++)
          image[size * (size * row + y) + x]! += 0.8;
    }
    return {
      image: { data: image, shape: [batchSize, size * size] },
      caption: { data: caption, shape: [batchSize, 4] },
    };
  },
});

const encoder = (inputs: number) =>
  nn.sequential(
    new nn.Linear(inputs, 128, { bias: true, init: nn.kaimingNormal() }),
    relu,
    new nn.Linear(128, 32, { bias: true, init: nn.xavierNormal() }),
    (x) => x.div(x.norm(-1, { keepDims: true })),
  );

class Clip extends nn.Module {
  image = encoder(size * size);
  embed = new nn.Embedding(4 * words, 16, { init: nn.normalInit(1) });
  caption = encoder(4 * 16);
  scale = this.parameter("scale", [], { init: nn.constantInit(Math.log(1 / 0.07)) });
}

type Pictures = { readonly image: Tensor; readonly caption: Tensor };

const contrast = coupled({
  embed: (model: Clip, { image, caption }: Pictures) => ({
    image: model.image.forward(image),
    caption: model.caption.forward(model.embed.forward(caption).flatten(1)),
  }),
  loss: (model, { image, caption }) => {
    const logits = image.matmul(caption.mT).mul(model.scale.exp());
    const labels = arange(logits.shape[0]!);
    const found = metrics.mean(logits.argmax(-1).equal(labels).astype("float32"));
    const both = nn.crossEntropy(logits, labels).add(nn.crossEntropy(logits.mT, labels));
    return { loss: both.mul(0.5), metrics: { found } };
  },
});

export async function run() {
  const trainer = new Trainer({
    name: "clip",
    model: new Clip(),
    data: pictures,
    optimizer: adamw({ learningRate: 3e-3, clipNorm: 1 }),
    steps: 200,
    accumulate: 4,
    printEvery: 0,
    loss: contrast,
  });
  const untrained = (await trainer.evaluate())!.valid_found!;
  await trainer.fit();
  return { found: (await trainer.evaluate())!.valid_found!, untrained };
}

if (import.meta.main) console.log(await run());
