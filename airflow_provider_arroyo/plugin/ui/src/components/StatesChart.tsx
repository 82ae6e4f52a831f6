/* States on a timeline: what Arroyo showed, next to what each task saw. */

import { duration, moment } from "../format";
import type { Lane, Span } from "../lanes";
import { axisOf, placeOf, WINDOWS } from "../lanes";
import { colorOf, stateInfo } from "../states";
import { Chart, DataTable, MAX_ROWS } from "./Chart";
import type { TableToggle } from "./Chart";
import { Link } from "./Link";
import { StateBadge } from "./StateBadge";

interface Props extends TableToggle {
  lanes: Lane[];
  now: number;
  began: number;
  /** One of WINDOWS; any other value means the whole time. */
  window: string;
  onWindow: (window: string) => void;
}

export function StatesChart({ lanes, now, began, window, onWindow, ...rest }: Props) {
  const chosen = WINDOWS.find((one) => one.key === window);
  const whole = axisOf(lanes, now, null);
  const axis = axisOf(lanes, now, chosen?.seconds ?? null);
  const choices = WINDOWS.filter((one) => one === chosen || one.seconds < whole.to - whole.from);
  const tools = choices.length > 0 && (
    <select
      class="small"
      aria-label="Time shown"
      value={chosen?.key ?? ""}
      onChange={(event) => onWindow(event.currentTarget.value)}
    >
      <option value="">All</option>
      {choices.map((one) => (
        <option key={one.key} value={one.key}>
          The last {one.word}
        </option>
      ))}
    </select>
  );
  const states = [...new Set(lanes.flatMap((lane) => lane.spans.map((span) => span.state)))];
  return (
    <Chart title="States" isWide tools={tools} table={() => <StatesTable lanes={lanes} now={now} />} {...rest}>
      <div class="lanes" role="img" aria-label={spoken(lanes, now)}>
        {lanes.map((lane) => (
          <div class="lane" key={lane.link ?? lane.name}>
            <span class="lane-name" title={lane.name}>
              {lane.name}
            </span>
            <span class="track">
              {lane.spans.map((span, index) => (
                <Piece key={index} span={span} axis={axis} now={now} />
              ))}
            </span>
          </div>
        ))}
        <div class="lane axis">
          <span class="lane-name" />
          <span class="ends">
            <span>{moment(axis.from)}</span>
            <span>now</span>
          </span>
        </div>
      </div>
      <p class="legend">
        {states.map((state) => (
          <StateBadge key={state} state={state} />
        ))}
      </p>
      <p class="faint">
        Arroyo keeps no history: its line begins with the state at {moment(began)}, when this API server began to watch.
      </p>
    </Chart>
  );
}

function Piece({ span, axis, now }: { span: Span; axis: { from: number; to: number }; now: number }) {
  const place = placeOf(span, axis);
  if (!place) return null;
  const lasted = span.to === null ? `for ${duration(now - span.from)} so far` : `for ${duration(span.to - span.from)}`;
  return (
    <span
      class={span.to === null ? "piece lasting" : "piece"}
      title={`${span.state}${span.run === null ? "" : `, run ${span.run}`}\n${moment(span.from)}, ${lasted}`}
      style={{
        // A short state at the very end also stays visible.
        left: `min(${place.left}%, 100% - 3px)`,
        width: `${place.width}%`,
        ...colorOf(stateInfo(span.state).token),
      }}
    />
  );
}

function spoken(lanes: Lane[], now: number): string {
  const lines = lanes.map((lane) => {
    const last = lane.spans.at(-1);
    const until = last?.to ?? now;
    const count = lane.spans.length > 1 ? `${lane.spans.length} states, the last ` : "";
    return last ? `${lane.name}: ${count}${last.state} for ${duration(until - last.from)}.` : "";
  });
  return `Timeline of states. ${lines.join(" ")} The table has the same.`;
}

function StatesTable({ lanes, now }: { lanes: Lane[]; now: number }) {
  const spans = lanes.flatMap((lane) => lane.spans.map((span) => ({ lane, span })));
  spans.sort((a, b) => b.span.from - a.span.from);
  return (
    <DataTable
      name="States, newest first"
      head={["Since", "State", "Duration", "Run", "Seen by"]}
      empty="No state has been seen yet."
      total={spans.length}
      rows={spans.slice(0, MAX_ROWS).map(({ lane, span }) => [
        moment(span.from),
        <StateBadge key="state" state={span.state} />,
        span.to === null ? `${duration(now - span.from)} so far` : duration(span.to - span.from),
        span.run ?? "",
        lane.link ? (
          <Link key="lane" to={lane.link}>
            {lane.name}
          </Link>
        ) : (
          lane.name
        ),
      ])}
    />
  );
}
