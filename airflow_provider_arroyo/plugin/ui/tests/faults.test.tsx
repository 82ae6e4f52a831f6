import { render } from "preact";
import { beforeEach, describe, expect, test, vi } from "vitest";

import { TaskTab } from "../src/TaskTab";
import { RowCells } from "../src/components/RowCells";
import { moment } from "../src/format";
import type { Details, PipelineLive } from "../src/types";
import { listOf, mountEach, root, show } from "./mounted";
import { definition, live, row } from "./rows";

/* What the routes respond with: a value, a status, or a response of something else. */
let live_: PipelineLive | Response;
let list_: object | Response;
let transitions_: unknown[];

function answerOf(path: string): unknown {
  if (path.includes("pipeline/live")) return live_;
  if (path.includes("pipeline/definition")) return definition();
  if (path.includes("pipeline/tasks")) return { tasks: [], more: false };
  if (path.includes("api/actions/")) return undefined;
  if (path.includes("api/task?")) {
    return { connection_id: "a", pipeline_id: "pl_1", pipeline_name: "orders", transitions: transitions_, state: "running", may_read: true };
  }
  return list_;
}

const PAGE = "/plugin/arroyo/pipelines/pl_1?connection=a";
const LIST = "/plugin/arroyo?connection=a";

mountEach(PAGE, answerOf);

beforeEach(() => {
  live_ = live();
  list_ = listOf([row()]);
  transitions_ = [];
});

const details = (part: Partial<Details>): Details => ({ checkpoint: null, rates: null, error: null, unread: {}, ...part });
const html = () => new Response("<html><form>Log in</form></html>", { headers: { "Content-Type": "text/html" } });

describe("a response of something that is not our API server", () => {
  test.each([PAGE, LIST])("is taken for a lost login on %s", async (address) => {
    history.replaceState(null, "", address);
    live_ = list_ = html();
    expect(await show(2)).toContain("You may have been logged out: reload the page.");
  });

  test("is not quoted", async () => {
    history.replaceState(null, "", LIST);
    list_ = { rows: null };
    expect(await show(2)).toContain("This page cannot use the response of Airflow's API server.");
  });

  test("does not hide what was known", async () => {
    await show(1);
    live_ = html();
    const text = await show(3);
    expect(text).toContain("You may have been logged out");
    expect(text).toContain("It runs.");
  });
});

describe("a part that was never read", () => {
  const words = {
    checkpoints: "No checkpoints yet.",
    metrics: "Nothing has been measured yet.",
    errors: "No errors logged.",
  };

  test.each(Object.entries(words))("%s is not called empty", async (part, empty) => {
    const missing = ["Some: Arroyo responded 500.", "Other: Arroyo responded 404."];
    live_ = live({ missing, details: details({ unread: { [part]: "Arroyo responded 500." } }) });
    const text = await show(2);
    expect(text.split("Arroyo responded 500.")).toHaveLength(2);
    expect(text).toContain("Could not be read: Arroyo responded 500.");
    expect(root.querySelector(".notice.warning")?.textContent).toBe("Could not be read: Other: Arroyo responded 404.");
    expect(text).not.toContain(empty);
    live_ = live({ details: details({ unread: { [part]: "" } }) });
    expect(await show(3)).toContain("Loading…");
    live_ = live({ details: details({}) });
    expect(await show(3)).toContain(empty);
  });

  test("is not called empty in the list, either", async () => {
    const unread = { metrics: "Arroyo responded 500.", checkpoints: "Arroyo responded 404." };
    const props = { index: 2, pending: undefined, missing: undefined, now: 0, began: 0, consoleUrl: null, namespace: null, search: "" };
    const cells = <RowCells {...props} row={row()} details={details({ unread })} onAct={undefined} onExplain={vi.fn()} />;
    await show(0, <table>{cells}</table>);
    const titles = [...root.querySelectorAll("[title^='Arroyo responded']")].map((one) => one.getAttribute("title"));
    expect(titles).toEqual([unread.checkpoints, unread.metrics]);
  });

  test("is not called empty in the tab of a task", async () => {
    live_ = live({ details: details({ unread: { metrics: "Arroyo responded 500.", checkpoints: "" } }) });
    const text = await show(2, <TaskTab host={{ dagId: "shop", runId: "r", taskId: "submit" }} />);
    expect(text).toContain("Could not be read: Arroyo responded 500.");
    expect(text).not.toContain("No checkpoints yet.");
    expect(text).not.toContain("?");
  });
});

