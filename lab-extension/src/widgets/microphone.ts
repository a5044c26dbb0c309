/** A browser's refusal, as `name` of its error and words for the user. */
export class MicrophoneProblem extends Error {
  constructor(
    override readonly name: string,
    message: string,
  ) {
    super(message);
  }
}

export interface RecordedSound {
  /** Mono, from -1 to 1. */
  readonly samples: Float32Array<ArrayBuffer>;
  readonly sampleRate: number;
}

/** Records from the user's microphone until it is told to stop. */
export class MicrophoneRecording {
  /** Asks for the microphone. @throws MicrophoneProblem where there is none, or it is refused. */
  static async start(): Promise<MicrophoneRecording> {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new MicrophoneProblem("NotSupportedError", "a microphone needs HTTPS or localhost");
    }
    try {
      return new MicrophoneRecording(await navigator.mediaDevices.getUserMedia({ audio: true }));
    } catch (error) {
      const name = error instanceof Error ? error.name : "Error";
      const reason = {
        NotAllowedError: "permission to use the microphone was refused",
        NotFoundError: "there is no microphone",
        NotReadableError: "the microphone is in use by another program",
      }[name];
      throw new MicrophoneProblem(name, reason ?? String(error));
    }
  }

  private constructor(private readonly stream: MediaStream) {
    this.#recorder = new MediaRecorder(stream);
    this.#recorder.addEventListener("dataavailable", ({ data }) => this.#parts.push(data));
    this.#ended = new Promise((resolve) => {
      this.#recorder.addEventListener("stop", () => resolve());
    });
    this.#recorder.start();
  }

  /** Ends the recording, and gives what was recorded as samples. */
  async stop(): Promise<RecordedSound> {
    this.cancel();
    await this.#ended;
    const encoded = await new Blob(this.#parts, { type: this.#recorder.mimeType }).arrayBuffer();
    const context = new AudioContext();
    try {
      const sound = await context.decodeAudioData(encoded);
      const samples = new Float32Array(sound.length);
      for (let channel = 0; channel < sound.numberOfChannels; channel++) {
        for (const [i, sample] of sound.getChannelData(channel).entries()) {
          samples[i]! += sample / sound.numberOfChannels;
        }
      }
      return { samples, sampleRate: sound.sampleRate };
    } finally {
      await context.close();
    }
  }

  /** Ends the recording and gives the microphone back. */
  cancel(): void {
    if (this.#recorder.state !== "inactive") {
      this.#recorder.stop();
    }
    for (const track of this.stream.getTracks()) {
      track.stop();
    }
  }

  readonly #recorder: MediaRecorder;
  readonly #parts: Blob[] = [];
  readonly #ended: Promise<void>;
}
