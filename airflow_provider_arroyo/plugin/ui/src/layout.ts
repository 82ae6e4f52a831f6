/* The positions of a graph's nodes and edges, computed by dagre. */

import { Graph as DagreGraph, layout } from "@dagrejs/dagre";

import type { Graph, GraphNode } from "./types";

export const NODE_WIDTH = 208;
export const NODE_HEIGHT = 92;
export const MAX_NODES = 400;
/* dagre's best ranking takes seconds for many nodes; this one takes a fraction. */
const MANY_NODES = 60;
const MARGIN = 8;
const LAYOUT_MEASURE = "arroyo layout";

export type Direction = "LR" | "TB";

export interface Point {
  x: number;
  y: number;
}

export interface PlacedNode extends GraphNode {
  /** The upper left corner. */
  x: number;
  y: number;
}

export interface PlacedEdge {
  from: number;
  to: number;
  type: string;
  points: Point[];
}

export interface Placed {
  nodes: PlacedNode[];
  edges: PlacedEdge[];
  width: number;
  height: number;
}

/** Lay out a graph. Cycles are allowed, and edges of missing nodes are left out. */
export function layOut(graph: Graph, direction: Direction): Placed {
  const nodes = [...new Map(graph.nodes.map((node) => [node.id, node])).values()];
  const known = new Set(nodes.map((node) => node.id));
  const edges = graph.edges.filter((edge) => known.has(edge.from) && known.has(edge.to));
  if (nodes.length === 0) return { nodes: [], edges: [], width: 0, height: 0 };
  const drawing = new DagreGraph({ multigraph: true });
  drawing.setGraph({
    rankdir: direction,
    ranker: nodes.length > MANY_NODES ? "tight-tree" : "network-simplex",
    nodesep: 24,
    edgesep: 12,
    ranksep: 48,
    marginx: MARGIN,
    marginy: MARGIN,
  });
  for (const node of nodes) drawing.setNode(String(node.id), { width: NODE_WIDTH, height: NODE_HEIGHT });
  edges.forEach((edge, index) => drawing.setEdge(String(edge.from), String(edge.to), {}, String(index)));
  const start = performance.now();
  layout(drawing);
  // For the browser's own tools, and for the benchmark.
  performance.measure(LAYOUT_MEASURE, { start });
  const whole = drawing.graph() as { width?: number; height?: number };
  return {
    nodes: nodes.map((node) => {
      const { x = 0, y = 0 } = drawing.node(String(node.id)) as Partial<Point>;
      return { ...node, x: x - NODE_WIDTH / 2, y: y - NODE_HEIGHT / 2 };
    }),
    edges: edges.map((edge, index) => {
      const found = drawing.edge(String(edge.from), String(edge.to), String(index)) as { points?: Point[] };
      return { ...edge, points: found.points ?? [] };
    }),
    width: whole.width ?? 0,
    height: whole.height ?? 0,
  };
}

/** Return a smooth line through the points of an edge, as the path of an SVG. */
export function pathOf(points: Point[]): string {
  const [first, ...rest] = points;
  if (!first) return "";
  const at = (point: Point) => `${point.x.toFixed(1)} ${point.y.toFixed(1)}`;
  const last = rest.at(-1);
  // Through the middles, bent towards the points.
  const bends = rest.slice(0, -1).map((point, index) => {
    const next = rest[index + 1] ?? point;
    const isLast = index === rest.length - 2;
    return `Q${at(point)} ${at(isLast ? next : { x: (point.x + next.x) / 2, y: (point.y + next.y) / 2 })}`;
  });
  return `M${at(first)}${bends.join("") || (last ? `L${at(last)}` : "")}`;
}
