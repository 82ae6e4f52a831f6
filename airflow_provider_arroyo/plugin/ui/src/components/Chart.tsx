/* A chart in its own frame, which can also be shown as a table. */

import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";

/** Whether the table is shown, if the page keeps this; otherwise the chart keeps it. */
export interface TableToggle {
  isTable?: boolean;
  onTable?: (isTable: boolean) => void;
}

interface Props extends TableToggle {
  title: string;
  /** Whether it takes the full width even if there is room for two. */
  isWide?: boolean;
  /** Controls shown beside the title. */
  tools?: ComponentChildren;
  table: () => ComponentChildren;
  children: ComponentChildren;
}

export function Chart({ title, isWide = false, tools, isTable, onTable, table, children }: Props) {
  const id = useId();
  const [own, setOwn] = useState(false);
  const showsTable = isTable ?? own;
  return (
    <section class={isWide ? "card wide" : "card"} aria-labelledby={id}>
      <header class="card-head">
        <h2 id={id}>{title}</h2>
        <span class="tools">
          {tools}
          <button
            type="button"
            class="small"
            aria-label={`${title} as a table`}
            aria-pressed={showsTable}
            onClick={() => (onTable ?? setOwn)(!showsTable)}
          >
            Table
          </button>
        </span>
      </header>
      {showsTable ? table() : children}
    </section>
  );
}

/** How many rows a table has at most: all are drawn, in view or not. */
export const MAX_ROWS = 300;

interface DataTableProps {
  name: string;
  head: string[];
  rows: ComponentChildren[][];
  /** How many rows there are, if these are only the first. */
  total?: number;
  empty: string;
}

/** A table that scrolls in its own frame. */
export function DataTable({ name, head, rows, total = rows.length, empty }: DataTableProps) {
  if (rows.length === 0) return <p class="faint">{empty}</p>;
  return (
    <>
      <div class="data" tabIndex={0} role="region" aria-label={name}>
        <table>
          <thead>
            <tr>
              {head.map((title) => (
                <th key={title} scope="col">
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((cells, index) => (
              <tr key={index}>
                {cells.map((cell, column) => (
                  <td key={column}>{cell}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {total > rows.length && <p class="faint">{`The newest ${rows.length} of ${total}.`}</p>}
    </>
  );
}
