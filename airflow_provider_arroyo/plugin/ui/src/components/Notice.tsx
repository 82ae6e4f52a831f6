/* A line that tells something: news are read out by screen readers. */

export function Notice({ kind, text }: { kind: "info" | "warning" | "error"; text: string }) {
  return (
    <p class={`notice ${kind}`} role={kind === "error" ? "alert" : "status"}>
      {text}
    </p>
  );
}
