"""The plan of a deploy, made from what is wanted and what was found, without any requests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.client.models import Job, Pipeline, PipelineGraph, PipelineNode
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.pipelines.choices import Strategy
from airflow_provider_arroyo.pipelines.deploy_plan import Generation, Step, plan_deploy
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from tests.support import ENDLESS

SPEC = PipelineSpec(
    name="orders", query=ENDLESS, checkpoint_interval=timedelta(seconds=10), tags={"team": "a"}
)
OTHER_SQL = replace(SPEC, query="SELECT 2")


def generation(
    number: int = 1,
    state: str = "Running",
    *,
    query: str = ENDLESS,
    wanted: bool = True,
    run_id: int = 1,
    has_checkpoint: bool | None = None,
) -> Generation:
    graph = PipelineGraph(nodes=(PipelineNode(node_id=0, parallelism=1),))
    pipeline = Pipeline(
        id=f"pl_{number}",
        name="orders",
        query=query,
        checkpoint_interval_micros=10_000_000,
        graph=graph,
        tags={"team": "a"},
    )
    job = Job(id=f"job_{number}", state=state, run_id=run_id, running_desired=wanted)
    return Generation(number=number, pipeline=pipeline, job=job, has_checkpoint=has_checkpoint)


C, P, S, R, N, D, V = (
    Step.CHANGE,
    Step.PROVE,
    Step.STOP_OLD,
    Step.RETIRE,
    Step.CREATE,
    Step.DISCARD,
    Step.VALIDATE,
)
AS_IT_IS: list[tuple[str, bool, str, tuple[Step, ...]]] = [
    # state, running_desired, action, steps
    ("Running", True, "unchanged", ()),
    ("Finishing", True, "unchanged", ()),
    ("Finished", True, "unchanged", ()),
    ("Finished", False, "unchanged", ()),
    ("Scheduling", True, "created", (P,)),
    ("Created", True, "created", (P,)),
    ("Recovering", True, "unchanged", (P,)),
    ("Hibernating", True, "unchanged", (P,)),
    ("Stopped", False, "resumed", (C, P)),
    ("Stopped", True, "resumed", (C, P)),
    ("Running", False, "resumed", (C, P)),
    ("CheckpointStopping", False, "resumed", (C, P)),
    ("Failing", True, "restarted", (C, P)),
    ("Failed", True, "restarted", (C, P)),
    ("Failed", False, "restarted", (C, P)),
]


@pytest.mark.parametrize("state,wanted,action,steps", AS_IT_IS)
def test_plans_for_an_equal_definition(
    state: str, wanted: bool, action: str, steps: tuple[Step, ...]
) -> None:
    plan = plan_deploy(SPEC, [generation(state=state, wanted=wanted)])
    assert (plan.action, plan.steps, plan.generation, plan.can_roll_back) == (action, steps, 1, False)
    assert plan.changes == plan.not_applied == ()


@pytest.mark.parametrize(
    "change,state,action,steps",
    [
        ({"parallelism": 2}, "Running", "updated", (C, P)),
        ({"parallelism": 2}, "Recovering", "updated", (C, P)),
        ({"parallelism": 2}, "Stopped", "resumed", (C, P)),
        ({"parallelism": 2}, "Failed", "restarted", (C, P)),
        ({"parallelism": 2}, "Finished", "unchanged", ()),
        ({"parallelism": 2}, "Finishing", "unchanged", ()),
        ({"checkpoint_interval": timedelta(seconds=5)}, "Running", "updated", (C,)),
        ({"checkpoint_interval": timedelta(seconds=5)}, "Rescaling", "updated", (C, P)),
        ({"checkpoint_interval": None}, "Running", "unchanged", ()),
        ({"env_vars": {"A": "1"}}, "Running", "updated", (C, P)),
        ({"scheduler_config": {"a": 1}}, "Running", "updated", (C, P)),
    ],
)
def test_plans_for_patches(change: dict[str, Any], state: str, action: str, steps: tuple[Step, ...]) -> None:
    found = generation(state=state, wanted=state != "Stopped")
    plan = plan_deploy(replace(SPEC, **change), [found])
    assert (plan.action, plan.steps) == (action, steps)
    in_plan = {
        one.argument for one in (plan.not_applied if state in ("Finished", "Finishing") else plan.changes)
    }
    assert in_plan == (set(change) if change != {"checkpoint_interval": None} else set())


def test_a_scheduler_config_is_compared_as_the_server_reads_it() -> None:
    """Otherwise, each deploy would find it changed, and restart the pipeline."""
    wanted = replace(SPEC, scheduler_config={"labels": {1: "a"}, "ports": (1, 2)})
    found = generation()
    assert found.job is not None
    job = replace(found.job, scheduler_config={"labels": {"1": "a"}, "ports": [1, 2]})
    plan = plan_deploy(wanted, [replace(found, job=job)])
    assert (plan.action, plan.steps) == ("unchanged", ())


@pytest.mark.parametrize("change", [{"tags": {"team": "b"}}, {"state_url": "s3://x"}])
def test_differences_that_cannot_be_patched_do_not_cause_a_replace(change: dict[str, Any]) -> None:
    plan = plan_deploy(replace(SPEC, **change), [generation()])
    assert (plan.action, plan.steps) == ("unchanged", ())
    assert {one.argument for one in plan.not_applied} == set(change)
    replaced = plan_deploy(replace(OTHER_SQL, **change), [generation()])
    assert set(change) < {one.argument for one in replaced.changes}
    assert replaced.not_applied == ()


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize(
    "state,wanted,stops",
    [("Running", True, True), ("Stopping", False, True), ("Stopped", False, False), ("Failed", True, False)],
)
@pytest.mark.parametrize("spec", [OTHER_SQL, replace(SPEC, udfs=(Udf("fn", "rust"),))])
def test_plans_for_another_definition(
    spec: PipelineSpec, state: str, wanted: bool, stops: bool, strategy: Strategy
) -> None:
    plan = plan_deploy(spec, [generation(3, state, wanted=wanted)], strategy=strategy)
    stop = (S,) if stops else ()
    expected = (V, *stop, N, P, R) if strategy is Strategy.STOP_FIRST else (V, N, P, *stop, R)
    assert (plan.action, plan.steps, plan.generation, plan.can_roll_back) == ("replaced", expected, 4, True)
    assert plan.old is not None
    assert plan.old.number == 3


@pytest.mark.parametrize(
    "query", [ENDLESS.replace("\n", "\r\n"), ENDLESS + "\n\n", ENDLESS.replace("\n", "  \n")]
)
def test_white_space_at_line_ends_is_not_a_difference(query: str) -> None:
    assert plan_deploy(SPEC, [generation(query=query)]).action == "unchanged"


UNFINISHED: list[tuple[str, list[Generation], bool, tuple[Step, ...], bool]] = [
    # what an earlier try left, keep_old, steps, whether it can roll back
    ("created, not proven", [generation(2, has_checkpoint=False), generation(1, "Stopped", wanted=False)], False,
     (P, R), True),
    ("created, and failed", [generation(2, "Failed", has_checkpoint=False), generation(1, "Stopped", wanted=False)],
     False, (C, P, R), True),
    ("proven, not retired", [generation(2, has_checkpoint=True), generation(1, "Stopped", wanted=False)], False,
     (R,), False),
    ("proven, old still runs", [generation(2, has_checkpoint=True), generation(1)], False, (S, R), False),
    ("proven, old still runs, to be kept", [generation(2, has_checkpoint=True), generation(1)], True, (S, R), False),
    ("two old ones", [generation(3, has_checkpoint=True), *(generation(n, "Stopped", wanted=False) for n in (1, 2))],
     True, (R,), False),
]  # fmt: skip


@pytest.mark.parametrize("row", UNFINISHED, ids=lambda row: row[0])
def test_plans_finish_what_an_earlier_try_left(
    row: tuple[str, list[Generation], bool, tuple[Step, ...], bool],
) -> None:
    _, found, keep_old, steps, can_roll_back = row
    plan = plan_deploy(SPEC, found[::-1], keep_old=keep_old)
    assert (plan.action, plan.steps, plan.can_roll_back) == ("replaced", steps, can_roll_back)
    assert plan.generation == found[0].number


def test_a_kept_generation_is_left_alone_and_never_compared_with() -> None:
    found = [generation(2, has_checkpoint=True), generation(1, "Stopped", wanted=False, query="SELECT 2")]
    assert plan_deploy(SPEC, found, keep_old=True).action == "unchanged"
    back = plan_deploy(OTHER_SQL, found, keep_old=True)
    assert (back.action, back.generation) == ("replaced", 3)


def test_a_third_version_after_a_second_that_never_started() -> None:
    """The rollback target is the last version that ran; the failed one is deleted first."""
    found = [generation(2, "Failed", has_checkpoint=False), generation(1, "Stopped", wanted=False)]
    plan = plan_deploy(OTHER_SQL, found)
    assert plan.steps == (V, D, N, P, R)
    assert plan.generation == 3
    assert (plan.old, plan.discard) == (found[1], found[0])


def test_a_version_that_has_finished_has_proven_itself_even_without_a_checkpoint() -> None:
    finished = generation(2, "Finished", has_checkpoint=False)
    kept = generation(1, "Stopped", wanted=False, query="SELECT 2")
    assert plan_deploy(SPEC, [finished, kept], keep_old=True).action == "unchanged"
    for spec in (OTHER_SQL, replace(SPEC, query="SELECT 3")):
        plan = plan_deploy(spec, [finished, kept], keep_old=True)
        assert (plan.steps, plan.generation, plan.old, plan.discard) == ((V, N, P, R), 3, finished, None)
    # An earlier try with start_first did not get as far as to stop it.
    beside = generation(1)
    plan = plan_deploy(OTHER_SQL, [finished, beside])
    assert (plan.steps, plan.old, plan.discard) == ((V, D, N, P, R), finished, beside)


BACK: list[tuple[str, tuple[int, ...], str, tuple[Step, ...]]] = [
    # state of the old one, older ones, action, steps
    ("Stopped", (), "resumed", (D, C, P)),
    ("Running", (), "replaced", (D,)),
    ("Failed", (), "restarted", (D, C, P)),
    ("Stopped", (1,), "replaced", (D, C, P, R)),
]


@pytest.mark.parametrize("row", BACK, ids=lambda row: f"{row[0]} {row[1]}")
def test_a_change_that_is_reverted_early(
    row: tuple[str, tuple[int, ...], str, tuple[Step, ...]],
) -> None:
    """The old pipeline is resumed with its state; none with the same SQL is created."""
    state, older, action, steps = row
    found = [
        generation(3, query="SELECT 2", has_checkpoint=False),
        generation(2, state, wanted=state != "Stopped"),
        *(generation(number, "Stopped", wanted=False, query="SELECT 3") for number in older),
    ]
    plan = plan_deploy(SPEC, found)
    assert (plan.action, plan.steps, plan.generation) == (action, steps, 2)
    assert (plan.current, plan.discard) == (replace(found[1], has_checkpoint=True), found[0])


def test_a_retry_proves_what_an_earlier_try_may_have_left() -> None:
    assert plan_deploy(SPEC, [generation()], is_retry=True).steps == (P,)
    scaled = plan_deploy(
        replace(SPEC, checkpoint_interval=timedelta(seconds=5)), [generation()], is_retry=True
    )
    assert scaled.steps == (C, P)


def test_a_plan_without_existing_pipelines() -> None:
    plan = plan_deploy(SPEC, [])
    assert (plan.action, plan.steps, plan.generation) == ("created", (N, P), 1)
    assert list(plan.lines("orders")) == [
        "Plan, created: orders (found none; generation 1 is wanted): create the pipeline; "
        "wait until it has proven itself"
    ]


def test_the_plan_shows_no_secret() -> None:
    def sql(password: str) -> str:
        return f"CREATE TABLE t WITH (connector = 'kafka', 'sasl.password' = '{password}');\nSELECT 1"

    spec = replace(SPEC, query=sql("new-secret"), env_vars={"TOKEN": "t0ken-secret"})
    text = "\n".join(plan_deploy(spec, [generation(query=sql("old-secret"))]).lines("orders"))
    assert "secret" not in text
    assert "(changed)" in text
