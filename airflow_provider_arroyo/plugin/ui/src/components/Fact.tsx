/* One fact about a pipeline: its name and value. */

import type { ComponentChildren } from "preact";

export function Fact(props: { name: string; isWide?: boolean; children: ComponentChildren }) {
  return (
    <div class={props.isWide ? "fact wide" : "fact"}>
      <dt>{props.name}</dt>
      <dd>{props.children}</dd>
    </div>
  );
}
