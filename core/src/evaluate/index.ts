/** What models make, measured: `evaluation`. Losses and metrics of batches are a Trainer's own. */
export {
  type Answer,
  type AnswerOptions,
  type Answers,
  answers,
  type MeasureOptions,
  measureAnswers,
  type ReplyCallbackOptions,
  replies,
  type Score,
} from "./answers.js";
export {
  type Calibration,
  calibration,
  confusionMatrix,
  type Drawn,
  drawCalibration,
  drawConfusion,
  type Rows,
  recallAtK,
  topK,
} from "./classification.js";
export { exactMatch, wordF1, wordMatch } from "./scores.js";
