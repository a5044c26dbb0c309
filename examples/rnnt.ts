/** The RNN transducer (Graves 2012, section 2.4): the forward variables of each frame by one logcumsumexp, the frames by a scan. */
import { adamw, metrics, nn, scan, type Tensor, Trainer, vmap } from "aronnax";
import { classes, features, speech } from "./speech.ts";

/** -log p of `labels` [count] (zeros at the end are padding) under `logProbs` [time, count + 1, classes], where class 0 is blank. */
export function transducerLoss(logProbs: Tensor, labels: Tensor): Tensor {
  const count = labels.shape[0]!;
  const blanks = logProbs.slice(null, null, 0);
  const own = labels.reshape([1, count, 1]).broadcastTo([logProbs.shape[0]!, count, 1]);
  // Sums of the labels' log-probabilities up to each place, within a frame.
  const written = logProbs
    .slice(null, [0, count])
    .takeAlongAxis(own, -1)
    .squeeze(-1)
    .cumsum(1)
    .pad([
      [0, 0],
      [1, 0],
    ]);
  // a(t, u) = logaddexp(a(t - 1, u) + blank(t - 1, u), a(t, u - 1) + label(t, u - 1)), solved along u.
  const [last] = scan(
    (a: Tensor, [blank, sums]: [Tensor, Tensor]) =>
      [a.add(blank).sub(sums).logcumsumexp(0).add(sums), null] as const,
    written.slice(0),
    [blanks.slice([0, -1]), written.slice([1, null])] as [Tensor, Tensor],
  );
  const end = labels.notEqual(0).astype("int32").sum();
  return last.add(blanks.slice(-1)).take(end).neg();
}

class Transducer extends nn.Module {
  encoder = new nn.LSTM(features, 32, { bidirectional: true });
  embed = new nn.Embedding(classes, 16);
  predictor = new nn.LSTM(16, 64);
  joint = new nn.Linear(64, classes, { bias: true });

  /** Log-probabilities [rows, time, count + 1, classes]. */
  forward(frames: Tensor, labels: Tensor): Tensor {
    const heard = this.encoder.forward(frames).output.expandDims(2);
    const before = this.embed.forward(
      labels.pad([
        [0, 0],
        [1, 0],
      ]),
    );
    const said = this.predictor.forward(before).output.expandDims(1);
    return this.joint.forward(heard.add(said).tanh()).logSoftmax();
  }
}

export async function run() {
  const trainer = new Trainer({
    name: "rnnt",
    model: new Transducer(),
    data: speech,
    optimizer: adamw({ learningRate: 0.01, clipNorm: 1 }),
    steps: 150,
    printEvery: 0,
    loss: (model, { frames, labels }) => {
      const each = vmap(transducerLoss)(model.forward(frames, labels), labels);
      // Of the same sounds with the labels of the next row.
      const others = labels.roll(1);
      const wrong = vmap(transducerLoss)(model.forward(frames, others), others);
      return {
        loss: metrics.mean(each),
        metrics: { preferred: metrics.mean(each.less(wrong).astype("float32")), others: metrics.mean(wrong) },
      };
    },
  });
  const untrained = (await trainer.evaluate())!;
  await trainer.fit();
  const { valid_loss, valid_others, valid_preferred } = (await trainer.evaluate())!;
  return {
    loss: valid_loss!,
    untrained: untrained.valid_loss!,
    shuffled: valid_others!,
    preferred: valid_preferred!,
  };
}

if (import.meta.main) console.log(await run());
