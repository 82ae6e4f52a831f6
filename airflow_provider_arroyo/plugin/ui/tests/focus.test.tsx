import { render } from "preact";
import { beforeEach, expect, test, vi } from "vitest";

import { announceShown, navigate, pageUrl, pipelineUrl } from "../src/host";
import type { PipelineLive } from "../src/types";
import { listOf, mountEach, root, show } from "./mounted";
import { definition, live, row } from "./rows";

const SEARCH = new URLSearchParams({ connection: "a" });
const LIST = "/plugin/arroyo?connection=a";

let live_: PipelineLive;

function answerOf(path: string): unknown {
  if (path.includes("pipeline/live")) return live_;
  if (path.includes("pipeline/definition")) return definition();
  if (path.includes("pipeline/tasks")) return { tasks: [], more: false };
  if (path.includes("connections")) return { connections: ["a", "b"] };
  return listOf(Array.from({ length: 200 }, (_, index) => row({ id: `pl_${index}`, name: `orders-${index}` })));
}

mountEach(LIST, answerOf);

beforeEach(() => {
  live_ = live({ row: row({ id: "pl_7", name: "orders-7" }) });
  document.title = "Airflow";
});

/* Only what has a size is in view. */
function layOutRows(): void {
  for (const size of ["clientWidth", "clientHeight"] as const) {
    vi.spyOn(HTMLElement.prototype, size, "get").mockReturnValue(1000);
  }
  vi.stubGlobal(
    "ResizeObserver",
    class {
      unobserve = vi.fn();
      disconnect = vi.fn();
      constructor(readonly callback: (entries: unknown[]) => void) {}
      observe(): void {
        this.callback([]);
      }
    },
  );
}

const heading = () => root.querySelector("h1");

test("the focus goes to the heading, which the title names, and back to the row that was left", async () => {
  await show(3);
  expect(document.title).toBe("Arroyo - Airflow");
  expect(document.activeElement).toBe(document.body);
  navigate(pipelineUrl("pl_7", SEARCH));
  await show(3);
  expect(document.activeElement).toBe(heading());
  expect(heading()?.textContent).toBe("orders-7");
  expect(document.title).toBe("orders-7 - Arroyo - Airflow");
  layOutRows();
  history.replaceState(null, "", LIST);
  dispatchEvent(new PopStateEvent("popstate"));
  await show(3);
  expect(document.activeElement?.textContent).toBe("orders-7");
  expect(document.title).toBe("Arroyo - Airflow");
  render(null, root);
  expect(document.title).toBe("Airflow");
});

test("where there is no such row, the focus stays on the list's heading", async () => {
  history.replaceState(null, "", "/plugin/arroyo/pipelines/pl_gone?connection=a");
  live_ = live({ row: null, sentence: "Not there." });
  await show(3);
  // A page that was loaded takes the focus from nobody.
  expect(document.activeElement).toBe(document.body);
  expect(heading()?.textContent).toBe("pl_gone");
  layOutRows();
  navigate(pageUrl(SEARCH));
  await show(3);
  expect(document.activeElement).toBe(heading());
  expect(heading()?.textContent).toBe("Arroyo");
});

test("the heading gets the focus also where the host puts the page elsewhere meanwhile", async () => {
  await show(3);
  root.remove();
  navigate(pipelineUrl("pl_7", SEARCH));
  await show(3);
  expect(document.activeElement).toBe(document.body);
  document.body.append(root);
  announceShown();
  expect(document.activeElement).toBe(heading());
  expect(heading()?.textContent).toBe("orders-7");
});

test("the focus stays where the user has put it meanwhile", async () => {
  await show(3);
  const elsewhere = document.createElement("button");
  root.after(elsewhere);
  elsewhere.focus();
  navigate(pipelineUrl("pl_7", SEARCH));
  await show(3);
  layOutRows();
  navigate(pageUrl(SEARCH));
  await show(3);
  expect(root.querySelector("tr.row")).not.toBeNull();
  expect(document.activeElement).toBe(elsewhere);
  elsewhere.remove();
});
