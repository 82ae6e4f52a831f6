/* TanStack Virtual for Preact: it has no adapter of its own. */

import {
  elementScroll,
  observeElementOffset,
  observeElementRect,
  Virtualizer,
} from "@tanstack/virtual-core";
import type { VirtualItem } from "@tanstack/virtual-core";
import { useEffect, useReducer, useState } from "preact/hooks";

const OVERSCAN = 6;

/** Return which of many rows of equal height are in view. */
export function useVirtualizer(
  scroller: HTMLElement | null,
  count: number,
  rowPx: number,
): { items: VirtualItem[]; total: number; scrollTo: (index: number) => void } {
  const [, redraw] = useReducer<number, undefined>((drawn) => drawn + 1, 0);
  const options = {
    count,
    estimateSize: () => rowPx,
    getScrollElement: () => scroller,
    overscan: OVERSCAN,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: () => redraw(undefined),
  };
  const [virtualizer] = useState(() => new Virtualizer<HTMLElement, Element>(options));
  virtualizer.setOptions(options);
  useEffect(() => virtualizer._didMount(), []);
  useEffect(() => virtualizer._willUpdate());
  useEffect(() => virtualizer.measure(), [rowPx]);
  return {
    items: virtualizer.getVirtualItems(),
    total: virtualizer.getTotalSize(),
    scrollTo: (index) => virtualizer.scrollToIndex(index, { align: "center" }),
  };
}
