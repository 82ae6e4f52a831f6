import { beforeEach, describe, expect, test, vi } from "vitest";

import { TaskTab } from "../src/TaskTab";
import { navigate, pageUrl, pipelineUrl } from "../src/host";
import type { PipelineDefinition, PipelineLive, PipelineTasks, TaskResponse } from "../src/types";
import { asked, listOf, mountEach, root, show } from "./mounted";
import { definition, graphNode, live, row } from "./rows";

const SEARCH = "connection=a&state=Failed&q=orders";
const HOSTILE = "<img src=x onerror=alert(1)>";

/* What the routes respond with: a value, or a status. */
let live_: PipelineLive | number;
let definition_: PipelineDefinition | number;
let tasks_: PipelineTasks | number;
let task_: TaskResponse;

function answerOf(path: string): unknown {
  if (path.includes("pipeline/live")) return live_;
  if (path.includes("pipeline/definition")) return definition_;
  if (path.includes("pipeline/tasks")) return tasks_;
  if (path.includes("api/task?")) return task_;
  if (path.includes("connections")) return { connections: ["a", "b"] };
  return listOf([row()]);
}

mountEach(`/plugin/arroyo/pipelines/pl_1?${SEARCH}`, answerOf);

beforeEach(() => {
  live_ = live();
  definition_ = definition();
  tasks_ = { tasks: [], more: false };
  task_ = {
    connection_id: "a",
    pipeline_id: "pl_1",
    pipeline_name: "orders",
    transitions: [{ at: 5, state: "Created" }],
    state: "running",
    may_read: true,
  };
});

function button(name: string, within: ParentNode = root): HTMLButtonElement {
  const found = [...within.querySelectorAll("button")].find((one) => one.textContent === name);
  if (!found) throw new Error(`no button ${name} in ${root.textContent}`);
  return found;
}

function section(title: string): HTMLElement {
  const heading = [...root.querySelectorAll("h2")].find((one) => one.textContent === title);
  const found = heading?.closest("section");
  if (!found) throw new Error(`no section ${title} in ${root.textContent}`);
  return found;
}

