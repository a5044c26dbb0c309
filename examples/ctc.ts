/** Connectionist temporal classification (Graves et al. 2006, section 4.1): the forward recursion in log space, as a scan. */
import {
  adamw,
  concatenate,
  full,
  logaddexp,
  metrics,
  nn,
  scan,
  type Tensor,
  Trainer,
  tensor,
  vmap,
  where,
} from "aronnax";
import { classes, features, longest, speech } from "./speech.ts";

const never = -1e30;

/** -log p of `labels` [count] (above 0; zeros at the end are padding) under `logProbs` [time, classes], where class 0 is blank. */
export function ctcLoss(logProbs: Tensor, labels: Tensor): Tensor {
  const places = 2 * labels.shape[0]! + 1;
  const later = (x: Tensor, by: number, fill = 0) => x.pad([[by, 0]], fill).slice([0, places]);
  // Blank, label, blank, label, ..., blank.
  const path = labels
    .expandDims(1)
    .pad([
      [0, 0],
      [1, 0],
    ])
    .flatten()
    .pad([[0, 1]]);
  const emissions = logProbs.take(path, 1);
  // A label may follow the one before it without a blank, if they differ.
  const skips = where(path.notEqual(0).and(path.notEqual(later(path, 2))), 0, never);
  const start = concatenate([emissions.slice(0, [0, 2]), full([places - 2], never)]);
  const [alpha] = scan(
    (a: Tensor, emission: Tensor) => {
      const moved = logaddexp(a, later(a, 1, never));
      return [logaddexp(moved, later(a, 2, never).add(skips)).add(emission), null] as const;
    },
    start,
    emissions.slice([1, null]),
  );
  const end = labels.notEqual(0).astype("int32").sum().mul(2);
  const withoutBlank = where(end.equal(0), never, alpha.take(end.sub(1)));
  return logaddexp(alpha.take(end), withoutBlank).neg();
}

class Recognizer extends nn.Module {
  lstm = new nn.LSTM(features, 32, { bidirectional: true });
  head = new nn.Linear(64, classes, { bias: true });
  forward(frames: Tensor): Tensor {
    return this.head.forward(this.lstm.forward(frames).output).logSoftmax();
  }
}

/** The likeliest class of each frame, without repetitions and blanks. */
const collapse = (best: number[]) => best.filter((c, t) => c !== 0 && c !== best[t - 1]).join("");

export async function run() {
  const trainer = new Trainer({
    name: "ctc",
    model: new Recognizer(),
    data: speech,
    optimizer: adamw({ learningRate: 0.01, clipNorm: 1 }),
    steps: 150,
    printEvery: 0,
    loss: (model, { frames, labels }) => metrics.mean(vmap(ctcLoss)(model.forward(frames), labels)),
    validation: {
      every: 150,
      async measure({ model, batches }) {
        let [right, all] = [0, 0];
        for await (const { frames, labels } of batches) {
          const best = (await model.forward(tensor(frames.data, frames)).argmax(-1).array()) as number[][];
          for (const frame of best) {
            const said = labels.data.subarray(
              longest * (all % best.length),
              longest * ((all % best.length) + 1),
            );
            right += Number(collapse(frame) === said.filter((label) => label !== 0).join(""));
            all++;
          }
        }
        return { exact: right / all };
      },
    },
  });
  const untrained = (await trainer.evaluate())!.valid_exact!;
  const { validation } = await trainer.fit();
  return { exact: validation!.valid_exact!, untrained };
}

if (import.meta.main) console.log(await run());
