/* The menu of a row: the actions that are possible in the pipeline's state. */

import { createPortal } from "preact/compat";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import { ACTIONS, possibleActions } from "../actions";
import type { ActionName, Row } from "../types";

interface Props {
  row: Row;
  isBusy: boolean;
  onAct: (row: Row, action: ActionName) => void;
}

export function ActionMenu({ row, isBusy, onAct }: Props) {
  const [place, setPlace] = useState<DOMRect | null>(null);
  const button = useRef<HTMLButtonElement>(null);
  const actions = possibleActions(row);
  const close = (focus: boolean) => {
    setPlace(null);
    if (focus) button.current?.focus();
  };
  return (
    <>
      <button
        ref={button}
        type="button"
        class="menu-button"
        aria-haspopup="menu"
        aria-expanded={place !== null}
        aria-label={`Actions on ${row.name || row.id}`}
        disabled={isBusy || actions.length === 0}
        onClick={(event) => setPlace(place ? null : event.currentTarget.getBoundingClientRect())}
      >
        <span aria-hidden="true">⋯</span>
      </button>
      {place && (
        <Menu
          place={place}
          owner={button.current}
          actions={actions}
          onClose={close}
          onChoose={(action) => {
            close(true);
            onAct(row, action);
          }}
        />
      )}
    </>
  );
}

interface MenuProps {
  place: DOMRect;
  owner: HTMLElement | null;
  actions: ActionName[];
  onClose: (focus: boolean) => void;
  onChoose: (action: ActionName) => void;
}

function Menu({ place, owner, actions, onClose, onChoose }: MenuProps) {
  const menu = useRef<HTMLDivElement>(null);
  // Before the browser paints: a second key press must reach the menu.
  useLayoutEffect(() => {
    menu.current?.querySelector<HTMLElement>("[role=menuitem]")?.focus();
  }, []);
  useEffect(() => {
    const outside = (event: Event) => {
      const path = event.composedPath();
      if (!(menu.current && path.includes(menu.current)) && !(owner && path.includes(owner))) onClose(false);
    };
    const scrolled = () => onClose(false);
    addEventListener("pointerdown", outside, true);
    addEventListener("resize", scrolled);
    owner?.closest(".scroller")?.addEventListener("scroll", scrolled);
    return () => {
      removeEventListener("pointerdown", outside, true);
      removeEventListener("resize", scrolled);
      owner?.closest(".scroller")?.removeEventListener("scroll", scrolled);
    };
  }, []);
  const move = (event: KeyboardEvent) => {
    const items = [...(menu.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const root = menu.current?.getRootNode() as ShadowRoot;
    const at = items.indexOf(root.activeElement as HTMLElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1 + items.length, Home: 0, End: items.length - 1 }[event.key];
    if (event.key === "Escape" || event.key === "Tab") {
      event.preventDefault();
      event.stopPropagation();
      onClose(true);
    } else if (to !== undefined) {
      event.preventDefault();
      items[to % items.length]?.focus();
    }
  };
  const heightPx = actions.length * 36 + 10;
  const top = place.bottom + heightPx > innerHeight ? place.top - heightPx : place.bottom + 2;
  const root = owner?.getRootNode();
  const target = root instanceof ShadowRoot ? root.querySelector(".root") : document.body;
  if (!target) return null;
  return createPortal(
    <div
      ref={menu}
      role="menu"
      aria-label="Actions"
      class="menu"
      style={{ top: `${top}px`, right: `${document.documentElement.clientWidth - place.right}px` }}
      onKeyDown={move}
    >
      {actions.map((action) => (
        <button
          key={action}
          type="button"
          role="menuitem"
          tabIndex={-1}
          class={action === "delete" ? "danger" : ""}
          onClick={() => onChoose(action)}
        >
          {ACTIONS[action].menu}
        </button>
      ))}
    </div>,
    target,
  );
}
