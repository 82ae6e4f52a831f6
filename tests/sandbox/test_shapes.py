"""Every response keeps the shape that strict clients require, at every moment of a pipeline's life."""

from __future__ import annotations

import jsonschema

from airflow_provider_arroyo.sandbox import ArroyoSandbox
from tests.sandbox.shapes import shapes
from tests.sandbox.support import Caller


def test_answers_keep_their_shape_through_a_whole_life(sandbox: ArroyoSandbox, call: Caller) -> None:
    wanted = {
        name: jsonschema.Draft202012Validator(shape) for name, shape in shapes(sandbox.arroyo_version).items()
    }
    udf = {"definition": "#[udf]\nfn one(x: i64) -> i64 { x }"}
    sandbox.faults.fail("bad", error="boom", domain="external")
    ids = [call.create("good", udfs=[udf]), call.create("bad")]
    events = {
        10: ("PATCH", "", {"parallelism": 2}),
        18: ("POST", "/restart", {}),
        26: ("PATCH", "", {"stop": "checkpoint"}),
        32: ("PATCH", "", {"stop": "none"}),
        39: ("PATCH", "", {"stop": "force"}),
    }
    states = set()
    validated = 0
    for moment in range(44):
        sandbox.advance(0.34 if moment else 0)
        if moment in events:
            method, path, body = events[moment]
            assert call(method, f"/pipelines/{ids[0]}{path}", body).status_code == 200
        for pipeline_id in ids:
            job = call.job(pipeline_id)
            states.add(job["state"])
            below = f"/pipelines/{pipeline_id}/jobs/{job['id']}"
            paths = {
                f"/pipelines/{pipeline_id}": "pipeline",
                "/pipelines?limit=5": "pipelines",
                "/jobs": "jobs",
                f"/pipelines/{pipeline_id}/jobs": "jobs",
                f"{below}/checkpoints": "checkpoints",
                f"{below}/errors": "errors",
                f"{below}/operator_metric_groups": "metrics",
            }
            if job["run_id"] and (listed := call.checkpoints(pipeline_id)):
                epoch = listed[-1]["epoch"]
                paths[f"{below}/checkpoints/{epoch}/operator_checkpoint_groups"] = "operators"
            for path, shape in paths.items():
                answer = call("GET", path)
                assert answer.status_code == 200
                wanted[shape].validate(answer.json())
                validated += 1
    assert validated > 600
    assert {"Created", "Scheduling", "Running", "Stopped", "Failed"} <= states
