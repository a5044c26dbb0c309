/** The scripts of Unicode 9, whose table Hugging Face's library has, the most frequent first. */
const names =
  "Common Latin Greek Cyrillic Armenian Hebrew Arabic Syriac Thaana Devanagari Bengali Gurmukhi " +
  "Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Thai Lao Tibetan Myanmar Georgian Hangul " +
  "Ethiopic Cherokee Canadian_Aboriginal Ogham Runic Khmer Mongolian Hiragana Katakana Bopomofo Han Yi " +
  "Old_Italic Gothic Deseret Inherited Tagalog Hanunoo Buhid Tagbanwa Limbu Tai_Le Linear_B Ugaritic " +
  "Shavian Osmanya Cypriot Braille Buginese Coptic New_Tai_Lue Glagolitic Tifinagh Syloti_Nagri " +
  "Old_Persian Kharoshthi Balinese Cuneiform Phoenician Phags_Pa Nko Sundanese Lepcha Ol_Chiki Vai " +
  "Saurashtra Kayah_Li Rejang Lycian Carian Lydian Cham Tai_Tham Tai_Viet Avestan Egyptian_Hieroglyphs " +
  "Samaritan Lisu Bamum Javanese Meetei_Mayek Imperial_Aramaic Old_South_Arabian Inscriptional_Parthian " +
  "Inscriptional_Pahlavi Old_Turkic Kaithi Batak Brahmi Mandaic Chakma Meroitic_Cursive " +
  "Meroitic_Hieroglyphs Miao Sharada Sora_Sompeng Takri Caucasian_Albanian Bassa_Vah Duployan Elbasan " +
  "Grantha Pahawh_Hmong Khojki Linear_A Mahajani Manichaean Mende_Kikakui Modi Mro Old_North_Arabian " +
  "Nabataean Palmyrene Pau_Cin_Hau Old_Permic Psalter_Pahlavi Siddham Khudawadi Tirhuta Warang_Citi " +
  "Ahom Anatolian_Hieroglyphs Hatran Multani Old_Hungarian SignWriting Adlam Bhaiksuki Marchen Newa " +
  "Osage Tangut";

/**
 * Characters that got their script after Unicode 9: ranges in base 36, each the distance of its first character from the last of the
 * range before, and after `+` how many follow it.
 */
const later =
  "128 14 2v 1a dc+2 2p+1r m 9+l 89+2 3c 3o+5 2e 4v 1k w+1 q d 2g+1 m+d 4 1j+1 1x 79 3 3 2+5 5 8 8+1 3 " +
  "e k 1mn 8+a 6o 2x g7+18 2p+3 1a+2 7e+1i 1k 3 70+4 jp+2 n2 14+2 1gt+1 z+2 d 9+p 5+f 1c 1c di+o bj+3 " +
  "8f+1 3w+4 11+b 7k 59z+9 g7r+15 1io 9+1q 1i 5u+1 h3+5 fvb+g a6+f 1t+1 1j+7 1b+1 pp b5+2 up+1m hm+1 j " +
  "vu+1p a9+5 25+b 3b+3 3r+1 34+2 6y 7z 4+3 gn+1 n+j 1j 12+6 oa+f 1t+2v uh+27 3zk+34b 8jv+a 1c+8 2j+k " +
  "4qf+i l0+7bf 4+9x 595+qr fa+1 5y+1f 3j+6 2a0+16 7a+1ji 99 me+5o r4+2 w 1p+3 1q 4z+5 vi+c o+5 3c+b " +
  "2e+r 5c+2n g 9+7 2+1 d d+3 g+w j+19 2+ft xr1+8 386+a 4mb+69n 3hf+ad5";

const ranges = (() => {
  let last = 0;
  return later.split(" ").map((range): [number, number] => {
    const [from, more = "0"] = range.split("+") as [string, string?];
    const first = last + Number.parseInt(from, 36);
    last = first + Number.parseInt(more, 36);
    return [first, last];
  });
})();

let scripts: { name: string; has: RegExp }[] | undefined;
const known = new Map<string, string | undefined>();

/** The script of a character; undefined where it has none, or a later one. Kana are Han, as is the mark of long vowels; a space has none. */
function scriptOf(character: string): string | undefined {
  if (known.has(character)) return known.get(character);
  const code = character.codePointAt(0)!;
  let script: string | undefined;
  if (code === 0x30fc) script = "Han";
  else if (character !== " " && !ranges.some(([first, last]) => code >= first && code <= last)) {
    scripts ??= names.split(" ").map((name) => ({ name, has: new RegExp(`\\p{Script=${name}}`, "u") }));
    script = scripts.find(({ has }) => has.test(character))?.name;
    if (script === "Hiragana" || script === "Katakana") script = "Han";
  }
  known.set(character, script);
  return script;
}

/** A text in pieces of one script each; what is before the first character with a script is left out. */
export function scriptRuns(text: string): { start: number; end: number }[] {
  const starts: number[] = [];
  let last: string | undefined;
  let at = 0;
  for (const character of text) {
    const script = scriptOf(character);
    if (script !== undefined && script !== last) starts.push(at);
    last = script ?? last;
    at += character.length;
  }
  return starts.map((start, i) => ({ start, end: starts[i + 1] ?? text.length }));
}
