"""Checks of a pipeline's spec, before any request."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.client import checks, endpoints
from airflow_provider_arroyo.client.catalog import ConnectionTable
from airflow_provider_arroyo.client.models import Pipeline
from airflow_provider_arroyo.client.udf import Udf, as_udfs
from airflow_provider_arroyo.pipelines.spec import PipelineSpec

CHECKS: dict[str, Callable[[Any], Any]] = {
    "text": lambda value: checks.check_text(value, "text"),
    "parallelism": checks.check_parallelism,
    "duration": lambda value: checks.check_duration(value, "duration"),
    "positive": lambda value: checks.check_duration(value, "positive", positive=True),
    "checkpoint_interval": checks.check_checkpoint_interval,
    "tags": lambda value: checks.check_string_map(value, "tags"),
    "config": lambda value: checks.check_json_object(value, "config"),
    "udfs": as_udfs,
}
MICROSECOND, SECOND, DAY = timedelta(microseconds=1), timedelta(seconds=1), timedelta(hours=24)
UDFS = (Udf("a"), Udf("b", "rust"), Udf("c", "python"), Udf("d"))

# Name of the check, and pairs of a value and the result.
ACCEPTED: dict[str, list[tuple[Any, Any]]] = {
    "text": [(text, text) for text in ("x", " x ", "\n.", "日本語")],
    "parallelism": [(1, 1), (10_000, 10_000), ("1", 1), (" 12 ", 12), ("007", 7)],
    "duration": [(timedelta(0), timedelta(0)), (0, timedelta(0)), (1.5, 1.5 * SECOND), (9 * DAY, 9 * DAY)],
    "positive": [(MICROSECOND, MICROSECOND), (0.5, SECOND / 2)],
    "checkpoint_interval": [(SECOND, SECOND), (1.5, 1.5 * SECOND), (86_400, DAY), (DAY, DAY)],
    "tags": [({"a": "", "": "b"}, {"a": "", "": "b"}), ({}, {})],
    "config": [
        ({"a": [1, {"b": None}], "c": "d"}, {"a": [1, {"b": None}], "c": "d"}),
        ({"a": ({1: 2},)}, {"a": [{"1": 2}]}),
        ({"a": r"\u0000"}, {"a": r"\u0000"}),
    ],
    "udfs": [
        (["a", UDFS[1], {"definition": "c", "language": "python"}, {"definition": "d"}], UDFS),
        (iter(UDFS), UDFS),
        ([], ()),
    ],
}

# Name of the check, its message, and refused values.
NOT_DURATIONS = [-1, -SECOND, float("nan"), float("inf"), 10**20, "10", True, None, [1]]
NOT_INTERVALS = [*NOT_DURATIONS, 0, 0.9, 86_401, SECOND - MICROSECOND, DAY + MICROSECOND]
NOT_INTEGERS = [0, -1, "0", "-1", "1.0", 1.0, 1.5, True, False, None, "", "x", "²", "1_0", "9" * 5000, [1]]
REFUSED: dict[str, tuple[str, list[Any]]] = {
    "text": ("non-empty string", ["", " \n\t", None, 5, b"x", ["x"]]),
    "parallelism": ("integer, 1 or more", [*NOT_INTEGERS, "None"]),
    "duration": ("0 or more", NOT_DURATIONS),
    "positive": ("more than 0", [*NOT_DURATIONS, 0, 0.0, timedelta(0)]),
    "checkpoint_interval": ("1 second to 24 hours|more than 0", NOT_INTERVALS),
    "tags": ("strings", ["secret", [("a", "b")], 5, None, {"a": 1}, {1: "a"}, {"a": None}]),
    "config": (
        "",
        [
            [],
            "x",
            1,
            {1: "a"},
            {"a": object()},
            {"a": float("nan")},
            {"a": {1, 2}},
            *({"a": [bad]} for bad in ("\ud800", "\0", "\\\0")),
        ],
    ),
    "udfs": ("list of UDFs, got", ["fn a() {}", b"x", {"definition": "x"}, Udf("x"), None, 5]),
}


@pytest.mark.parametrize("name, value, read", [(name, *pair) for name in ACCEPTED for pair in ACCEPTED[name]])
def test_valid_values_are_accepted(name: str, value: Any, read: Any) -> None:
    assert CHECKS[name](value) == read


@pytest.mark.parametrize("name, value", [(name, value) for name in REFUSED for value in REFUSED[name][1]])
def test_invalid_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must .*({REFUSED[name][0]})") as caught:
        CHECKS[name](value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "item, message",
    [
        (5, "must be a source"),
        (None, "must be a source"),
        ({"definition": "x", "name": "y"}, "must be a source"),
        ("", r"\.definition must be a non-empty string"),
        ({}, r"\.definition must be a non-empty string"),
        ({"definition": None}, r"\.definition must be a non-empty string"),
        ({"definition": 5}, r"\.definition must be a non-empty string"),
        ({"definition": "x", "language": "java"}, r"\.language must be 'rust' or 'python'"),
        ({"definition": "x", "language": []}, r"\.language must be 'rust' or 'python'"),
    ],
)
def test_invalid_udfs_are_refused(item: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^udfs\[1\] ?{message}"):
        as_udfs(["good", item])


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.timedeltas()
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(value=anything, name=st.sampled_from(list(CHECKS)))
def test_checks_accept_or_raise_value_error(value: Any, name: str) -> None:
    try:
        accepted = CHECKS[name](value)
    except ValueError as err:
        assert " must " in str(err)  # noqa: PT017  # either outcome is right
        return
    # An accepted value is accepted again, unchanged.
    assert CHECKS[name](accepted) == accepted


# -- the spec ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field, value, argument",
    [
        ("name", "", "pipeline_name"),
        ("query", " \n", "query"),
        ("parallelism", 0, "parallelism"),
        ("checkpoint_interval", timedelta(hours=25), "checkpoint_interval"),
        ("tags", {"a": 1}, "tags"),
        ("env_vars", {"a": 1}, "env_vars"),
        ("scheduler_config", [1], "scheduler_config"),
        ("udfs", "one source", "udfs"),
        ("name", "a\0b", "pipeline_name"),
        ("name", "a\udcff", "pipeline_name"),
        ("query", "SELECT '\ud800'", "query"),
        ("tags", {"a\0": "b"}, "tags"),
        ("env_vars", {"A": "\udcff"}, re.escape("env_vars['A']")),
        ("udfs", ["fn f() {} \udcff"], re.escape("udfs[0].definition")),
    ],
)
def test_spec_names_the_argument(field: str, value: Any, argument: str) -> None:
    with pytest.raises(ValueError, match=f"^{argument} must"):
        PipelineSpec(**{"name": "n", "query": "q", field: value})


def test_spec_accepts_the_forms_that_users_write() -> None:
    written: dict[str, Any] = {"parallelism": " 3 ", "checkpoint_interval": 30, "udfs": ["fn f() {}"]}
    spec = PipelineSpec(name="n", query="q", **written)
    assert (spec.parallelism, spec.checkpoint_interval) == (3, 30 * SECOND)
    assert spec.udfs == (Udf("fn f() {}"),)


def test_a_byte_order_mark_is_removed_and_a_nul_is_reported_with_its_position() -> None:
    assert PipelineSpec(name="n", query="\ufeffSELECT 1").query == "SELECT 1"
    with pytest.raises(ValueError, match=r"^query must not contain U\+0000, .*: line 2, column 8$"):
        PipelineSpec(name="n", query="SELECT 1;\nSELECT \0")


def test_fields_that_may_contain_secrets_are_not_shown() -> None:
    query = "CREATE TABLE t (a INT) WITH (password = 's3cr3t')"
    secret = {"token": "s3cr3t"}
    udf = Udf('const KEY: &str = "s3cr3t";')
    where = "s3://id:s3cr3t@bucket"
    spec = PipelineSpec(
        name="orders", query=query, env_vars=secret, scheduler_config=secret, udfs=(udf,), state_url=where
    )
    request = spec.to_request()
    data = {"id": "a", "name": "n", "connector": "kafka", "table_type": "source", "config": secret}
    table = ConnectionTable.from_api({**data, "connection_profile": data})
    assert table.connection_profile is not None
    assert "orders" in repr(spec)
    pipeline = Pipeline(id="pl", name="orders", query=query, udfs=spec.udfs, state_url=where)
    requests = endpoints.create_pipeline(**request), endpoints.put_pipeline("pl", **request)
    for shown in (spec, *requests, pipeline, table):
        assert "s3cr3t" not in repr(shown)
