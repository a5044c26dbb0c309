import { text } from "aronnax";
import { expect, it } from "vitest";

it("makes a tokenizer of the characters of some texts, in one call", async () => {
  const tokenizer = await text.characterTokenizer(["hello wörld", "𝄞 la\nla"]);
  const characters = [..."\n dehlorwaö𝄞"].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
  expect(tokenizer.vocabSize).toBe(characters.length + 2);
  for (const written of ["hello wörld", "𝄞 la\nla", "all dead", ""]) {
    const ids = tokenizer.encode(written);
    expect([...ids].map((id) => tokenizer.tokenOf(id))).toEqual([...written]);
    expect(tokenizer.decode(ids)).toBe(written);
  }
  expect(tokenizer.tokenOf(tokenizer.encode("x")[0]!)).toBe("<|unknown|>");
  expect(tokenizer.eosId).toBe(characters.length);
  await expect(text.characterTokenizer([])).rejects.toThrow(/empty/);
});
