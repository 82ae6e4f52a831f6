/* The graph of a pipeline, with the current rates of its nodes. */

import { memo } from "preact/compat";
import { useMemo, useState } from "preact/hooks";

import { count, orDash, percent } from "../format";
import { useWidth } from "../hooks";
import { layOut, MAX_NODES, NODE_HEIGHT, NODE_WIDTH, pathOf } from "../layout";
import type { Placed, PlacedNode } from "../layout";
import type { Graph, PipelineLive } from "../types";
import { Chart, DataTable } from "./Chart";
import type { TableToggle } from "./Chart";
import { Pressure, pressureLevel } from "./Pressure";

type Flow = PipelineLive["nodes"][number];

interface Props extends TableToggle {
  graph: Graph;
  /** The current values of each node; empty if they are not measured. */
  nodes: Flow[];
}

const NARROW_PX = 640;
/** Below this scale, text is not readable. */
const LEAST_SCALE = 0.6;
const ZOOMS = [0.1, 0.15, 0.25, 0.4, 0.6, 0.8, 1, 1.25, 1.6];

export function GraphChart({ graph, nodes, ...rest }: Props) {
  const [place, setPlace] = useState<HTMLDivElement | null>(null);
  const width = useWidth(place);
  const [zoom, setZoom] = useState<number | null>(null);
  const direction = width > 0 && width < NARROW_PX ? "TB" : "LR";
  const isTooLarge = graph.nodes.length > MAX_NODES;
  const placed = useMemo(
    () => (width === 0 || isTooLarge ? null : layOut(graph, direction)),
    [graph, direction, width === 0, isTooLarge],
  );
  const flows = useMemo(() => new Map(nodes.map((node) => [node.id, node])), [nodes]);
  const fitting = placed && placed.width > 0 ? Math.min(1, width / placed.width) : 1;
  const scale = zoom ?? Math.max(LEAST_SCALE, fitting);
  const tools = placed && placed.nodes.length > 0 && (
    <>
      <ZoomButton name="Zoom out" sign="−" to={ZOOMS.findLast((one) => one < scale - 0.01)} onZoom={setZoom} />
      <ZoomButton name="Zoom in" sign="+" to={ZOOMS.find((one) => one > scale + 0.01)} onZoom={setZoom} />
      {fitting < 1 && <ZoomButton name="Fit the whole graph" sign="Fit" to={fitting} onZoom={setZoom} />}
    </>
  );
  return (
    <Chart title="Graph" isWide tools={tools} table={() => <GraphTable graph={graph} flows={flows} />} {...rest}>
      {/* Always rendered, so that its width is known before the layout. */}
      <div class="graph-frame" ref={setPlace} tabIndex={0} role="region" aria-label="Graph, scrollable">
        {graph.nodes.length === 0 && <p class="faint">Arroyo returned no graph for this pipeline.</p>}
        {isTooLarge && <p class="faint">A graph of {graph.nodes.length} nodes is too large to draw; the table has them.</p>}
        {placed && placed.nodes.length > 0 && <Picture placed={placed} flows={flows} scale={scale} />}
      </div>
      {graph.truncated && <p class="warn">The graph is large: these are only the first {graph.nodes.length} nodes.</p>}
    </Chart>
  );
}

function ZoomButton(props: { name: string; sign: string; to: number | undefined; onZoom: (zoom: number) => void }) {
  const { to } = props;
  return (
    <button
      type="button"
      class="small"
      aria-label={props.name}
      disabled={to === undefined}
      onClick={() => {
        if (to !== undefined) props.onZoom(to);
      }}
    >
      {props.sign}
    </button>
  );
}