describe("an action", () => {
  const press = async (name: string) => {
    const found = [...root.querySelectorAll("button")].find((one) => one.textContent === name);
    if (!found) throw new Error(`no button ${name} in ${root.textContent}`);
    found.click();
    await show(0);
  };

  test("says so if the pipeline's state no longer allows it", async () => {
    await show(1);
    await press("Stop…");
    expect(root.querySelector("dialog")?.textContent).not.toContain("changed");
    live_ = live({ row: row({ state: "Stopped" }) });
    await show(3);
    expect(root.querySelector("dialog")?.textContent).toContain("Its state has changed");
    expect(root.querySelector("dialog .badge")?.textContent).toBe("Stopped");
  });

  test("that gets no response may have been carried out", async () => {
    await show(1);
    await press("Stop…");
    await press("Stop pipeline");
    await press("Waiting for Arroyo…");
    await show(31);
    expect(root.querySelector("dialog [role=alert]")?.textContent).toContain("may have been carried out");
    expect([...root.querySelectorAll("dialog button")].map((one) => one.textContent)).toEqual(["Close"]);
  });
});

describe("what the address names", () => {
  test.each(["sort=nonsense", "sort=-rates", "sort=-", "state=%3Cimg%3E&owner=dag:none&q=%00", `q=${"x".repeat(5000)}`])(
    "%s breaks nothing",
    async (search) => {
      history.replaceState(null, "", `${LIST}&${search}`);
      expect(await show(2)).toContain("1 pipeline");
    },
  );
});

describe("the owner", () => {
  const owner = { dag: "shop", task: "submit", run: "r", map_index: -1, namespace: "there", deployment: null };

  test.each([["there", 1], ["here", 0], [null, 1]])("in Airflow %s has %d links", async (namespace, links) => {
    live_ = live({ row: row({ owner }), namespace });
    const text = await show(1);
    expect(text).toContain("shop.submit");
    expect([...root.querySelectorAll("a")].filter((one) => one.textContent === "shop.submit")).toHaveLength(links);
    const props = { index: 2, pending: undefined, missing: undefined, now: 0, began: 0, consoleUrl: null, search: "" };
    const cells = <RowCells {...props} row={row({ owner })} details={undefined} namespace={namespace} onAct={undefined} onExplain={vi.fn()} />;
    render(<table>{cells}</table>, root);
    expect(root.querySelectorAll(".c-owner a")).toHaveLength(links);
    expect(root.querySelector(".c-owner .second")?.textContent).toBe(links ? "r" : "namespace there");
  });
});

test.each(["dag", undefined] as const)("a deployment whose DAG is missing (%s) may belong to another one", async (missing) => {
  const deployment = { group: "g", name: "orders", generation: 2 };
  const owner = { dag: "shop", task: "submit", run: "r", map_index: -1, namespace: "", deployment };
  const props = { index: 2, pending: undefined, now: 0, began: 0, consoleUrl: null, namespace: "", search: "" };
  const cells = <RowCells {...props} row={row({ owner })} details={undefined} missing={missing} onAct={undefined} onExplain={vi.fn()} />;
  await show(0, <table>{cells}</table>);
  expect(root.querySelector(".c-owner .second")?.textContent).toBe(missing ? "first DAG is gone" : "generation 2, by shop");
  const isNamed = root.querySelector(".c-owner [title]")?.getAttribute("title")?.includes("Another DAG may deploy it now.");
  expect(isNamed).toBe(missing === "dag");
});

test("a time that no calendar has is left out", async () => {
  transitions_ = [{ at: 1e300, state: "Created" }, { at: 5, state: "Running" }];
  live_ = live({ row: row({ since: 1e300 }), changes: [[1e300, "Running", 1]], began: 1e300 });
  const text = await show(2, <TaskTab host={{ dagId: "shop", runId: "r", taskId: "submit" }} />);
  expect(text).toContain("Running");
  expect(text).not.toContain("Created");
  render(null, root);
  expect(await show(2)).toContain("It runs.");
});

test("times are in the time zone that was chosen in Airflow", () => {
  const at = Date.UTC(2026, 0, 1, 12) / 1000;
  localStorage.setItem("timezone", '"Asia/Tokyo"');
  expect(moment(at)).toContain("9:00:00");
  localStorage.setItem("timezone", '"UTC"');
  expect(moment(at)).toContain("12:00:00");
  for (const wrong of ["Mars/Crater", '"Mars/Crater"', "{}", "null"]) {
    localStorage.setItem("timezone", wrong);
    expect(moment(at)).toContain(":00:00");
  }
  localStorage.clear();
});
