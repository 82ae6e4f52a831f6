/* The page "Arroyo": the list, or one pipeline's own page, as the address says. */

import { useEffect, useState } from "preact/hooks";

import { ListPage } from "./ListPage";
import { onAddressChange, pipelineOf } from "./host";
import { PipelinePage } from "./PipelinePage";

interface Shown {
  /** Whose page is shown; null for the list. */
  pipeline: string | null;
  /** What was shown before it: the focus was there. Undefined where the page was loaded, and the focus is nobody's. */
  left?: string | null;
}

export function App() {
  const [{ pipeline, left }, setShown] = useState<Shown>(() => ({ pipeline: pipelineOf(location.pathname) ?? null }));
  useEffect(
    () =>
      onAddressChange(() => {
        const next = pipelineOf(location.pathname);
        // Another page of Airflow's comes next: this one stays as it is until it is gone.
        if (next === undefined) return;
        setShown((last) => (last.pipeline === next ? last : { pipeline: next, left: last.pipeline }));
      }),
    [],
  );
  return pipeline === null ? (
    <ListPage left={left ?? null} />
  ) : (
    <PipelinePage key={pipeline} pipeline={pipeline} isArrival={left !== undefined} />
  );
}
