import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { Shared, type ToMessaging } from "../link.js";
import { Interrupted } from "./errors.js";

/** Asks the front end for a line, and holds the main thread until it comes, as `prompt` does in a browser. */
export class Input {
  constructor(
    private readonly shared: Int32Array,
    private readonly port: MessagePort,
    private readonly tell: (message: ToMessaging) => void,
  ) {}

  ask(prompt: string, password: boolean): string {
    Atomics.store(this.shared, Shared.wake, 0);
    this.tell({ type: "input", prompt, password });
    for (;;) {
      const received = receiveMessageOnPort(this.port);
      if (received) {
        const answer = received.message as { value?: string; refused?: boolean };
        if (answer.refused) {
          throw Object.assign(new Error("the front end does not take input for this cell"), {
            name: "InputRefused",
            fix: "run the cell from a notebook or a console, with allow_stdin",
          });
        }
        if (answer.value === undefined) throw new Interrupted();
        return answer.value;
      }
      Atomics.wait(this.shared, Shared.wake, 0, 50);
      Atomics.store(this.shared, Shared.wake, 0);
    }
  }
}
