/* SQL in pieces to be colored: highlight.js parses it, and no HTML is created. */

import sql from "highlight.js/lib/languages/sql";
import { createLowlight } from "lowlight";

/** Longer SQL is not highlighted: that would block the page. */
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

/** Return the pieces of SQL; a single plain piece if it is too long. */
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

/** Split a long text at line ends, so that the browser need not lay out what is out of view. */
export function chunksOf(text: string): string[] {
  const chunks: string[] = [];
  let start = 0;
  while (text.length - start > CHUNK) {
    const line = text.indexOf("\n", start + CHUNK);
    let end = line + 1;
    if (line < 0 || line > start + 2 * CHUNK) {
      // A single very long line is split anywhere, but not within a character.
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

/** Return the kind of a line in a unified diff. */
export function diffKind(line: string): DiffKind {
  if (line.startsWith("@@") || line.startsWith("+++") || line.startsWith("---")) return "place";
  if (line.startsWith("+")) return "added";
  return line.startsWith("-") ? "removed" : "same";
}
