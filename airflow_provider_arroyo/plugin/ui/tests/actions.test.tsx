import { beforeEach, describe, expect, test } from "vitest";

import { possibleActions } from "../src/actions";
import type { Acted, Owner } from "../src/types";
import { asked, listOf, mountEach, root, show } from "./mounted";
import { definition, live, row } from "./rows";

const UNDER_WAY: Acted = { outcome: null, follow: { seen: 1 } };

/* What the routes respond with: a value, or a status. */
let owner: Owner | null;
let acted: Acted | Response;
let came: Acted | number;

function answerOf(path: string): unknown {
  if (path.includes("api/actions/")) return acted;
  if (path.includes("api/outcome")) return came;
  if (path.includes("pipeline/live")) return live({ row: row({ owner }) });
  if (path.includes("pipeline/definition")) return definition();
  if (path.includes("pipeline/tasks")) return { tasks: [], more: false };
  return listOf([row()]);
}

mountEach("/plugin/arroyo/pipelines/pl_1?connection=a", answerOf);

beforeEach(() => {
  acted = came = UNDER_WAY;
  owner = null;
});

async function press(...names: string[]): Promise<void> {
  for (const name of names) {
    const found = [...document.querySelectorAll("button")].find((one) => one.textContent === name);
    if (!found) throw new Error(`no button ${name} in ${root.textContent}`);
    found.click();
    await show(0);
  }
}

const outcomesAsked = () => asked.filter((one) => one.includes("api/outcome")).length;

/** Stop the pipeline on its page. */
async function stop(): Promise<void> {
  await show();
  await press("Stop…", "Stop pipeline");
}

describe("an action", () => {
  test("is in progress until the server reports its outcome, which is shown for a moment", async () => {
    await stop();
    expect(root.querySelector(".progress")?.textContent).toBe("Stopping…");
    const lives = asked.filter((one) => one.includes("pipeline/live")).length;
    await show(5);
    expect(outcomesAsked()).toBe(2);
    expect(asked.filter((one) => one.includes("pipeline/live")).length).toBeGreaterThan(lives);
    came = { outcome: { ok: true, text: "It is now Stopped." }, follow: null };
    await show(2);
    expect(root.querySelector(".progress.ok")?.textContent).toBe("It is now Stopped.");
    const count = outcomesAsked();
    await show(10);
    expect(root.querySelector(".progress")).toBeNull();
    expect(outcomesAsked()).toBe(count);
  });

  test("may be over at once", async () => {
    acted = { outcome: { ok: true, text: "It already has this parallelism." }, follow: null };
    await stop();
    expect(root.querySelector(".progress.ok")?.textContent).toBe("It already has this parallelism.");
    await show(10);
    expect(outcomesAsked()).toBe(0);
  });

  test("is asked about again if the API server fails, but not if it refuses", async () => {
    await stop();
    came = 502;
    await show(5);
    expect(root.querySelector(".progress")?.textContent).toBe("Stopping…");
    came = 422;
    await show(3);
    expect(root.querySelector(".progress.bad")?.textContent).toBe("refused 422");
    const count = outcomesAsked();
    await show(4);
    expect(outcomesAsked()).toBe(count);
  });
});

describe("an action that may have been carried out", () => {
  const buttons = () => [...root.querySelectorAll("dialog button")].map((one) => one.textContent);

  test("is followed, and cannot be repeated at once", async () => {
    acted = { ...UNDER_WAY, lost: "Arroyo's gateway responded 504." };
    await stop();
    const alert = root.querySelector("dialog [role=alert]")?.textContent;
    expect(alert).toMatch(/^The action may have been carried out.* Arroyo's gateway responded 504\.$/);
    expect(buttons()).toEqual(["Close"]);
    expect(root.querySelector(".progress")?.textContent).toBe("Stopping…");
    came = { outcome: { ok: true, text: "It is now Stopped." }, follow: null };
    await show(3);
    expect(root.querySelector(".progress.ok")?.textContent).toBe("It is now Stopped.");
    await press("Close");
    expect(root.querySelector("dialog")).toBeNull();
  });

  test.each([500, 502, 503, 504])("is not repeated if a gateway responds %d in place of the API server", async (status) => {
    acted = new Response("<html>Bad gateway</html>", { status });
    await stop();
    expect(root.querySelector("dialog [role=alert]")?.textContent).toContain(`responded with ${status}. The action may have been`);
    expect(buttons()).toEqual(["Close"]);
  });

  test("is not taken for one that our routes refused", async () => {
    acted = new Response('{"detail": "Arroyo refuses connections."}', { status: 502 });
    await stop();
    expect(root.querySelector("dialog [role=alert]")?.textContent).toBe("Arroyo refuses connections.");
    expect(buttons()).toEqual(["Cancel", "Stop pipeline"]);
  });
});

test.each([
  [null, "It belongs to task submit of DAG shop. A task"],
  [{ group: "g", name: "orders", generation: 2 }, "created by task submit of DAG shop. Another DAG may deploy it now. A task"],
])("the dialog says whose pipeline it is: %o", async (deployment, text) => {
  owner = { dag: "shop", task: "submit", run: "r", map_index: -1, namespace: "", deployment };
  await show();
  await press("Stop…");
  expect(root.querySelector("dialog")?.textContent).toContain(text);
});

test.each([
  ["Running", ["stop", "restart", "rescale"]],
  ["Stopped", ["resume", "rescale", "delete"]],
  ["Failed", ["restart", "rescale", "delete"]],
  ["Finished", ["delete"]],
  [null, []],
  ["SomethingNew", ["stop", "restart", "rescale"]],
])("%s allows %o", (state, actions) => {
  expect(possibleActions(row({ state }))).toEqual(actions);
});
