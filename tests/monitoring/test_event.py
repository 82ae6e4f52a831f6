"""An unreadable event of a trigger is never mistaken for a success."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_arroyo.monitoring.event import EVENT_VERSION, UnreadableEventError, WaitEvent
from airflow_provider_arroyo.monitoring.outcome import Outcome
from airflow_provider_arroyo.monitoring.plan import PipelineRef
from airflow_provider_arroyo.monitoring.result import WaitResult
from tests.monitoring.support import ORDERS, job
from tests.monitoring.test_result import results
from tests.monitoring.wait_histories import json_values

pipelines = st.builds(
    PipelineRef, pipeline_id=st.text(), name=st.none() | st.text(), console_url=st.none() | st.text()
)
REACHED = WaitResult(outcome=Outcome.REACHED, target_states=("Running",), job=job())


def written(*without: str, **changes: Any) -> dict[str, Any]:
    event = WaitEvent(pipeline=ORDERS, result=REACHED, resume_context={"a": 1})
    return {key: value for key, value in {**event.to_dict(), **changes}.items() if key not in without}


@settings(deadline=None)
@given(pipelines, results.filter(lambda r: r.is_over), st.dictionaries(st.text(), json_values, max_size=3))
def test_an_event_is_read_as_it_was_written(
    pipeline: PipelineRef, result: WaitResult, resume_context: dict[str, Any]
) -> None:
    event = WaitEvent(pipeline=pipeline, result=result, resume_context=resume_context)
    data = json.loads(json.dumps({**event.to_dict(), "of_a_later_version": [1]}))
    assert WaitEvent.from_dict(data) == event
    assert data["version"] == EVENT_VERSION


def test_an_event_of_an_older_version_may_lack_optional_fields() -> None:
    read = WaitEvent.from_dict(written("version", "resume_context", pipeline={"pipeline_id": "pl_1"}))
    assert read == WaitEvent(pipeline=PipelineRef(pipeline_id="pl_1"), result=REACHED)


UNREADABLE: dict[str, Any] = {
    "None": None,
    "a text": "success",
    "a number": 1,
    "True": True,
    "a list": [written()],
    "empty": {},
    "of another provider": {"status": "success", "job_id": "x"},
    "a newer version": written(version=EVENT_VERSION + 1),
    "a version that is a text": written(version="new"),
    "an infinite version": written(version=float("inf")),
    "a version of None": written(version=None),
    "no result": written("result"),
    "a result of None": written(result=None),
    "a result that is a text": written(result="reached"),
    "an empty result": written(result={}),
    "a wait that is not over": written(result=WaitResult(outcome=Outcome.WAITING, job=job()).to_dict()),
    "an unknown outcome": written(result={**REACHED.to_dict(), "outcome": "triumph"}),
    "a goal that no job reached": written(result={**REACHED.to_dict(), "job": None}),
    "a job without a state": written(result={**REACHED.to_dict(), "job": {"id": "x"}}),
    "no pipeline": written("pipeline"),
    "a pipeline of None": written(pipeline=None),
    "a pipeline that is a text": written(pipeline="pl_1"),
    "a pipeline without an id": written(pipeline={"name": "orders"}),
    "a pipeline id that is a number": written(pipeline={"pipeline_id": 7}),
    "a context of None": written(resume_context=None),
    "a context that is a text": written(resume_context="abc"),
    "a context that is a list": written(resume_context=[1]),
}


@pytest.mark.parametrize("data", UNREADABLE.values(), ids=list(UNREADABLE))
def test_an_unreadable_event_says_what_to_do(data: Any) -> None:
    with pytest.raises(UnreadableEventError) as caught:
        WaitEvent.from_dict(data)
    assert isinstance(caught.value, ValueError)
    text = str(caught.value)
    assert text.startswith("The trigger's event cannot be read: ")
    assert text.endswith(
        "Triggerer and worker must run the same version of airflow-provider-arroyo; a new try waits again. "
        "The pipeline was not touched."
    )


outcomes = st.one_of(st.sampled_from([str(outcome) for outcome in Outcome]), json_values)
result_like = st.fixed_dictionaries(
    {"outcome": outcomes}, optional={"job": json_values, "target_states": json_values, "error": json_values}
)
event_like = st.fixed_dictionaries(
    {},
    optional={
        "version": json_values,
        "pipeline": st.fixed_dictionaries({"pipeline_id": json_values}) | json_values,
        "resume_context": json_values,
        "result": result_like | json_values,
    },
)


@settings(deadline=None)
@given(json_values | event_like)
def test_any_value_is_unreadable_or_names_a_pipeline_and_an_outcome(data: Any) -> None:
    try:
        event = WaitEvent.from_dict(data)
    except UnreadableEventError:
        return
    assert isinstance(event.pipeline.pipeline_id, str)
    assert event.result.is_over
    assert event.result.outcome is not Outcome.REACHED or event.result.job is not None
