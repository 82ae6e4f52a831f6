import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { live } from "./rows";

type Effect = () => (() => void) | undefined;

/* What a host does with the component: its effects run after it was drawn, and end when it is gone. */
class Host {
  readonly place = document.createElement("div");
  private ends: ((() => void) | undefined)[] = [];

  show(): void {
    document.body.append(this.place);
    const effects: Effect[] = [];
    const react = {
      createElement: () => null,
      useEffect: (effect: Effect) => effects.push(effect),
      useRef: () => ({ current: this.place }),
    };
    vi.stubGlobal("React", react);
    (globalThis as unknown as { Arroyo: (props: object) => unknown }).Arroyo({});
    this.ends = effects.map((effect) => effect());
  }

  /* A host first takes what it has drawn out of the document. */
  leave(): void {
    this.place.remove();
    for (const end of this.ends) end?.();
  }
}

const heading = (host: Host) => host.place.firstElementChild?.shadowRoot?.querySelector("h1");

beforeEach(async () => {
  vi.stubGlobal("fetch", () => Promise.resolve(new Response(JSON.stringify({ ...live(), connections: ["a", "b"] }))));
  history.replaceState(null, "", "/plugin/arroyo");
  await import("../src/main");
});

afterEach(() => {
  vi.unstubAllGlobals();
});

test("a page that the host draws anew stays the same, and keeps the focus", () => {
  const [first, second] = [new Host(), new Host()];
  first.show();
  const shown = heading(first);
  shown?.focus();
  expect(shown?.getRootNode()).toHaveProperty("activeElement", shown);
  first.leave();
  expect(document.activeElement).toBe(document.body);
  second.show();
  expect(heading(second)).toBe(shown);
  expect(shown?.getRootNode()).toHaveProperty("activeElement", shown);
  second.leave();
  const elsewhere = document.createElement("button");
  document.body.append(elsewhere);
  elsewhere.focus();
  first.show();
  expect(document.activeElement).toBe(elsewhere);
});
