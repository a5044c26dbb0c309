/** Speech in miniature: each of two to four labels sounds for two or three frames, as its own wave in noise. */
import { data } from "aronnax";

const [rows, time] = [32, 16];
/** Labels are 1 to 5; 0 is blank, and fills up. */
export const [features, classes, longest] = [8, 6, 4];

export const speech = data.generated({
  batchSize: rows,
  validation: 4,
  make: ({ random }) => {
    const frames = Float32Array.from({ length: rows * time * features }, () => random.uniform() - 0.5);
    const labels = new Int32Array(rows * longest);
    for (let row = 0; row < rows; row++) {
      const count = 2 + random.below(longest - 1);
      for (let i = 0, at = 1; i < count; i++, at++) {
        const label = 1 + random.below(classes - 1);
        labels[longest * row + i] = label;
        for (const end = at + 2 + random.below(2); at < end; at++)
          for (let f = 0; f < features; f++)
            frames[features * (row * time + at) + f]! += Math.sin(label * (f + 1));
      }
    }
    return {
      frames: { data: frames, shape: [rows, time, features] },
      labels: { data: labels, shape: [rows, longest] },
    };
  },
});
