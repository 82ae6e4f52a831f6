"""Every field of every model, with valid and invalid values: it is read, or unknown, or the response is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import pytest

from airflow_provider_arroyo.client import catalog, details, models
from airflow_provider_arroyo.client import endpoints as api
from airflow_provider_arroyo.client.lists import Listed
from airflow_provider_arroyo.client.request import HttpResponse, Request
from airflow_provider_arroyo.client.responses import interpret
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.client.udf import Udf
from airflow_provider_arroyo.client.wire import ApiModel
from airflow_provider_arroyo.exceptions import ArroyoForeignResponseError
from tests.client.conftest import PIPELINE


class Missing:
    def __repr__(self) -> str:
        return "missing"


MISSING: Any = Missing()
VALUES: list[Any] = [
    MISSING,
    *(None, True, False, 0, 7, -1, 2**63, 2**64, 10**400, 1.5, math.nan, math.inf, -math.inf),
    *("", " ", "x", "7", "Running", ".."),
    *([], [5], [None], ["x"], [{}], {}, {"a": 5}, {"a": "x"}, {"a": None}, {"error": "x", "domain": "user"}),
]

Right = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_name(value: Any) -> bool:
    return isinstance(value, str) and value.strip() not in ("", "..")


def is_state(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**64


def is_time(value: Any) -> bool:
    return type(value) is int and 0 <= value < 10**18


def is_number(value: Any) -> bool:
    # JSON has no NaN: null stands for it.
    return value is None or (type(value) in (int, float) and value != 10**400)


def is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_string_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def is_list_of(item: Right) -> Right:
    return lambda value: isinstance(value, list) and all(map(item, value))


def is_a(model: type[ApiModel]) -> Right:
    """The value is read as another model, whose fields have their own rows."""

    def right(value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        return all(
            field.right(value.get(name)) if name in value else field.missing is not REFUSED
            for name, field in FIELDS[model].items()
            if field.bad is REFUSED
        )

    return right


REFUSED: Any = object()


class Field(NamedTuple):
    """What a field may contain.

    :param right: whether Arroyo may send a value.
    :param bad: the result for any other value; the response is refused if the field identifies something or is used
        for a decision.
    :param missing: the result for a missing field.
    :param none: whether null means no value.
    :param zero_is_none: whether 0 means no value.
    """

    right: Right
    bad: Any = REFUSED
    missing: Any = REFUSED
    none: bool = False
    attribute: str = ""
    zero_is_none: bool = False


def must(right: Right, attribute: str = "") -> Field:
    """It identifies something or is used for a decision, and every server sends it."""
    return Field(right, attribute=attribute)


def decides(right: Right, missing: Any, attribute: str = "", *, none: bool = False) -> Field:
    """It is used for a decision; a server may leave it out."""
    return Field(right, REFUSED, missing, none, attribute)


def explains(right: Right, unknown: Any, attribute: str = "", *, zero_is_none: bool = False) -> Field:
    """It only explains; an invalid value is unknown."""
    return Field(right, unknown, unknown, True, attribute, zero_is_none)


SPAN = {"event": "e", "start_time": 1, "finish_time": 2, "description": "d"}
FIELDS: dict[type[ApiModel], dict[str, Field]] = {
    models.Job: {
        "id": must(is_name),
        "state": must(is_state),
        "run_id": must(is_count),
        "running_desired": explains(is_flag, None),
        "created_at": explains(is_time, 0, "created_at_micros"),
        "pipeline_id": decides(is_text, None),
        "start_time": explains(is_time, None, "start_time_micros"),
        "finish_time": explains(is_time, None, "finish_time_micros"),
        "tasks": explains(is_count, None),
        "failure_reason": explains(is_object, None, "failure"),
        "scheduler_config": explains(is_object, {}),
        "env_vars": explains(is_string_map, {}),
    },
    models.FailureReason: {
        "error": explains(is_text, ""),
        "domain": explains(is_text, None),
    },
    models.Pipeline: {
        "id": must(is_name),
        "name": must(is_text),
        "query": must(is_text),
        "checkpoint_interval_micros": explains(is_time, None),
        "stop": decides(is_text, "none"),
        "created_at": must(is_time, "created_at_micros"),
        "action": explains(is_text, None),
        "action_text": explains(is_text, ""),
        "action_in_progress": decides(is_flag, False),
        "preview": decides(is_flag, False),
        "graph": explains(is_a(models.PipelineGraph), models.PipelineGraph()),
        "udfs": must(is_list_of(is_a(Udf))),
        "tags": decides(is_string_map, {}),
        "state_url": decides(is_text, None, none=True),
    },
    Udf: {"definition": must(is_text), "language": decides(is_text, None, none=True)},
    models.PipelineGraph: {
        "nodes": must(is_list_of(is_a(models.PipelineNode))),
        "edges": must(is_list_of(is_a(models.PipelineEdge))),
    },
    models.PipelineNode: {
        "node_id": must(is_count),
        "operator": explains(is_text, ""),
        "description": explains(is_text, ""),
        "parallelism": must(is_count),
    },
    models.PipelineEdge: {
        "src_id": must(is_count),
        "dest_id": must(is_count),
        "key_type": explains(is_text, ""),
        "value_type": explains(is_text, ""),
        "edge_type": explains(is_text, ""),
    },
    details.JobError: {
        "id": must(is_text),
        "created_at": explains(is_time, 0, "created_at_micros"),
        "message": explains(is_text, ""),
        "details": explains(is_text, ""),
        "level": explains(is_text, "error"),
        "operator_id": explains(is_text, ""),
        "task_index": explains(is_count, None),
        "error_domain": explains(is_text, None),
    },
    details.Span: {
        "event": must(is_text),
        "start_time": must(is_time, "start_time_micros"),
        "description": explains(is_text, ""),
        "finish_time": explains(is_time, None, "finish_time_micros", zero_is_none=True),
    },
    details.Checkpoint: {
        "epoch": must(is_count),
        "start_time": must(is_time, "start_time_micros"),
        "finish_time": Field(is_time, REFUSED, None, True, "finish_time_micros", zero_is_none=True),
        "checkpoint_type": decides(is_text, None),
        "backend": explains(is_text, ""),
        "events": explains(is_list_of(is_a(details.Span)), ()),
    },
    details.SubtaskCheckpoint: {
        "index": must(is_count),
        "bytes": must(is_count, "size_bytes"),
        "event_spans": explains(is_list_of(is_a(details.Span)), ()),
    },
    details.OperatorCheckpoint: {
        "operator_id": must(is_text),
        "bytes": must(is_count, "size_bytes"),
        "started_metadata_write": explains(is_time, None, "started_metadata_write_micros", zero_is_none=True),
        "finish_time": explains(is_time, None, "finish_time_micros", zero_is_none=True),
        "subtasks": explains(is_list_of(is_a(details.SubtaskCheckpoint)), ()),
    },
    details.Metric: {"time": must(is_time, "time_micros"), "value": must(is_number)},
    details.SubtaskMetrics: {
        "index": must(is_count),
        "metrics": decides(is_list_of(is_a(details.Metric)), ()),
    },
    details.MetricGroup: {
        "name": must(is_text),
        "subtasks": decides(is_list_of(is_a(details.SubtaskMetrics)), ()),
    },
    details.OperatorMetrics: {
        "node_id": must(is_count),
        "metric_groups": decides(is_list_of(is_a(details.MetricGroup)), ()),
    },
    details.OutputBatch: {
        "operator_id": must(is_text),
        "subtask_idx": must(is_count, "subtask_index"),
        "start_id": must(is_count),
        "batch": must(is_text),
        "timestamps": explains(is_list_of(is_count), (), "timestamps_micros"),
    },
    details.QueryValidation: {
        "errors": must(is_list_of(lambda one: is_text(one) or (is_object(one) and "message" in one))),
        "graph": Field(is_a(models.PipelineGraph), bad=None, none=True),
    },
    catalog.UdfValidation: {
        "errors": must(is_list_of(is_text)),
        "udf_name": decides(is_text, None, none=True),
    },
    catalog.GlobalUdf: {
        "id": must(is_text),
        "name": must(is_text),
        "definition": must(is_text),
        "prefix": explains(is_text, ""),
        "language": decides(is_text, ""),
        "created_at": explains(is_time, 0, "created_at_micros"),
        "updated_at": explains(is_time, 0, "updated_at_micros"),
        "description": explains(is_text, None),
        "dylib_url": explains(is_text, None),
    },
    catalog.ConnectionProfile: {
        "id": must(is_text),
        "name": must(is_text),
        "connector": must(is_text),
        "config": decides(is_object, {}, none=True),
        "description": explains(is_text, ""),
    },
    catalog.ConnectionTable: {
        "id": must(is_text),
        "name": must(is_text),
        "connector": must(is_text),
        "table_type": must(is_text),
        "config": decides(is_object, {}, none=True),
        "schema": decides(is_object, {}, none=True),
        "consumers": decides(is_count, 0),
        "created_at": explains(is_time, 0, "created_at_micros"),
        "connection_profile": decides(is_a(catalog.ConnectionProfile), None, none=True),
    },
    catalog.Connector: {
        "id": must(is_text),
        "name": must(is_text),
        "source": decides(is_flag, False),
        "sink": decides(is_flag, False),
        "description": explains(is_text, ""),
    },
}

GOOD: dict[type[ApiModel], dict[str, Any]] = {
    models.Job: {"id": "job_1", "state": "Running", "run_id": 1, "running_desired": True},
    models.FailureReason: {"error": "x", "domain": "user"},
    models.Pipeline: PIPELINE,
    Udf: {"definition": "fn f() {}"},
    models.PipelineGraph: {"nodes": [], "edges": []},
    models.PipelineNode: {"node_id": 1, "parallelism": 1},
    models.PipelineEdge: {"src_id": 1, "dest_id": 2},
    details.JobError: {"id": "1"},
    details.Span: SPAN,
    details.Checkpoint: {"epoch": 1, "start_time": 1},
    details.SubtaskCheckpoint: {"index": 0, "bytes": 1},
    details.OperatorCheckpoint: {"operator_id": "o", "bytes": 1},
    details.Metric: {"time": 1, "value": 1.0},
    details.SubtaskMetrics: {"index": 0, "metrics": []},
    details.MetricGroup: {"name": "messages_sent", "subtasks": []},
    details.OperatorMetrics: {"node_id": 1, "metric_groups": []},
    details.OutputBatch: {"operator_id": "o", "subtask_idx": 0, "start_id": 0, "batch": "[]"},
    details.QueryValidation: {"errors": [], "graph": None},
    catalog.UdfValidation: {"errors": []},
    catalog.GlobalUdf: {"id": "u", "name": "n", "definition": "d"},
    catalog.ConnectionProfile: {"id": "p", "name": "n", "connector": "kafka"},
    catalog.ConnectionTable: {"id": "t", "name": "n", "connector": "kafka", "table_type": "sink"},
    catalog.Connector: {"id": "kafka", "name": "Kafka"},
}
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)
"""Stands for a response that is refused as not Arroyo's."""