function Picture({ placed, flows, scale }: { placed: Placed; flows: ReadonlyMap<number, Flow>; scale: number }) {
  const { width, height, nodes, edges } = placed;
  const sinks = useMemo(() => withoutSome(nodes, edges.map((edge) => edge.from)), [placed]);
  const sources = useMemo(() => withoutSome(nodes, edges.map((edge) => edge.to)), [placed]);
  return (
    <div class="graph-whole" style={{ width: `${width * scale}px`, height: `${height * scale}px` }}>
      <div class="graph" style={{ width: `${width}px`, height: `${height}px`, transform: `scale(${scale})` }}>
        <Edges placed={placed} />
        <ul>
          {nodes.map((node) => (
            <NodeBox
              key={node.id}
              node={node}
              flow={flows.get(node.id)}
              isSource={sources.has(node.id) && !sinks.has(node.id)}
              isSink={sinks.has(node.id) && !sources.has(node.id)}
            />
          ))}
        </ul>
      </div>
    </div>
  );
}

function withoutSome(nodes: PlacedNode[], ids: number[]): ReadonlySet<number> {
  const some = new Set(ids);
  return new Set(nodes.map((node) => node.id).filter((id) => !some.has(id)));
}

const Edges = memo(function Edges({ placed }: { placed: Placed }) {
  return (
    <svg width={placed.width} height={placed.height} aria-hidden="true">
      <defs>
        <marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
          <path d="M0 0L8 4L0 8z" class="arrow" />
        </marker>
      </defs>
      {placed.edges.map((edge, index) => (
        <path
          key={index}
          class={edge.type === "Forward" ? "edge" : "edge shuffled"}
          d={pathOf(edge.points)}
          marker-end="url(#arrow)"
        >
          <title>{edge.type}</title>
        </path>
      ))}
    </svg>
  );
});

function nodeName(node: { description: string; operator: string; id: number }): string {
  return node.description || node.operator || `node ${node.id}`;
}

interface NodeProps {
  node: PlacedNode;
  flow: Flow | undefined;
  /** Arroyo counts nothing that flows into a source or out of a sink. */
  isSource: boolean;
  isSink: boolean;
}

const NodeBox = memo(
  function NodeBox({ node, flow, isSource, isSink }: NodeProps) {
    const pressure = flow?.backpressure ?? null;
    const level = pressure === null ? "" : pressureLevel(pressure);
    return (
      <li
        class={`node ${level}`}
        title={`${nodeName(node)}\n${node.operator}, node ${node.id}`}
        style={{ left: `${node.x}px`, top: `${node.y}px`, width: `${NODE_WIDTH}px`, height: `${NODE_HEIGHT}px` }}
      >
        <span class="node-name">{nodeName(node)}</span>
        <span class="node-kind">
          {node.operator} × {node.parallelism}
        </span>
        {flow && (
          <span class="node-flow">
            <span>
              {(flow.in ?? flow.out) !== null && (
                <>
                  {!isSource && orDash(flow.in, count)} → {!isSink && orDash(flow.out, count)} <span class="faint">rows/s</span>
                </>
              )}
            </span>
            {pressure !== null && <Pressure share={pressure} />}
          </span>
        )}
      </li>
    );
  },
  (a, b) =>
    a.node === b.node &&
    a.flow?.in === b.flow?.in &&
    a.flow?.out === b.flow?.out &&
    a.flow?.backpressure === b.flow?.backpressure,
);

function GraphTable({ graph, flows }: { graph: Graph; flows: ReadonlyMap<number, Flow> }) {
  const names = new Map(graph.nodes.map((node) => [node.id, nodeName(node)]));
  return (
    <DataTable
      name="Nodes of the graph"
      head={["Node", "Operator", "Parallelism", "Rows/s in", "Rows/s out", "Backpressure", "Feeds"]}
      empty="Arroyo returned no graph for this pipeline."
      rows={graph.nodes.map((node) => {
        const flow = flows.get(node.id);
        const next = graph.edges.filter((edge) => edge.from === node.id);
        return [
          nodeName(node),
          node.operator,
          node.parallelism,
          orDash(flow?.in, count),
          orDash(flow?.out, count),
          orDash(flow?.backpressure, percent),
          next.map((edge) => `${names.get(edge.to) ?? `node ${edge.to}`} (${edge.type})`).join(", "),
        ];
      })}
    />
  );
}
