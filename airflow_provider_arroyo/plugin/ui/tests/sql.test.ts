import { describe, expect, test } from "vitest";

import { chunksOf, diffKind, MAX_COLOURED, piecesOf } from "../src/sql";

describe("SQL in colours", () => {
  test.each([
    "SELECT '<img src=x onerror=alert(1)>' -- a word\nFROM t WHERE n > 1.5e3",
    "'unfinished",
    "((((((/* not closed",
    "{{ NAME }} \u202e \u0000 😀 {% raw %}",
    "",
  ])("nothing of %j is lost", (text) => {
    expect(
      piecesOf(text)
        .map((piece) => piece.text)
        .join(""),
    ).toBe(text);
  });

  test("keywords, texts, numbers and comments are told apart", () => {
    const kinds = piecesOf("SELECT 'a', 1 -- why").filter((piece) => piece.kind);
    expect(kinds.map((piece) => [piece.text, piece.kind])).toEqual([
      ["SELECT", "hljs-keyword"],
      ["'a'", "hljs-string"],
      ["1", "hljs-number"],
      ["-- why", "hljs-comment"],
    ]);
  });

  test("what is too long stays plain", () => {
    expect(piecesOf("SELECT ".repeat(MAX_COLOURED / 7 + 1))).toHaveLength(1);
  });

  test.each([["SELECT 1;\n".repeat(110_000)], ["x".repeat(1_100_000)], ["😀".repeat(60_000)], ["short"], [""]])(
    "a megabyte is cut in pieces, and nothing is lost",
    (text) => {
      const chunks = chunksOf(text);
      expect(chunks.join("")).toBe(text);
      expect(Math.max(...chunks.map((chunk) => chunk.length))).toBeLessThan(20_000);
      // No character is torn apart.
      for (const chunk of chunks) expect(() => encodeURIComponent(chunk)).not.toThrow();
    },
  );
});

test.each([
  ["@@ -1,2 +1,2 @@", "place"],
  ["+SELECT 2", "added"],
  ["-SELECT 1", "removed"],
  [" FROM t", "same"],
  ["", "same"],
])("%s is %s", (line, kind) => {
  expect(diffKind(line)).toBe(kind);
});
