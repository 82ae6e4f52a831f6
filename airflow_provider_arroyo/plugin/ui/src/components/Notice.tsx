/* A status line; screen readers announce its changes. */

export function Notice({ kind, text }: { kind: "info" | "warning" | "error"; text: string }) {
  return (
    <p class={`notice ${kind}`} role={kind === "error" ? "alert" : "status"}>
      {text}
    </p>
  );
}
