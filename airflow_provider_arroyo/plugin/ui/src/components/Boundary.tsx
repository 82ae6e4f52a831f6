/* A part of a page that may fail alone: an error message replaces it, and the rest of the page stays. */

import type { ComponentChildren } from "preact";
import { useErrorBoundary } from "preact/hooks";

import { Notice } from "./Notice";

export function Boundary({ name, children }: { name: string; children: ComponentChildren }) {
  const [error] = useErrorBoundary() as [unknown, () => void];
  return error === undefined ? <>{children}</> : <Notice kind="warning" text={`${name} cannot be shown. Reload the page.`} />;
}
