/* The level of a backpressure, in a word. */

export function pressureLevel(share: number): "low" | "medium" | "high" {
  return share >= 0.75 ? "high" : share >= 0.4 ? "medium" : "low";
}
