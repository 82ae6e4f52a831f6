import { render } from "preact";
import { afterEach, beforeEach, vi } from "vitest";

import { App } from "../src/App";
import type { Row } from "../src/types";
import { live } from "./rows";

/** Where the page is drawn. */
export let root: HTMLElement;

/** The addresses that the page has asked. */
export let asked: string[];

/** Return what the list of pipelines gets. */
export function listOf(rows: Row[]): object {
  return { ...live(), epoch: "e", version: 1, complete: true, rows, gone: [], details: {}, totals: {}, limit: null };
}

/**
 * Give each test a place for its page in the document, timers that it moves on, and routes that respond.
 *
 * @param address where the browser is
 * @param answerOf returns what a route responds with: a value, a status, a whole response; undefined for never
 */
export function mountEach(address: string, answerOf: (url: string) => unknown): void {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
    asked = [];
    vi.stubGlobal("fetch", (url: string, { signal }: RequestInit) => {
      asked.push(url);
      const found = answerOf(url);
      if (found instanceof Response) return Promise.resolve(found.clone());
      if (found === undefined) return new Promise((_resolve, fail) => signal?.addEventListener("abort", fail));
      const [body, status] = typeof found === "number" ? [{ detail: `refused ${found}` }, found] : [found, 200];
      return Promise.resolve(new Response(JSON.stringify(body), { status }));
    });
    history.replaceState(null, "", address);
    root = document.createElement("div");
    document.body.append(root);
  });

  afterEach(() => {
    render(null, root);
    root.remove();
    vi.useRealTimers();
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
  });
}

/** Draw a page where none is, let time pass, and return its text. */
export async function show(seconds = 1, page = <App />): Promise<string> {
  if (!root.hasChildNodes()) render(page, root);
  await vi.advanceTimersByTimeAsync(seconds * 1000);
  await vi.advanceTimersByTimeAsync(50);
  return root.textContent;
}
