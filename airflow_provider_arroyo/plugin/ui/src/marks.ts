/* Characters that nobody sees, or that turn the direction of what follows, so that SQL reads as what it is not
 * ("Trojan Source"): each becomes a mark that can be seen. */

/* Unicode's controls, format characters and what fonts leave out: directions, zero widths, tags, fillers. Line ends
 * and tabs are as they should be; a carriage return alone is not. */
const UNSEEN = /(?![\t\n\r])[\p{Cc}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}\u2028\u2029]|\r(?!\n|$)/gu;

/** Of more, a browser would have too many elements to lay out; they are marked in plain text. */
export const MAX_MARKS = 1000;

export interface Mark {
  /** What stands for it: U+202E. */
  code: string;
}

function codeOf(character: string): string {
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** Return how many characters of a text nobody would see. */
export function countUnseen(text: string): number {
  return text.match(UNSEEN)?.length ?? 0;
}

/** Return a text with a mark for each character that nobody would see. */
export function marked(text: string): (string | Mark)[] {
  const found = [...text.matchAll(UNSEEN)];
  if (found.length > MAX_MARKS) return [text.replace(UNSEEN, (character) => `[${codeOf(character)}]`)];
  const pieces: (string | Mark)[] = [];
  let start = 0;
  for (const match of found) {
    if (match.index > start) pieces.push(text.slice(start, match.index));
    pieces.push({ code: codeOf(match[0]) });
    start = match.index + match[0].length;
  }
  if (start < text.length) pieces.push(text.slice(start));
  return pieces;
}
