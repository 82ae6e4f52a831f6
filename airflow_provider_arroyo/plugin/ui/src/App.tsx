/* The page "Arroyo": the list or a pipeline's own page, depending on the address. */

import { useEffect, useState } from "preact/hooks";

import { ListPage } from "./ListPage";
import { onAddressChange, pipelineOf } from "./host";
import { PipelinePage } from "./PipelinePage";

interface Shown {
  /** The pipeline whose page is shown; null for the list. */
  pipeline: string | null;
  /** What was shown before, with the focus. Undefined if the page was just loaded, so that nothing has the focus. */
  left?: string | null;
}

export function App() {
  const [{ pipeline, left }, setShown] = useState<Shown>(() => ({ pipeline: pipelineOf(location.pathname) ?? null }));
  useEffect(
    () =>
      onAddressChange(() => {
        const next = pipelineOf(location.pathname);
        // Another page of Airflow follows: this one stays unchanged until it is removed.
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
