/* Links into Airflow's UI, which do not reload it, and to Arroyo's console. */

import type { ComponentChildren } from "preact";

import { navigate, webAddress } from "../host";

interface LinkProps {
  to: string;
  title?: string;
  class?: string;
  children: ComponentChildren;
}

export function Link({ to, children, ...rest }: LinkProps) {
  const follow = (event: MouseEvent) => {
    // The user may want another tab or window.
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button !== 0) return;
    event.preventDefault();
    navigate(to);
  };
  return (
    <a href={to} onClick={follow} {...rest}>
      {children}
    </a>
  );
}

/** A link to a pipeline in Arroyo's console; nothing if the console's address is unknown. */
export function ConsoleLink(props: { base: string | null; id: string; name?: string; class?: string; text: string }) {
  const url = webAddress(props.base);
  if (!url) return null;
  return (
    <a
      class={props.class}
      href={`${url}/pipelines/${encodeURIComponent(props.id)}`}
      target="_blank"
      rel="noreferrer"
      aria-label={props.name && `${props.name} in Arroyo's console`}
    >
      {props.text} ↗
    </a>
  );
}
