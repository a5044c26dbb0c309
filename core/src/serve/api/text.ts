/** An answer that is not JSON. */
export class Text {
  constructor(
    readonly text: string,
    readonly type: string,
  ) {}
}
