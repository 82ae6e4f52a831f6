/* Characters that are invisible or change the text direction, so that SQL looks like something else
 * ("Trojan Source"): each becomes a visible mark. */

/* Unicode's controls, format characters and what fonts leave out: directions, zero widths, tags, fillers. Line ends
 * and tabs are allowed; a single carriage return is not. */
const UNSEEN = /(?![\t\n\r])[\p{Cc}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}\u2028\u2029]|\r(?!\n|$)/gu;

/** Beyond this, a browser would have too many elements to lay out; the marks are then plain text. */
export const MAX_MARKS = 1000;

export interface Mark {
  /** What replaces it: U+202E. */
  code: string;
}

function codeOf(character: string): string {
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** Return how many characters of a text are invisible. */
export function countUnseen(text: string): number {
  return text.match(UNSEEN)?.length ?? 0;
}

/** Return a text with a mark for each invisible character. */
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
