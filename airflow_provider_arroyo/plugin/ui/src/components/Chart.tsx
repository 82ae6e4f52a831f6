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

/** A table that scrolls in its own frame. */
export function DataTable(props: { name: string; head: string[]; rows: ComponentChildren[][]; empty: string }) {
  if (props.rows.length === 0) return <p class="faint">{props.empty}</p>;
  return (
    <div class="data" tabIndex={0} role="region" aria-label={props.name}>
      <table>
        <thead>
          <tr>
            {props.head.map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {props.rows.map((cells, index) => (
            <tr key={index}>
              {cells.map((cell, column) => (
                <td key={column}>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
