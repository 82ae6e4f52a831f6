import { describe, expect, test } from "vitest";

import { layOut, NODE_WIDTH, pathOf } from "../src/layout";
import type { Graph } from "../src/types";
import { graphNode } from "./rows";

function graph(count: number, edges: [number, number][]): Graph {
  return {
    nodes: Array.from({ length: count }, (_, id) => graphNode(id)),
    edges: edges.map(([from, to]) => ({ from, to, type: "Forward" })),
    truncated: false,
  };
}

describe("the layout of a graph", () => {
  test("rows flow from left to right, or from top to bottom where it is narrow", () => {
    const wide = layOut(graph(3, [[0, 1], [1, 2]]), "LR"); // prettier-ignore
    const [a, b, c] = wide.nodes.map((node) => node.x);
    expect(a).toBeLessThan(b ?? 0);
    expect(b).toBeLessThan(c ?? 0);
    expect(wide.width).toBeGreaterThan(3 * NODE_WIDTH);
    const narrow = layOut(graph(3, [[0, 1], [1, 2]]), "TB"); // prettier-ignore
    expect(narrow.width).toBeLessThan(2 * NODE_WIDTH);
    expect(wide.edges.map((edge) => edge.points.length >= 2)).toEqual([true, true]);
  });

  test.each<[string, Graph, number]>([
    ["no node", graph(0, []), 0],
    ["nodes without edges", graph(3, []), 0],
    ["a circle", graph(3, [[0, 1], [1, 2], [2, 0]]), 3], // prettier-ignore
    ["a node that leads to itself", graph(1, [[0, 0]]), 1],
    ["edges of nodes that are not there", graph(2, [[0, 9], [7, 1], [0, 1]]), 1], // prettier-ignore
    ["two edges between the same nodes", graph(2, [[0, 1], [0, 1]]), 2], // prettier-ignore
    ["the same node twice", { nodes: [graphNode(0), graphNode(0)], edges: [], truncated: false }, 0],
  ])("%s", (_name, found, edges) => {
    const placed = layOut(found, "LR");
    expect(placed.edges).toHaveLength(edges);
    for (const { x, y } of placed.nodes) expect([x, y].every(Number.isFinite)).toBe(true);
    for (const edge of placed.edges) expect(pathOf(edge.points)).toMatch(/^M[\d.-]+ /);
  });

  test("two hundred nodes take a moment", () => {
    const edges: [number, number][] = [];
    for (let id = 1; id < 200; id += 1) edges.push([Math.max(0, id - 1 - ((id * 7) % 6)), id]);
    for (let id = 0; id < 190; id += 5) edges.push([id, id + 3 + (id % 7)]);
    layOut(graph(20, []), "LR");
    const began = performance.now();
    expect(layOut(graph(200, edges), "LR").nodes).toHaveLength(200);
    // It is a tenth of a second here; the margin is for a machine that does much else.
    expect(performance.now() - began).toBeLessThan(5000);
  });
});

test.each([
  [[], ""],
  [[[1, 2]], "M1.0 2.0"],
  [[[1, 2], [3, 4]], "M1.0 2.0L3.0 4.0"], // prettier-ignore
  [[[0, 0], [2, 2], [4, 0]], "M0.0 0.0Q2.0 2.0 4.0 0.0"], // prettier-ignore
])("the path through %j is %s", (points, path) => {
  expect(pathOf(points.map(([x = 0, y = 0]) => ({ x, y })))).toBe(path);
});
