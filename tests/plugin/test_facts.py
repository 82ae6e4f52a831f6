"""What the list stores about a pipeline: its owner and its settings, but none of its secrets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from airflow.models.log import Log

from airflow_provider_arroyo.client.models import Pipeline, PipelineEdge, PipelineGraph, PipelineNode
from airflow_provider_arroyo.pipelines.ownership import Deployment, Owner, OwnershipLabel
from airflow_provider_arroyo.pipelines.tags import TAG_PREFIX
from airflow_provider_arroyo.plugin import facts as plugin_facts
from airflow_provider_arroyo.plugin.facts import facts_of, owner_of

TASK = Owner(dag_id="shop", task_id="submit", run_id="manual__1", map_index=2, namespace="prod")
OF_TASK = {"dag": "shop", "task": "submit", "run": "manual__1", "map_index": 2, "namespace": "prod"}
SECRET_SQL = "CREATE TABLE t (a TEXT) WITH (connector = 'kafka', 'auth.password' = 'hunter2222');"


def pipeline(query: str = "", **fields: object) -> Pipeline:
    given = {"id": "pl_1", "name": "orders", "query": query, "created_at": 0, "udfs": [], **fields}
    return Pipeline.from_api(given)


def label(deployment: Deployment | None = None) -> OwnershipLabel:
    generation = 3 if deployment else 0
    return OwnershipLabel(
        task=TASK, try_number=1, package_version="1", deployment=deployment, generation=generation
    )


def test_a_submitted_pipeline_is_owned_by_its_task() -> None:
    assert owner_of(pipeline(tags=label().to_tags())) == {**OF_TASK, "deployment": None}
    in_sql = pipeline(label().to_comment({}) + "SELECT 1")
    assert owner_of(in_sql) == {**OF_TASK, "deployment": None}


def test_a_deployed_pipeline_has_its_deployment_and_the_task_that_created_it() -> None:
    deployment = Deployment(group="orders", name="per_minute", namespace="prod")
    assert owner_of(pipeline(tags=label(deployment).to_tags())) == {
        **OF_TASK,
        "deployment": {"group": "orders", "name": "per_minute", "generation": 3},
    }


@pytest.mark.parametrize(
    "tags",
    [{}, {"team": "shop"}, {f"{TAG_PREFIX}label": "1"}, {**label().to_tags(), f"{TAG_PREFIX}dag": ""}],
    ids=["none", "of the user", "damaged", "without a DAG"],
)
def test_no_label_is_an_error(tags: dict[str, str]) -> None:
    owner = owner_of(pipeline(tags=tags))
    assert owner is None or owner["dag"] == ""


@pytest.mark.parametrize("name", ["dag_id", "task_id", "run_id"])
def test_an_id_that_airflow_cannot_store_names_no_task(name: str) -> None:
    """On PostgreSQL, a row of the audit log with such an id could not be written."""
    columns: Any = Log.__table__.c
    for length, is_task in ((250, True), (251, False)):
        changed: dict[str, Any] = {name: "x" * length}
        tags = replace(label(), task=replace(TASK, **changed)).to_tags()
        assert (owner_of(pipeline(tags=tags)) is not None) is is_task
        assert (length <= columns[name].type.length) is is_task


def test_a_label_of_a_newer_version_still_names_the_task() -> None:
    tags = {**label().to_tags(), f"{TAG_PREFIX}label": "99"}
    owner = owner_of(pipeline(tags=tags))
    assert owner is not None
    assert owner["dag"] == "shop"


def test_server_messages_are_shown_without_the_secrets_of_the_sql() -> None:
    found = facts_of(pipeline(SECRET_SQL))
    assert found.shown("cannot log in with 'hunter2222' at broker") == "cannot log in with '***' at broker"
    assert len(found.shown("x y " * 100_000)) <= plugin_facts.MAX_REASON
    assert facts_of(pipeline("SELECT 1")).secrets == frozenset()


def test_control_characters_from_the_server_are_replaced() -> None:
    found = facts_of(pipeline("SELECT 1", name="orders\u202etxt.\u2066"))
    assert found.name == "orders\ufffdtxt.\ufffd"
    assert (
        found.shown("\u202eno\x1b[2J\nroute\tto \u200bhost\r\n")
        == "\ufffdno\ufffd[2J\nroute\tto \ufffdhost\n"
    )
    assert found.updated(pipeline("SELECT 1", name="orders\u202etxt.\u2066")) == found


def test_secrets_of_long_sql_are_masked() -> None:
    found = facts_of(pipeline(SECRET_SQL + " " * 500_000))
    assert found.shown("cannot log in with 'hunter2222'") == "cannot log in with '***'"


def test_with_too_many_secrets_to_store_no_server_message_is_shown() -> None:
    long = SECRET_SQL.replace("hunter2222", "hunter2222" * plugin_facts.MAX_SECRETS)
    found = facts_of(pipeline(long))
    assert found.secrets is None
    assert "hunter" not in found.shown("cannot log in with 'hunter2222'")


@pytest.mark.parametrize(
    "edges, sources, sinks",
    [
        ([(0, 1), (1, 2)], {0}, {2}),
        ([(0, 2), (1, 2)], {0, 1}, {2}),
        ([(0, 1), (1, 0)], {2}, {2}),
        ([], {0, 1, 2}, {0, 1, 2}),
    ],
    ids=["a line", "a join", "a circle", "no edges"],
)
def test_sources_and_sinks_are_read_from_the_graph(
    edges: list[tuple[int, int]], sources: set[int], sinks: set[int]
) -> None:
    graph = PipelineGraph(
        tuple(PipelineNode(number, parallelism=number) for number in range(3)),
        tuple(PipelineEdge(one, other) for one, other in edges),
    )
    found = facts_of(Pipeline(id="pl_1", name="n" * 1000, query="", graph=graph))
    assert (set(found.sources), set(found.sinks)) == (sources, sinks)
    assert (found.parallelism, len(found.name)) == (2, 300)


def test_a_long_repeated_secret_is_masked_at_the_cut() -> None:
    key = "A1b2C3d4" * 400
    found = facts_of(pipeline(SECRET_SQL.replace("hunter2222", key)))
    assert found.shown(" ".join([key] * 3)) == "*** *** ***"
    assert "A1b2" not in found.shown(" ".join([key] * 20), 1000)
    assert found.shown("x" * 100_000, 1000) == "x" * 1000


@pytest.mark.parametrize("created", [0, 5])
def test_another_pipeline_of_the_same_id_has_its_own_secrets(created: int) -> None:
    old = facts_of(pipeline("SELECT 1", created_at=created))
    new = old.updated(pipeline(SECRET_SQL, created_at=created and created + 1))
    assert "hunter2222" not in new.shown("login with hunter2222 refused")


def test_server_messages_are_hidden_if_the_sql_is_too_long_to_mask() -> None:
    found = facts_of(pipeline(SECRET_SQL + " " * plugin_facts.MAX_READ_SQL))
    assert found.secrets is None
    assert found.shown("login with hunter2222 refused").startswith("Not shown")
