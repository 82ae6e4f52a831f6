import { render } from "preact";
import { afterEach, describe, expect, test } from "vitest";

import { Definition } from "../src/components/Definition";
import { countUnseen, marked, MAX_MARKS } from "../src/marks";
import { MAX_COLOURED } from "../src/sql";
import { definition } from "./rows";

const DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069";
const INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\ufeff\u3164\u{e0041}";
const CONTROLS = "\0\u001b\u007f\u0085\u2028\ud800";

describe("a mark for what nobody sees", () => {
  test.each(Array.from(DIRECTIONS + INVISIBLE + CONTROLS, (one) => [one]))("%j is marked", (one) => {
    const code = `U+${(one.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
    expect(marked(`a${one}b`)).toEqual(["a", { code }, "b"]);
    expect(countUnseen(`a${one}b${one}`)).toBe(2);
  });

  test.each(["", "SELECT 'größe', 'שלום', '😀'\r\n\tFROM t\n", "the end of a line\r"])("%j stays as it is", (text) => {
    expect(marked(text)).toEqual(text ? [text] : []);
    expect(countUnseen(text)).toBe(0);
  });

  test("a carriage return within a line hides what is before it in a terminal", () => {
    expect(marked("-- drop\rSELECT")).toEqual(["-- drop", { code: "U+000D" }, "SELECT"]);
  });

  test("any number of them is a bounded number of elements", () => {
    const count = MAX_MARKS + 1;
    expect(marked("a\u200b".repeat(count))).toEqual(["a[U+200B]".repeat(count)]);
  });
});

describe("on the page", () => {
  const root = document.createElement("div");
  afterEach(() => {
    render(null, root);
  });

  /* A comment that seems to end before the admin is checked. */
  const trojan = "SELECT 1 -- \u202e} \u2066if is_admin\u2069 \u2066\nFROM t\u200b";
  const shown = "SELECT 1 -- U+202E} U+2066if is_adminU+2069 U+2066\nFROM tU+200B";
  const source = (part: string) => root.querySelector(`[aria-label="${part}"] pre`)?.textContent;

  function show(fields: Parameters<typeof definition>[0]): void {
    render(<Definition definition={definition(fields)} search={new URLSearchParams()} />, root);
  }

  test("SQL, UDFs and the diff show the codes, and say how many there are", () => {
    show({
      sql: trojan,
      udfs: [{ name: "f", language: "rust", definition: trojan }],
      diff: { from_generation: 1, to_generation: 2, other_id: "pl_0", text: "- FROM t\n+ FROM t\u200b" },
    });
    expect(source("SQL")).toBe(shown);
    expect(source("UDFs")).toBe(shown);
    expect(source("What changed")).toBe("- FROM t+ FROM tU+200B");
    expect(root.querySelectorAll(".unseen")).toHaveLength(11);
    expect(root.querySelector('[aria-label="SQL"] .warn')?.textContent).toContain("5 characters");
    expect(root.querySelector('[aria-label="What changed"] .warn')?.textContent).toContain("1 character ");
    expect(root.textContent).not.toMatch(/[\u200b\u202e\u2066-\u2069]/);
  });

  test("so does SQL that is too long for colours", () => {
    show({ sql: `${"SELECT 1;\n".repeat(MAX_COLOURED / 10)}\u202e` });
    expect(source("SQL")?.endsWith("\nU+202E")).toBe(true);
  });

  test("SQL without any says nothing", () => {
    show({ sql: "SELECT 1" });
    expect(root.querySelector(".warn")).toBeNull();
  });
});
