// biome-ignore-all lint/suspicious/noTemplateCurlyInString: code with templates is what is looked at
import { expect, it } from "vitest";
import { contextAt } from "../../kernel/src/language/text-context.js";

const contextAtEnd = (source: string) => contextAt(source, source.length);

it("tells code, comments and strings apart in unfinished code", () => {
  const cases: Record<string, string[]> = {
    code: [
      "",
      "a",
      "'a'",
      "// x\n",
      "/* x */",
      "`${",
      "`a${b",
      "`a${b}`",
      "'a\nb",
      "'a\n",
      "`${'}'",
      "/",
      "a / b",
    ],
    string: ["'", "'a", "'a\\'b", "\"it's", "`a", "`a${b}", "`${{ a: `x${1}` }}", "f(1, 'x"],
    comment: ["// x", "/* x", "a / b // 'c", "/* // */ //"],
  };
  for (const [kind, sources] of Object.entries(cases))
    for (const source of sources) expect([source, contextAtEnd(source).kind]).toEqual([source, kind]);
});

it("gives the parentheses around, the innermost first, and where a string begins", () => {
  expect(contextAtEnd("f(g(2), [h(").parentheses).toEqual([10, 1]);
  expect(contextAtEnd("f('(', `${(1)}`, 'te")).toMatchObject({ start: 18, quote: "'", parentheses: [1] });
});
