"""How Airflow renders templated fields: files of SQL, native rendering, undefined names."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, literal
from airflow.sdk import task

from airflow_provider_arroyo.hooks.errors import ArroyoArgumentError
from airflow_provider_arroyo.operators.arroyo import ArroyoStopPipelineOperator, ArroyoSubmitPipelineOperator
from airflow_provider_arroyo.operators.query import is_path, rendered_query
from airflow_provider_arroyo.sensors.arroyo import ArroyoPipelineSensor
from tests.support import ENDLESS

from .harness import FakeTaskInstance, submit
from .harness import context as a_context

FILE = "SELECT '{{ ds }}' AS day -- not this one: other.sql\n"
PARAMS: dict[str, Any] = {"ds": "2026-11-25", "params": {"table": "orders"}}


@pytest.fixture
def dag(tmp_path: Path) -> Any:
    """A DAG whose folder holds ``sql/orders.sql``."""
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "orders.sql").write_text(FILE)
    return DAG("a_dag", schedule=None, template_searchpath=[str(tmp_path)])


def rendered(operator: Any, context: dict[str, Any] | None = None) -> Any:
    """Return an operator whose fields Airflow has rendered, as for a running task."""
    operator.dag.resolve_template_files()
    operator.render_template_fields({**PARAMS, **(context or {})})
    return operator


# -- secrets ---------------------------------------------------------------------------------------------------

SECRET = (
    "CREATE TABLE t WITH (connector = 'kafka', 'auth.password' = '{{ params.password }}', 'topic' = 'keys');"
)


@pytest.mark.parametrize("from_file", [False, True])
def test_secrets_of_the_sql_are_hidden_from_airflows_log_and_pages(
    from_file: bool, dag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked: list[str] = []
    monkeypatch.setattr("airflow.providers.common.compat.sdk.mask_secret", masked.append, raising=False)
    (tmp_path / "sql" / "secret.sql").write_text(SECRET)
    operator = submit("sql/secret.sql" if from_file else SECRET)(dag=dag)
    rendered(operator, {"params": {"password": "hunter2"}})
    assert masked == ["hunter2"]
    assert "'hunter2'" in operator.query


# -- which query is a path -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query, expected",
    [
        ("orders.sql", True),
        ("sql/a name.sql", True),
        ("selected/orders.sql", True),
        ("orders.sql\n", False),
        ("SELECT 1\nFROM x.sql", False),
        ("SELECT 1 -- see docs/orders.sql", False),
        ("-- see orders.sql", False),
        ("  with a AS (SELECT 1) SELECT * FROM a.sql", False),
        ("orders.SQL", False),
        ("", False),
        (None, False),
    ],
)
def test_only_a_single_line_that_is_not_sql_is_a_path(query: Any, expected: bool) -> None:
    assert is_path(query) is expected


def test_a_file_is_read_when_the_dag_is_parsed_and_rendered_when_the_task_runs(dag: Any) -> None:
    operator = submit("sql/orders.sql")(dag=dag)
    dag.resolve_template_files()
    assert operator.query == FILE
    operator.render_template_fields(PARAMS)
    assert operator.query.startswith("SELECT '2026-11-25' AS day")


@pytest.mark.parametrize(
    "field, value",
    [
        ("pipeline_name", "orders.sql"),
        ("pipeline_name", "sql/orders.sql"),
        ("tags", {"source": "sql/orders.sql"}),
        ("env_vars", {"FILE": "etl/daily.sql"}),
        ("pipeline_id", "orders.sql"),
        ("query", f"{ENDLESS}\n-- from etl/daily.sql"),
        ("query", "SELECT 1 -- from sql/orders.sql"),
    ],
)
def test_text_that_ends_like_a_path_is_not_changed(dag: Any, field: str, value: Any) -> None:
    operator = rendered(submit(dag=dag, **{field: value})())
    assert getattr(operator, field) == value
    operator._spec()


def test_a_missing_file_is_reported_and_does_not_break_the_dag(dag: Any, tmp_path: Path) -> None:
    operator = submit("sql/missing.sql")(dag=dag)
    dag.resolve_template_files()
    with pytest.raises(ArroyoArgumentError, match=rf"'sql/missing.sql' was not found in .*{tmp_path}"):
        rendered(operator)._spec()
    other = DAG("other_dag", schedule=None, template_searchpath=[str(tmp_path)])
    (tmp_path / "sql" / "latin.sql").write_bytes("SELECT 'größe'".encode("latin-1"))
    with pytest.raises(ArroyoArgumentError, match="is not UTF-8"):
        rendered(submit("sql/latin.sql")(dag=other))._spec()
    operator = submit("sql/orders.sql")()
    operator.render_template_fields(PARAMS)
    with pytest.raises(ArroyoArgumentError, match="can only be read in a DAG"):
        operator._spec()


# -- paths that are not read -----------------------------------------------------------------------------------


def mapped(dag: Any, expand: Any) -> tuple[Any, dict[str, Any]]:
    with dag:
        partial = ArroyoSubmitPipelineOperator.partial(task_id="mapped", wait_for=None)
        operator: Any = expand(partial)
    dag.resolve_template_files()
    ti: Any = FakeTaskInstance(map_index=0)
    ti.is_mapped = True
    ti._upstream_map_indexes = {}
    ti._cached_template_context = None
    return operator, {
        **PARAMS,
        "ti": ti,
        "dag": dag,
        "dag_run": SimpleNamespace(conf={}),
        "expanded_ti_count": 1,
    }


@pytest.mark.parametrize(
    "expand",
    [
        lambda partial: partial.expand(query=["sql/orders.sql"], pipeline_name=["orders"]),
        lambda partial: partial.expand_kwargs([{"pipeline_name": "orders", "query": "sql/orders.sql"}]),
        lambda partial: partial.expand_kwargs([{"pipeline_name": "orders", "query": FILE}]),
    ],
    ids=["expand", "expand_kwargs", "texts"],
)
def test_mapping_over_files_works(dag: Any, expand: Any) -> None:
    operator, context = mapped(dag, expand)
    operator.render_template_fields(context)
    spec = context["task"]._spec()
    assert (spec.name, spec.query[:26]) == ("orders", "SELECT '2026-11-25' AS day")


@pytest.mark.parametrize("returned", ["sql/orders.sql", "SELECT '{{ ds }}'"])
def test_the_result_of_another_task_is_neither_read_nor_rendered(
    dag: Any, returned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow.sdk.definitions.xcom_arg.PlainXComArg.resolve", lambda *_: [returned])

    @task(dag=dag)
    def list_files() -> list[str]:
        raise NotImplementedError

    operator, context = mapped(
        dag, lambda partial: partial.expand(query=list_files(), pipeline_name=["orders"])
    )
    operator.render_template_fields(context)
    assert context["task"].query == returned
    if returned.endswith(".sql"):
        with pytest.raises(
            ValueError, match=r"'sql/orders.sql' looks like the path of a file that was not read"
        ):
            context["task"]._spec()


@pytest.mark.parametrize("query", ["{{ 'sql/' ~ params.table ~ '.sql' }}", literal("sql/orders.sql\n")])
def test_a_path_from_a_template_is_not_read_and_the_error_says_so(dag: Any, query: Any) -> None:
    operator = rendered(submit(query)(dag=dag))
    with pytest.raises(ValueError, match=r"looks like the path of a file that was not read.*read_text\(\)"):
        operator._spec()


# -- Arroyo's own variables ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query, words",
    [
        ("SELECT 1 -- {{ KAFKA_PASSWORD }}", "query: 'KAFKA_PASSWORD' is undefined"),
        ("SELECT 1 -- {{ params.nope.deep }}", "has no attribute 'nope'"),
        ("SELECT 1 -- {{ KAFKA PASSWORD }}", "not a valid template"),
        ("SELECT '{#'", "not a valid template"),
    ],
)
def test_a_name_that_is_not_defined_hints_at_arroyos_variables(dag: Any, query: str, words: str) -> None:
    with pytest.raises(ArroyoArgumentError) as caught:
        rendered(submit(query)(dag=dag))._spec()
    assert words in str(caught.value)
    assert "{% raw %}{{ NAME }}{% endraw %}" in str(caught.value)
    assert "literal(...)" in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "query", ["SELECT '{% raw %}{{ KAFKA_PASSWORD }}{% endraw %}'", literal("SELECT '{{ KAFKA_PASSWORD }}'")]
)
def test_arroyos_variables_reach_arroyo(dag: Any, query: Any) -> None:
    assert rendered(submit(query)(dag=dag))._spec().query == "SELECT '{{ KAFKA_PASSWORD }}'"


# -- values of render_template_as_native_obj -------------------------------------------------------------------

NATIVE = [
    *("2024_01_15", "0x1F", "+5", "1_000", "20241015", "1.50", "1e3", "True", "None", "[1]"),
    *("'a', 'b'", "{'a': 1}", "b'x'"),
]


def native(**fields: Any) -> Any:
    return DAG("a_dag", schedule=None, render_template_as_native_obj=True, **fields)


@pytest.mark.parametrize("text", NATIVE)
@pytest.mark.parametrize("field", ["pipeline_name", "tags", "env_vars"])
def test_a_value_that_native_rendering_converted_is_refused_with_advice(text: str, field: str) -> None:
    template = "{{ params.value }}"
    value: Any = {"A": template} if field in ("tags", "env_vars") else template
    operator = submit(dag=native(), **{field: value})()
    operator.render_template_fields({"params": {"value": text}})
    with pytest.raises(
        ValueError, match=rf"^{field}\b.* must be a string.*render_template_as_native_obj.*quotes"
    ):
        operator._spec()
    if (text, field) == ("None", "pipeline_name"):
        return  # "None" is more likely the result of a task that returned nothing, so it is refused even in quotes.
    # The advice works.
    quoted = f"'{template}'" if "'" not in text else f'"{template}"'
    value = {"A": quoted} if field in ("tags", "env_vars") else quoted
    operator = submit(dag=native(), **{field: value})()
    operator.render_template_fields({"params": {"value": text}})
    spec = operator._spec()
    assert (spec.name if field == "pipeline_name" else getattr(spec, field)["A"]) == text


@pytest.mark.parametrize("text", ["2024_01_15", "0x1F", "1.5", "True", "None"])
@pytest.mark.parametrize("field", ["pipeline_id", "pipeline_name"])
def test_a_stop_or_a_sensor_refuses_a_converted_id(text: str, field: str) -> None:
    classes: list[Any] = [ArroyoStopPipelineOperator, ArroyoPipelineSensor]
    for make in classes:
        operator = make(task_id="a_task", dag=native(), **{field: "{{ params.value }}"})
        operator.render_template_fields({"params": {"value": text}})
        with pytest.raises(ArroyoArgumentError, match="render"):
            operator.execute(a_context())


def test_dates_and_numbers_of_other_types_are_refused() -> None:
    from datetime import date
    from decimal import Decimal

    for value in (date(2026, 11, 25), Decimal("1.0"), 5, b"SELECT 1"):
        with pytest.raises(ValueError, match="query must be a string"):
            rendered_query(value)


@pytest.mark.parametrize(
    "value, message",
    [
        (None, "query must be a string, got NoneType None; did the upstream task return one? With"),
        ([], r"query must be a string, got list \[\]; did the upstream task return one?"),
        (7, "query must be a string, got int 7. With"),
    ],
)
def test_a_query_that_is_none_or_several_may_be_another_tasks_mistake(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message.replace('?', '.')}"):
        rendered_query(value)


def test_a_connection_id_that_native_rendering_converted_is_refused() -> None:
    operator: Any = submit(dag=native(), arroyo_conn_id="{{ params.value }}")()
    operator.render_template_fields({"params": {"value": "2024_01_15"}})
    with pytest.raises(ArroyoArgumentError, match="arroyo_conn_id must be a string"):
        operator.execute(a_context())