def attributes() -> Iterator[tuple[type[ApiModel], str]]:
    for module in (models, details, catalog):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, ApiModel) and value is not ApiModel:
                yield from ((value, one.name) for one in fields(value))  # type: ignore[arg-type]  # each is one


def test_every_field_of_every_model_has_its_row() -> None:
    rows = {(model, row.attribute or name) for model, named in FIELDS.items() for name, row in named.items()}
    # The positions in SQL have their own tests, since they are in a separate object.
    assert rows == set(attributes())


def expected(row: Field, value: Any) -> Any:
    if value is MISSING:
        return row.missing
    if value is None and row.none:
        return None if row.missing is REFUSED else row.missing
    if value == 0 and value is not False and row.zero_is_none:
        return row.missing
    return value if row.right(value) else row.bad


@pytest.mark.parametrize(
    "model, name", [(model, name) for model, named in FIELDS.items() for name in named], ids=str
)
def test_a_field_is_read_or_unknown_or_the_response_is_refused(model: type[ApiModel], name: str) -> None:
    row = FIELDS[model][name]
    for value in VALUES:
        case = f"{model.__name__}.{name} = {value!r:.50}"
        data = {**GOOD[model], name: value}
        if value is MISSING:
            del data[name]
        wanted = expected(row, value)
        try:
            read = model.from_api(json.loads(json.dumps(data)))
        except UNREADABLE:
            assert wanted is REFUSED, case
            continue
        found = getattr(read, row.attribute or name)
        assert wanted is not REFUSED, f"{case} is read as {found!r:.50}"
        assert is_same(found, wanted), f"{case} is read as {found!r:.50}"


