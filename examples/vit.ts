/** Vision Transformer (Dosovitskiy et al. 2021): patches as words, a class token, an encoder. */
import { adamw, concatenate, cosine, data, metrics, nn, type Tensor, Trainer } from "aronnax";
import { digits } from "./digits.ts";

const [width, heads] = [48, 4];
const dense = { bias: true, init: nn.xavierUniform() };

class Block extends nn.Module {
  norm1 = new nn.LayerNorm(width);
  qkv = new nn.Linear(width, 3 * width, dense);
  out = new nn.Linear(width, width, dense);
  norm2 = new nn.LayerNorm(width);
  mlp = new nn.Mlp(width, 2 * width, dense);

  forward(x: Tensor): Tensor {
    const [rows, time] = x.shape as [number, number];
    const [q, k, v] = this.qkv.forward(this.norm1.forward(x)).split(3, -1) as [Tensor, Tensor, Tensor];
    const inHeads = (y: Tensor) => y.reshape([rows, time, heads, width / heads]);
    const mixed = nn.attention(inHeads(q), inHeads(k), inHeads(v), { causal: false });
    const attended = x.add(this.out.forward(mixed.reshape([rows, time, width])));
    return attended.add(this.mlp.forward(this.norm2.forward(attended)));
  }
}

class VisionTransformer extends nn.Module {
  patches = new nn.Conv2d(1, width, 2, { strides: 2 });
  token = this.parameter("token", [1, 1, width]);
  positions = new nn.LearnedPositions(17, width);
  blocks = [new Block(), new Block()];
  norm = new nn.LayerNorm(width);
  head = new nn.Linear(width, 10, dense);

  /** [rows, 1, 8, 8] to [rows, 10]. */
  forward(images: Tensor): Tensor {
    const words = this.patches.forward(images).reshape([images.shape[0]!, width, 16]).mT;
    const token = this.token.broadcastTo([images.shape[0]!, 1, width]);
    const start = this.positions.forward(concatenate([token, words], 1));
    const states = this.blocks.reduce((x, block) => block.forward(x), start);
    return this.head.forward(this.norm.forward(states.slice(null, 0)));
  }
}

export async function run() {
  const trainer = new Trainer({
    name: "vit",
    model: new VisionTransformer(),
    data: data.arrays(digits, { batchSize: 64, validation: 0.2 }),
    optimizer: adamw({ learningRate: cosine({ peak: 3e-3, warmup: 20 }), weightDecay: 0.05, clipNorm: 1 }),
    steps: 150,
    printEvery: 0,
    loss: (model, { image, label }) => {
      const logits = model.forward(image);
      const right = logits.argmax(-1).equal(label).astype("float32");
      return { loss: nn.crossEntropy(logits, label), metrics: { accuracy: metrics.mean(right) } };
    },
  });
  const untrained = (await trainer.evaluate())!.valid_accuracy!;
  await trainer.fit();
  return { accuracy: (await trainer.evaluate())!.valid_accuracy!, untrained };
}

if (import.meta.main) console.log(await run());
