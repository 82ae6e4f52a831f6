/* The page "Arroyo": the list, or one pipeline's own page, as the address says. */

import { useEffect, useState } from "preact/hooks";

import { ListPage } from "./ListPage";
import { onAddressChange, pipelineOf } from "./host";
import { PipelinePage } from "./PipelinePage";

export function App() {
  const [pipeline, setPipeline] = useState(() => pipelineOf(location.pathname) ?? null);
  useEffect(
    () =>
      onAddressChange(() => {
        const next = pipelineOf(location.pathname);
        // Another page of Airflow's comes next: this one stays as it is until it is gone.
        if (next !== undefined) setPipeline(next);
      }),
    [],
  );
  return pipeline === null ? <ListPage /> : <PipelinePage key={pipeline} pipeline={pipeline} />;
}