def is_same(found: Any, wanted: Any) -> bool:
    if isinstance(found, tuple):
        # Its items have their own rows.
        return len(found) == len(wanted)
    if isinstance(found, ApiModel):
        return found == wanted or isinstance(wanted, dict)
    if isinstance(found, float) and math.isnan(found):
        return wanted is None or not math.isfinite(wanted)
    return bool(found == wanted)


ONE: list[tuple[Request[Any], type[ApiModel]]] = [
    (api.get_pipeline("pl_1"), models.Pipeline),
    (api.create_pipeline(name="orders", query="SELECT 1"), models.Pipeline),
    (api.validate_query("SELECT 1"), details.QueryValidation),
    (catalog.validate_udf("fn f() {}"), catalog.UdfValidation),
    (catalog.create_udf(prefix="/", definition="d"), catalog.GlobalUdf),
]
MANY: list[tuple[Request[Any], type[ApiModel]]] = [
    (api.list_pipelines(limit=9), models.Pipeline),
    (api.list_pipelines(limit=9, name="orders"), models.Pipeline),
    (api.get_job("pl_1"), models.Job),
    (api.list_jobs(), models.Job),
    (api.list_job_errors("pl_1", "job_1"), details.JobError),
    (api.list_checkpoints("pl_1", "job_1"), details.Checkpoint),
    (api.list_operator_checkpoints("pl_1", "job_1", 1), details.OperatorCheckpoint),
    (api.list_metrics("pl_1", "job_1"), details.OperatorMetrics),
    (catalog.list_udfs(), catalog.GlobalUdf),
    (catalog.list_connectors(), catalog.Connector),
    (catalog.list_connection_tables(limit=9), catalog.ConnectionTable),
    (catalog.list_connection_profiles(), catalog.ConnectionProfile),
]