describe("the page of a pipeline", () => {
  test("says what it is, what it does, and what is wrong with it", async () => {
    const owner = { dag: "shop", task: "deploy", run: "r", map_index: -1, namespace: "here" };
    live_ = live({
      row: row({ owner: { ...owner, deployment: { group: "daily", name: "orders", generation: 7 } } }),
      sentence: "It runs, with high backpressure.",
      diagnosis: { kind: "slow", summary: "The sink is slow.", details: ["90 %"], advice: "Scale it up.", is_fault: true },
      missing: ["Checkpoints: Arroyo responded 500."],
      errors: [{ at: 900, operator: "sink_3", message: "no route", details: "", domain: "external", task: 2 }],
    });
    definition_ = definition({ tags: { team: "data" }, label: { "airflow.dag": "shop" } });
    const text = await show();
    for (const part of [
      "It runs, with high backpressure.",
      "The sink is slow.90 %Scale it up.",
      "daily / orders, generation 7",
      "shop.deploy",
      "team=data",
      "airflow.dag=shop",
      "Checkpoints: Arroyo responded 500.",
      "no route",
      "in sink_3, subtask 2",
      "a system that the pipeline talks to",
      "SELECT 1",
    ]) {
      expect(text).toContain(part);
    }
  });

  test("asks for what changes every two seconds, for the rest only where it changed, and for nothing when hidden", async () => {
    await show(6);
    const count = (part: string) => asked.filter((one) => one.includes(part)).length;
    expect(count("pipeline/live")).toBeGreaterThanOrEqual(3);
    expect(count("pipeline/live")).toBeLessThanOrEqual(4);
    expect(count("pipeline/definition")).toBe(1);
    expect(count("pipeline/tasks")).toBe(1);
    live_ = live({ row: row({ parallelism: 2 }) });
    await show(3);
    expect(count("pipeline/definition")).toBe(2);
    vi.spyOn(document, "visibilityState", "get").mockReturnValue("hidden");
    await show(3);
    const before = asked.length;
    await show(60);
    expect(asked.length).toBe(before);
    vi.restoreAllMocks();
    document.dispatchEvent(new Event("visibilitychange"));
    await show(0.1);
    expect(asked.length).toBeGreaterThan(before);
  });

  test("each chart can be read as a table, which the address keeps", async () => {
    live_ = live({
      nodes: [{ id: 1, in: 5, out: null, backpressure: 0.9 }],
      rates: { at: [10, 12], in: [1, null], out: [7, 8], backpressure: [0.25, 0.5] },
      checkpoints: [{ epoch: 41, type: "stopping", began: 10, finished: 12, bytes: 2048 }],
    });
    await show();
    for (const [title, part] of [
      ["States", "Running"],
      ["Graph", "90 %"],
      ["Rates", "25 %"],
      ["Checkpoints", "2.05 kB"],
    ] as const) {
      button("Table", section(title)).click();
      await show(0);
      expect(section(title).querySelector("table")?.textContent).toContain(part);
    }
    expect(location.search).toBe(`?${SEARCH}&table=states&table=graph&table=rates&table=checkpoints`);
    button("Table", section("Graph")).click();
    await show(0);
    expect(section("Graph").querySelector("table")).toBeNull();
    expect(location.search).not.toContain("graph");
  });

  test("a pipeline that is deleted meanwhile keeps what was known of it, and nothing can be done with it", async () => {
    await show();
    button("Stop…");
    live_ = live({ row: null, changes: [], sentence: "There is no such pipeline." });
    const text = await show(3);
    expect(text).toContain("There is no such pipeline. This page shows what was last known about it.");
    expect(text).toContain("SELECT 1");
    expect(() => button("Stop…")).toThrow("no button");
  });

  test.each<[string, () => void, string[]]>([
    [
      "an id that nobody knows",
      () => {
        live_ = live({ row: null, sentence: "Not there." });
        definition_ = 404;
      },
      ["pl_1", "Not there."],
    ],
    [
      "an Arroyo that is away",
      () => {
        live_ = live({ row: null, seen_at: null, error: "Arroyo is away.", sentence: "Nothing is known." });
      },
      ["Arroyo is away."],
    ],
    ["a connection that may not be read", () => (live_ = 403), ["refused 403"]],
    [
      "a definition and tasks that cannot be had",
      () => {
        definition_ = 502;
        tasks_ = 500;
      },
      ["refused 502", "refused 500", "It runs."],
    ],
    [
      "nothing but a row",
      () => {
        live_ = live({ row: row({ state: null, since: null, job: null, parallelism: null, interval: null }), changes: [] });
        definition_ = definition({ graph: { nodes: [], edges: [], truncated: false }, sql: "" });
      },
      ["Arroyo returned no graph", "Arroyo returned no SQL", "Nothing has been measured yet", "No checkpoints yet"],
    ],
    [
      "a graph with a circle, and one that is cut off",
      () => {
        const edges = [{ from: 0, to: 1, type: "Forward" }, { from: 1, to: 0, type: HOSTILE }]; // prettier-ignore
        definition_ = definition({ graph: { nodes: [graphNode(0), graphNode(1)], edges, truncated: true } });
      },
      ["only the first 2 nodes"],
    ],
    [
      "parts that no page can read",
      () => {
        live_ = { ...live(), errors: [null], checkpoints: [{}, null] } as unknown as PipelineLive;
        definition_ = { ...definition(), graph: null, udfs: null } as unknown as PipelineDefinition;
      },
      ["It runs.", "The graph cannot be shown", "The errors cannot be shown", "The SQL cannot be shown", "States"],
    ],
  ])("%s is shown with a word of what is missing", async (_name, arrange, words) => {
    arrange();
    const text = await show(3);
    for (const word of words) expect(text).toContain(word);
  });

  test("everything of the server's is text", async () => {
    live_ = live({
      row: row({ id: HOSTILE, name: HOSTILE, failure: { text: HOSTILE, domain: HOSTILE } }),
      sentence: HOSTILE,
      changes: [[1, HOSTILE, 1]],
      errors: [{ at: Infinity, operator: HOSTILE, message: HOSTILE, details: HOSTILE, domain: "__proto__", task: null }],
      console: "javascript:alert(1)",
    });
    definition_ = definition({
      sql: `SELECT '${HOSTILE}'`,
      udfs: [{ name: HOSTILE, language: HOSTILE, definition: HOSTILE }],
      tags: { [HOSTILE]: HOSTILE },
      diff: { from_generation: 1, to_generation: 2, other_id: HOSTILE, text: `+${HOSTILE}\n-${HOSTILE}` },
      graph: { nodes: [{ ...graphNode(0), operator: HOSTILE, description: HOSTILE }], edges: [], truncated: false },
    });
    tasks_ = {
      tasks: [
        {
          dag_id: HOSTILE,
          run_id: "../../x?y#z",
          task_id: HOSTILE,
          map_index: -1,
          operator: HOSTILE,
          state: "constructor",
          start: null,
          end: null,
          via: "xcom",
          transitions: [{ at: 5, state: HOSTILE }],
        },
      ],
      more: true,
    };
    const text = await show(3);
    expect(text.split(HOSTILE).length).toBeGreaterThan(12);
    expect(root.querySelector("img, script, iframe")).toBeNull();
    for (const link of root.querySelectorAll("a")) expect(link.protocol).toMatch(/^https?:$/);
  });

  test("who may not act has no buttons", async () => {
    live_ = live({ may_act: false });
    expect(await show()).not.toContain("Stop…");
  });
});

