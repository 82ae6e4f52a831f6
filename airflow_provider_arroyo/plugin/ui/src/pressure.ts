/* How high a backpressure is, in a word. */

export function pressureLevel(share: number): "low" | "medium" | "high" {
  return share >= 0.75 ? "high" : share >= 0.4 ? "medium" : "low";
}