def read(request: Request[Any], body: Mapping[str, Any]) -> Any:
    text = json.dumps(body).encode()
    response = HttpResponse(200, {"content-type": "application/json"}, text, "http://arroyo/api/v1/x")
    value = interpret(request, response, ClientSettings(base_url="http://arroyo")).value
    return tuple(iter(value)) if isinstance(value, Listed) else value


@pytest.mark.parametrize("request_, model", [*ONE, *MANY], ids=lambda one: getattr(one, "__name__", str(one)))
@pytest.mark.parametrize("value", [MISSING, None, [], "7", -1, math.nan], ids=repr)
def test_a_response_with_an_invalid_required_field_is_refused(
    request_: Request[Any], model: type[ApiModel], value: Any
) -> None:
    """In a whole response, alone and in a list: the error names the field."""
    for name, row in FIELDS[model].items():
        if expected(row, value) is not REFUSED:
            continue
        item = {**GOOD[model], name: value}
        if value is MISSING:
            del item[name]
        body = {"data": [item], "hasMore": False} if (request_, model) in MANY else item
        with pytest.raises(ArroyoForeignResponseError) as caught:
            read(request_, body)
        assert re.search(
            "something that is not Arroyo's|returned items that cannot be read", str(caught.value)
        )
        assert f"'{name}'" in str(caught.value), name


@pytest.mark.parametrize("request_, model", MANY, ids=lambda one: getattr(one, "__name__", str(one)))
@pytest.mark.parametrize("item", [None, 5, "x", [], True])
def test_an_item_must_be_an_object(request_: Request[Any], model: type[ApiModel], item: Any) -> None:
    with pytest.raises(ArroyoForeignResponseError):
        read(request_, {"data": [item], "hasMore": False})


BAD_LINES: list[Any] = ["3", -1, None, 1.5, 10**400, [], True]
BAD_SPANS: list[Any] = [None, 5, "x", [], {}, {"start": None}, {"start": []}, {"end": 5}]


@pytest.mark.parametrize(
    "span, line",
    [
        ({"start": {"line": 3, "column": 1}}, 3),
        *(({"start": {"line": bad}}, None) for bad in BAD_LINES),
        *((bad, None) for bad in BAD_SPANS),
    ],
)
def test_an_invalid_position_in_sql_is_unknown(span: Any, line: int | None) -> None:
    body = {"errors": [{"message": "no", "span": span}], "graph": None}
    (diagnostic,) = read(api.validate_query("SELECT 1"), body).errors
    assert (diagnostic.message, diagnostic.line) == ("no", line)


@pytest.mark.parametrize("id_", [None, 5, [], {}, "", "..", True])
def test_the_id_of_each_listed_pipeline_must_be_valid(id_: Any) -> None:
    """Paging needs it, although nothing else of that pipeline is read."""
    items = [{**PIPELINE, "name": "other", "id": id_}]
    with pytest.raises(ArroyoForeignResponseError):
        read(api.list_pipelines(limit=9, name="orders"), {"data": items, "hasMore": False})
