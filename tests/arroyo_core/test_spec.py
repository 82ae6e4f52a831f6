from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.details import ConnectionTable
from airflow_provider_arroyo.arroyo.spec import (
    PipelineSpec,
    Udf,
    as_udfs,
    check_checkpoint_interval,
    check_object,
    check_parallelism,
    check_text,
    check_text_map,
)


@pytest.mark.parametrize("value", ["x", " x ", "\n.", "日本語"])
def test_text(value: str) -> None:
    assert check_text(value, "name") == value


@pytest.mark.parametrize("value", ["", " \n\t", None, 5, b"x", ["x"]])
def test_no_text(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^name must be a text that is not empty"):
        check_text(value, "name")


@pytest.mark.parametrize("value, number", [(1, 1), (10_000, 10_000), ("1", 1), (" 12 ", 12), ("007", 7)])
def test_parallelism(value: Any, number: int) -> None:
    assert check_parallelism(value) == number


@pytest.mark.parametrize(
    "value",
    [0, -1, "0", "-1", "1.0", 1.0, 1.5, True, False, None, "", "x", "²", "1_0", "9" * 5000, [1], "None"],
)
def test_no_parallelism(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^parallelism must be a whole number, 1 or more"):
        check_parallelism(value)


@pytest.mark.parametrize("seconds", [1, 1.5, 10, 86_400])
def test_checkpoint_interval(seconds: float) -> None:
    assert check_checkpoint_interval(timedelta(seconds=seconds)) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [timedelta(0), timedelta(microseconds=999_999), timedelta(hours=24, microseconds=1), 10, "10", None],
)
def test_no_checkpoint_interval(value: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^checkpoint_interval must be a timedelta from 1 second to 24 hours"
    ):
        check_checkpoint_interval(value)


def test_text_map() -> None:
    assert check_text_map({"a": "", "": "b"}, "tags") == {"a": "", "": "b"}


@pytest.mark.parametrize("value", ["secret", [("a", "b")], 5, None, {"a": 1}, {1: "a"}, {"a": None}])
def test_no_text_map(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^env_vars must") as caught:
        check_text_map(value, "env_vars")
    assert "secret" not in str(caught.value)


def test_object() -> None:
    value = {"a": [1, {"b": None}], "c": "d"}
    assert check_object(value, "scheduler_config") == value


@pytest.mark.parametrize("value", [[], "x", 1, {1: "a"}, {"a": object()}, {"a": float("nan")}, {"a": {1, 2}}])
def test_no_object(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^scheduler_config must"):
        check_object(value, "scheduler_config")


def test_udfs() -> None:
    written = [
        "fn a() {}",
        Udf("fn b() {}", "rust"),
        {"definition": "def c(): ...", "language": "python"},
        {"definition": "fn d() {}"},
    ]
    assert as_udfs(written) == (
        Udf("fn a() {}"),
        Udf("fn b() {}", "rust"),
        Udf("def c(): ...", "python"),
        Udf("fn d() {}"),
    )
    assert as_udfs(as_udfs(iter(written))) == as_udfs(written)
    assert as_udfs([]) == ()


@pytest.mark.parametrize("value", ["fn a() {}", b"x", {"definition": "x"}, Udf("x"), None, 5])
def test_one_udf_is_no_list_of_them(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^udfs must be a list of UDFs, got"):
        as_udfs(value)


@pytest.mark.parametrize(
    "item, message",
    [
        (5, r"^udfs\[1\] must be a source"),
        (None, r"^udfs\[1\] must be a source"),
        ({"definition": "x", "name": "y"}, r"^udfs\[1\] must be a source"),
        ("", r"^udfs\[1\]\.definition must be a text"),
        ({}, r"^udfs\[1\]\.definition must be a text"),
        ({"definition": None}, r"^udfs\[1\]\.definition must be a text"),
        ({"definition": 5}, r"^udfs\[1\]\.definition must be a text"),
        ({"definition": "x", "language": "java"}, r"^udfs\[1\]\.language must be 'rust' or 'python'"),
        ({"definition": "x", "language": []}, r"^udfs\[1\]\.language must be"),
    ],
)
def test_no_udf(item: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_udfs(["good", item])


@pytest.mark.parametrize(
    "argument, value",
    [
        ("name", ""),
        ("query", " \n"),
        ("parallelism", 0),
        ("checkpoint_interval", timedelta(hours=25)),
        ("tags", {"a": 1}),
        ("env_vars", {"a": 1}),
        ("scheduler_config", [1]),
        ("udfs", "one source"),
    ],
)
def test_spec_names_the_argument(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{argument} must"):
        PipelineSpec(**{"name": "n", "query": "q", argument: value})


def test_spec_takes_what_users_write() -> None:
    given: dict[str, Any] = {"name": "n", "query": "q", "parallelism": " 3 ", "udfs": ["fn f() {}"]}
    spec = PipelineSpec(**given)
    assert (spec.parallelism, spec.udfs) == (3, (Udf("fn f() {}"),))


checks: list[Callable[[Any], Any]] = [
    check_parallelism,
    check_checkpoint_interval,
    as_udfs,
    lambda value: check_text(value, "x"),
    lambda value: check_text_map(value, "x"),
    lambda value: check_object(value, "x"),
]
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.timedeltas()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)


@given(value=anything, check=st.sampled_from(checks))
def test_checks_accept_or_raise_value_error(value: Any, check: Callable[[Any], Any]) -> None:
    accepted, refusal = None, None
    try:
        accepted = check(value)
    except ValueError as err:
        refusal = str(err)
    if refusal is not None:
        assert " must " in refusal
    else:
        # What was accepted is accepted again, and stays as it is.
        assert check(accepted) == accepted


@given(name=st.text(min_size=1), query=st.text(min_size=1))
def test_fingerprint_takes_any_text(name: str, query: str) -> None:
    if not (name.strip() and query.strip()):
        return
    assert len(PipelineSpec(name=name, query=query).fingerprint) == 64


def test_what_may_hold_secrets_is_not_shown() -> None:
    spec = PipelineSpec(
        name="orders",
        query="CREATE TABLE t (a INT) WITH (password = 's3cr3t')",
        env_vars={"KEY": "s3cr3t"},
        scheduler_config={"token": "s3cr3t"},
    )
    assert "orders" in repr(spec)
    assert "s3cr3t" not in repr(spec) + repr(api.create_pipeline(spec)) + repr(api.put_pipeline("pl", spec))
    data = {"id": "a", "name": "n", "connector": "kafka", "table_type": "source", "config": {"p": "s3cr3t"}}
    table = ConnectionTable.from_api({**data, "connection_profile": data})
    assert table.connection_profile is not None
    assert "s3cr3t" not in repr(table)
