/* The table: TanStack Table sorts the rows, TanStack Virtual renders those in view. */

import { useTable } from "@tanstack/preact-table";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import type { Pending } from "../actions";
import type { FeedState } from "../feed";
import { isFocusFree, useWidth } from "../hooks";
import type { ActionName, Orphan, Row } from "../types";
import { formatView } from "../view";
import type { View } from "../view";
import { useVirtualizer } from "../virtual";
import { COLUMNS, FEATURES } from "./columns";
import { RowCells } from "./RowCells";

const ROW_PX = 52;
const CARD_PX = 226;
const CARDS_BELOW_PX = 720;
const LEAST_PX = 260;

interface Props {
  connection: string;
  rows: Row[];
  state: FeedState;
  pending: Pending;
  now: number;
  view: View;
  missing: ReadonlyMap<string, Orphan["missing"]>;
  emptyText: string;
  /** The pipeline whose page was left for the list, so that its row gets the focus; null if there was none. */
  left: string | null;
  onSort: (sort: string, descending: boolean) => void;
  onShow: (ids: string[]) => void;
  onAct: ((row: Row, action: ActionName) => void) | undefined;
  onExplain: (row: Row) => void;
}

export function PipelineTable(props: Props) {
  const { rows, state, now, view, missing, onAct, onExplain, onSort, onShow } = props;
  const [scroller, setScroller] = useState<HTMLDivElement | null>(null);
  const width = useWidth(scroller);
  const height = useRoomBelow(scroller);
  const isCards = width > 0 && width < CARDS_BELOW_PX;
  const sorting = useMemo(() => [{ id: view.sort, desc: view.descending }], [view.sort, view.descending]);
  const table = useTable({
    features: FEATURES,
    columns: COLUMNS,
    data: rows,
    state: { sorting },
    enableSortingRemoval: false,
    enableMultiSort: false,
    getRowId: (row) => row.id,
    onSortingChange: (update) => {
      const [first] = typeof update === "function" ? update(sorting) : update;
      if (first) onSort(first.id, first.desc);
    },
  });
  const sorted = table.getRowModel().rows;
  const rowPx = isCards ? CARD_PX : ROW_PX;
  const virtual = useVirtualizer(scroller, sorted.length, rowPx);
  const shown = virtual.items.map((item) => sorted[item.index]?.original.id ?? "").filter(Boolean);
  const search = formatView({ ...view, connection: props.connection }).toString();
  const shownKey = JSON.stringify(shown);
  useEffect(() => onShow(JSON.parse(shownKey) as string[]), [shownKey]);
  const left = useRef(props.left);
  useEffect(() => {
    if (left.current === null || !scroller || width === 0 || sorted.length === 0) return;
    const index = sorted.findIndex((row) => row.id === left.current);
    const row = [...scroller.querySelectorAll<HTMLElement>("tr.row")].find((one) => one.dataset.id === left.current);
    // A row is rendered only after it was scrolled into view.
    if (index >= 0 && !row) virtual.scrollTo(index);
    else left.current = null;
    if (row && isFocusFree()) row.querySelector<HTMLElement>(".name")?.focus();
  });
  const first = virtual.items[0];
  const last = virtual.items.at(-1);
  const below = last ? virtual.total - last.end : 0;
  return (
    <div
      class={isCards ? "scroller cards" : "scroller"}
      ref={setScroller}
      style={{ maxHeight: `${height}px`, "--row": `${rowPx}px` }}
      tabIndex={0}
      role="region"
      aria-label="Pipelines, scrollable"
    >
      <table aria-rowcount={sorted.length + 1}>
        <thead>
          {table.getHeaderGroups().map((group) => (
            <tr key={group.id} aria-rowindex={1}>
              {group.headers.map((header) => {
                const { column } = header;
                const order = column.getIsSorted();
                const name = String(column.columnDef.header);
                return (
                  <th
                    key={header.id}
                    scope="col"
                    class={`c-${column.id}`}
                    aria-sort={order === "asc" ? "ascending" : order === "desc" ? "descending" : undefined}
                  >
                    {column.getCanSort() ? (
                      <button
                        type="button"
                        class="sort"
                        onClick={() => column.toggleSorting()}
                      >
                        {name}
                        <span aria-hidden="true">{order === "asc" ? " ↑" : order === "desc" ? " ↓" : ""}</span>
                      </button>
                    ) : (
                      name
                    )}
                  </th>
                );
              })}
            </tr>
          ))}
        </thead>
        <tbody>
          {first && first.start > 0 && <Spacer px={first.start} />}
          {virtual.items.map((item) => {
            const row = sorted[item.index]?.original;
            return row ? (
              <RowCells
                key={row.id}
                index={item.index + 2}
                row={row}
                details={state.details.get(row.id)}
                pending={props.pending.get(row.id)}
                missing={missing.get(row.id)}
                now={now}
                began={state.began}
                consoleUrl={state.status?.console ?? null}
                namespace={state.status?.namespace ?? null}
                search={search}
                onAct={onAct}
                onExplain={onExplain}
              />
            ) : null;
          })}
          {below > 0 && <Spacer px={below} />}
        </tbody>
      </table>
      {sorted.length === 0 && <p class="empty">{props.emptyText}</p>}
    </div>
  );
}

function Spacer({ px }: { px: number }) {
  return (
    <tr class="spacer" aria-hidden="true">
      <td style={{ height: `${px}px` }} />
    </tr>
  );
}

/** Return how much of the window is left below the top of an element. */
function useRoomBelow(element: HTMLElement | null): number {
  const [room, setRoom] = useState(LEAST_PX);
  useEffect(() => {
    if (!element) return undefined;
    const measure = () => {
      const top = element.getBoundingClientRect().top;
      setRoom(Math.max(LEAST_PX, Math.floor(innerHeight - Math.max(0, top) - 16)));
    };
    measure();
    // Content above it grows and shrinks as notices come and go.
    const observer = new ResizeObserver(measure);
    if (element.parentElement) observer.observe(element.parentElement);
    addEventListener("resize", measure);
    return () => {
      observer.disconnect();
      removeEventListener("resize", measure);
    };
  }, [element]);
  return room;
}
