/* SQL in pieces that can be coloured: highlight.js reads it, and no HTML is made. */

import sql from "highlight.js/lib/languages/sql";
import { createLowlight } from "lowlight";

/** What is longer stays in one colour: reading it would hold the page up. */
export const MAX_COLOURED = 30_000;
const CHUNK = 8000;

const lowlight = createLowlight({ sql });

export interface Piece {
  text: string;
  /** highlight.js's class, such as hljs-keyword; empty for plain text. */
  kind: string;
}

type Tree = ReturnType<typeof lowlight.highlight>;
type Node = Tree["children"][number];

/** Return the pieces of SQL; one plain piece where it is too long. */
export function piecesOf(text: string): Piece[] {
  if (text.length > MAX_COLOURED) return [{ text, kind: "" }];
  const pieces: Piece[] = [];
  const walk = (nodes: Node[], kind: string) => {
    for (const node of nodes) {
      if (node.type === "text") pieces.push({ text: node.value, kind });
      else if (node.type === "element") walk(node.children, String(node.properties.className ?? kind));
    }
  };
  walk(lowlight.highlight("sql", text).children, "");
  return pieces;
}

/** Cut a long text at the ends of lines, so that a browser need not lay out what is out of view. */
export function chunksOf(text: string): string[] {
  const chunks: string[] = [];
  let start = 0;
  while (text.length - start > CHUNK) {
    const line = text.indexOf("\n", start + CHUNK);
    let end = line + 1;
    if (line < 0 || line > start + 2 * CHUNK) {
      // A single endless line is cut anywhere, but not within a character.
      const code = text.charCodeAt(start + CHUNK - 1);
      end = start + CHUNK + (code >= 0xd800 && code < 0xdc00 ? 1 : 0);
    }
    chunks.push(text.slice(start, end));
    start = end;
  }
  chunks.push(text.slice(start));
  return chunks;
}

export type DiffKind = "added" | "removed" | "place" | "same";

/** Return what a line of a unified diff says. */
export function diffKind(line: string): DiffKind {
  if (line.startsWith("@@") || line.startsWith("+++") || line.startsWith("---")) return "place";
  if (line.startsWith("+")) return "added";
  return line.startsWith("-") ? "removed" : "same";
}