test("from the list to a pipeline and back the filters stay", async () => {
  history.replaceState(null, "", `/plugin/arroyo?${SEARCH}`);
  expect(await show(3)).toContain("of 1 pipeline");
  navigate(pipelineUrl("pl_1", new URLSearchParams(SEARCH)));
  expect(await show(3)).toContain("It runs.");
  const back = [...root.querySelectorAll("a")].find((one) => one.textContent.includes("All pipelines"));
  expect(back?.href).toBe(pageUrl(new URLSearchParams(SEARCH)));
  back?.click();
  expect(await show(3)).toContain("of 1 pipeline");
  expect(root.querySelector<HTMLInputElement>("input[type=search]")?.value).toBe("orders");
});

describe("the tab of a task", () => {
  const tab = <TaskTab host={{ dagId: "shop", runId: "r", taskId: "submit" }} />;

  test("has the charts of the pipeline, and leads to its page", async () => {
    const text = await show(3, tab);
    for (const part of ["It runs.", "States this task saw", "Created"]) expect(text).toContain(part);
    for (const title of ["Rates", "Checkpoints", "Graph"]) expect(section(title)).toBeTruthy();
    const links = [...root.querySelectorAll("a")].map((link) => link.href);
    expect(links).toContain(pipelineUrl("pl_1", new URLSearchParams({ connection: "a" })));
  });

  test("of another pipeline, which a later try has, nothing of the first one is left", async () => {
    const rates = (...at: number[]) => ({ at, in: at, out: at, backpressure: at.map(() => 0) });
    live_ = live({ rates: rates(10, 12) });
    await show(3, tab);
    task_ = { ...task_, pipeline_id: "pl_2" };
    live_ = live({ row: row({ id: "pl_2" }), rates: rates(100, 102, 104) });
    await show(8);
    button("Table", section("Rates")).click();
    await show(0);
    expect(section("Rates").querySelectorAll("tbody tr")).toHaveLength(3);
  });

  test("asks nothing of an Arroyo whose connection the user may not read", async () => {
    task_ = { ...task_, may_read: false };
    expect(await show(3, tab)).toContain("You may not read the Airflow connection a");
    expect(asked.filter((one) => one.includes("api/pipeline"))).toEqual([]);
  });
});
