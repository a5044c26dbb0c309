import type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from "@mlc-ai/web-xgrammar";
import type { HuggingFaceTokenizer } from "../../data/text/tokenizer.js";
import { ArgumentError } from "../../graph/errors.js";
import type { TokenGrammar } from "../engine/types.js";
import { type Constraint, choiceGrammar, keyOf } from "./constraint.js";
import { loadXGrammar } from "./xgrammar.js";

/** Compiled constraints kept for later requests. */
const mostCompiled = 64;

/** Makes grammars over the tokens of one tokenizer. */
export class Grammars {
  private readonly compiled = new Map<string, Promise<CompiledGrammar>>();

  private constructor(
    private readonly compiler: GrammarCompiler,
    private readonly stopIds: readonly number[],
  ) {}

  /**
   * @param vocabSize - tokens of the logits, padding included
   * @param stopIds - tokens that end a text; a grammar allows them where it may end
   */
  static async create(
    tokenizer: HuggingFaceTokenizer,
    vocabSize: number,
    stopIds: readonly number[] = tokenizer.eosId === undefined ? [] : [tokenizer.eosId],
  ): Promise<Grammars> {
    const { GrammarCompiler, TokenizerInfo } = loadXGrammar();
    const tokens = Array.from({ length: tokenizer.vocabSize }, (_, id) => tokenizer.tokenOf(id) ?? "");
    const info = await TokenizerInfo.createTokenizerInfo(tokens, kindOf(tokenizer), false, vocabSize, [
      ...stopIds,
    ]);
    return new Grammars(await GrammarCompiler.createGrammarCompiler(info, false), stopIds);
  }

  /** Throws ArgumentError on a constraint that is none. */
  async grammar(constraint: Constraint): Promise<TokenGrammar> {
    const compiled = await this.compile(constraint);
    const stop = this.stopIds.length > 0 ? [...this.stopIds] : undefined;
    return new MatcherGrammar(
      await loadXGrammar().GrammarMatcher.createGrammarMatcher(compiled, stop, stop === undefined),
    );
  }

  private compile(constraint: Constraint): Promise<CompiledGrammar> {
    const key = keyOf(constraint);
    let compiled = this.compiled.get(key);
    if (compiled === undefined) {
      compiled = compileConstraint(this.compiler, constraint);
      compiled.catch(() => this.compiled.delete(key));
      const [oldest] = this.compiled.keys();
      // A matcher holds what it needs of its grammar, so the oldest can go.
      if (this.compiled.size >= mostCompiled && oldest !== undefined) {
        this.compiled.get(oldest)?.then(
          (one) => one.dispose(),
          () => {},
        );
        this.compiled.delete(oldest);
      }
    } else this.compiled.delete(key);
    this.compiled.set(key, compiled);
    return compiled;
  }
}

async function compileConstraint(
  compiler: GrammarCompiler,
  constraint: Constraint,
): Promise<CompiledGrammar> {
  try {
    switch (constraint.type) {
      case "json":
        return await compiler.compileJSONSchema('{"type": "object"}', false, -1, [", ", ": "], false);
      case "schema":
        // On one line: a model that may write white space without end sometimes does.
        return await compiler.compileJSONSchema(
          JSON.stringify(constraint.schema),
          false,
          -1,
          [", ", ": "],
          true,
        );
      case "regex":
        return await compiler.compileStructuralTag({
          type: "structural_tag",
          format: { type: "regex", pattern: constraint.pattern },
        });
      case "choice":
        return await compiler.compileGrammar(choiceGrammar(constraint.choices));
      case "grammar":
        return await compiler.compileGrammar(constraint.grammar);
      case "tags":
        return await compiler.compileStructuralTag({ type: "structural_tag", format: constraint.tags });
    }
  } catch (error) {
    if (error instanceof ArgumentError) throw error;
    const message = error instanceof Error ? error.message : "it cannot be compiled";
    throw new ArgumentError(
      `The ${constraint.type} cannot be followed: ${message}`,
      "give what xgrammar reads: JSON Schema without remote references, or a regular expression without look-around",
    );
  }
}

class MatcherGrammar implements TokenGrammar {
  constructor(private readonly matcher: GrammarMatcher) {}

  async fill(mask: Int32Array): Promise<void> {
    const allowed = await this.matcher.getNextTokenBitmask();
    mask.fill(0);
    mask.set(allowed.subarray(0, mask.length));
  }

  accept(token: number): void {
    if (!this.matcher.acceptToken(token))
      throw new ArgumentError(`The grammar does not allow token ${token} here`, "draw from its mask only");
  }

  get ended(): boolean {
    return this.matcher.isTerminated();
  }

  dispose(): void {
    this.matcher.dispose();
  }
}

/** How the tokenizer writes bytes in its tokens. */
function kindOf(tokenizer: HuggingFaceTokenizer): string {
  const decoder = JSON.stringify(tokenizer.toJSON().decoder ?? null);
  if (decoder.includes('"ByteLevel"')) return "byte_level";
  return decoder.includes('"ByteFallback"') ? "byte_fallback" : "raw";
}
