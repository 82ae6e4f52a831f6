"""Connection profiles, connection tables and UDFs: created once, never changed, and differences are reported."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.hooks.errors import ArroyoFatalTaskError, ArroyoTaskError
from airflow_provider_arroyo.operators.arroyo import (
    ArroyoEnsureConnectionProfileOperator,
    ArroyoEnsureConnectionTableOperator,
    ArroyoEnsureUdfOperator,
)
from airflow_provider_arroyo.pipelines.ensure import differences_of
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .harness import FakeTaskInstance

SECRET = "hunter2-hunter2"
KAFKA = {
    "bootstrapServers": "broker:9092",
    "authentication": {"protocol": "SASL_SSL", "username": "orders", "password": SECRET},
}
SOURCE = "use arroyo_udf_plugin::udf;\n#[udf]\nfn plus_one(x: i64) -> i64 { x + 1 }\n"


def profile(**more: Any) -> Any:
    given = {"name": "kafka1", "connector": "kafka", "config": KAFKA, **more}
    return ArroyoEnsureConnectionProfileOperator(task_id="a_task", **given)


def table(**more: Any) -> Any:
    given = {"name": "events", "connector": "impulse", "config": {"event_rate": 5}, **more}
    return ArroyoEnsureConnectionTableOperator(task_id="a_task", **given)


def udf(**more: Any) -> Any:
    return ArroyoEnsureUdfOperator(task_id="a_task", **{"definition": SOURCE, **more})


def run(operator: Any) -> Any:
    return operator.execute({"ti": FakeTaskInstance()})


def creates(sandbox: ArroyoSandbox) -> int:
    return sum("validate" not in request.path for request in sandbox.requests.find("POST"))


MAKERS = pytest.mark.parametrize("make", [profile, table, udf])


@pytest.mark.arroyo_versions("0.15", "0.16")
@MAKERS
def test_each_object_is_created_once_and_then_left_alone(make: Any, sandbox: ArroyoSandbox) -> None:
    first, second = run(make()), run(make())
    assert (first["action"], second["action"]) == ("created", "unchanged")
    assert first["id"] == second["id"]
    assert second["differences"] == []
    assert creates(sandbox) == 1


@pytest.mark.arroyo_versions("0.15", "0.16")
@MAKERS
@pytest.mark.parametrize("after_effect", [False, True])
def test_a_lost_response_causes_one_create(make: Any, after_effect: bool, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.reset(
        method="POST", path="*udfs" if make is udf else "*connection_*", after_effect=after_effect
    )
    try:
        result = run(make())
    except ArroyoTaskError:
        # Nothing was created; Airflow's retry creates it.
        assert not after_effect
        result = run(make())
    assert result["action"] == "created"
    assert run(make())["action"] == "unchanged"
    stored = (sandbox.store.profiles, sandbox.store.tables, sandbox.store.udfs)
    assert sum(map(len, stored)) == 1


DIFFERENT = [
    (
        profile,
        {"config": {**KAFKA, "bootstrapServers": "other:9092"}},
        "config.bootstrapServers: 'broker:9092'",
    ),
    (profile, {"config": {"bootstrapServers": "broker:9092"}}, "config.authentication: set on the server"),
    (table, {"config": {"event_rate": 7}}, "config.event_rate: 5 on the server, 7 wanted"),
    (udf, {"definition": SOURCE.replace("+ 1", "+ 2")}, "definition: another source"),
]


@pytest.mark.parametrize("make, changed, message", DIFFERENT)
def test_a_difference_is_reported_and_nothing_is_changed(
    make: Any, changed: dict[str, Any], message: str, sandbox: ArroyoSandbox
) -> None:
    run(make())
    with pytest.raises(ArroyoFatalTaskError) as caught:
        run(make(**changed))
    assert message in str(caught.value)
    assert "Nothing was changed" in str(caught.value)
    kept = run(make(**changed, if_different="keep"))
    assert kept["action"] == "unchanged"
    assert any(message in line for line in kept["differences"])
    assert creates(sandbox) == 1


def test_a_secret_that_differs_is_not_shown(sandbox: ArroyoSandbox) -> None:
    run(profile())
    authentication = {**KAFKA["authentication"], "password": "another-secret"}  # type: ignore[dict-item]  # a literal
    with pytest.raises(ArroyoFatalTaskError) as caught:
        run(profile(config={**KAFKA, "authentication": authentication}))
    assert "config.authentication.password: *** (differs)" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "another-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"a": [{"password": SECRET}]}, "config.a[0].password: *** (differs)"),
        ({"headers": f"X-Whatever: {SECRET}"}, "config.headers: *** (differs)"),
        ({"headers": [{"name": "X-Whatever", "value": SECRET}]}, "config.headers[0].value: *** (differs)"),
        ({"endpoint": f"https://u:{SECRET}@host/x"}, "config.endpoint: 'https://***@host/x' on the server"),
        (
            {"endpoint": f"wss://host:1/?token={SECRET}"},
            "config.endpoint: 'wss://host:1/?token=***' on the server",
        ),
        (
            {"connection": f"Server=x;Password={SECRET}"},
            "config.connection: 'Server=x;Password=***' on the server",
        ),
    ],
)
def test_a_secret_within_a_setting_that_differs_is_not_shown(config: dict[str, Any], message: str) -> None:
    stored = json.loads(json.dumps(config).replace(SECRET, "another-secret"))
    (line,) = differences_of({"config": config}, {"config": stored})
    assert line.startswith(message)
    assert SECRET not in line
    assert "another-secret" not in line


def test_the_error_about_another_table_names_its_users(sandbox: ArroyoSandbox, client: ArroyoClient) -> None:
    run(table())
    sql = (
        "CREATE TABLE s (n BIGINT) WITH (connector = 'blackhole'); INSERT INTO s SELECT counter FROM events;"
    )
    made = client.create_pipeline(name="uses it", query=sql)
    with pytest.raises(ArroyoFatalTaskError) as caught:
        run(table(config={"event_rate": 7}))
    assert f"1 pipeline; its name occurs in the SQL of 'uses it' ({made.id})" in str(caught.value)


def test_a_table_needs_its_profile(sandbox: ArroyoSandbox) -> None:
    given: dict[str, Any] = {
        "connector": "kafka",
        "config": {"topic": "orders", "type": {"offset": "latest"}},
        "connection_profile": "kafka1",
        "schema": {"format": {"json": {}}, "fields": [{"name": "n", "type": "int64"}]},
    }
    with pytest.raises(ArroyoTaskError, match="no connection profile named 'kafka1'"):
        run(table(**given))
    run(profile())
    assert run(table(**given))["action"] == "created"
    assert run(table(**given))["action"] == "unchanged"


def test_a_udf_that_arroyo_refuses_is_an_error(sandbox: ArroyoSandbox) -> None:
    with pytest.raises(ArroyoFatalTaskError, match="Arroyo refused the UDF"):
        run(udf(definition="this is no function"))
    assert creates(sandbox) == 0


@pytest.mark.parametrize(
    "make, arguments, message",
    [
        (profile, {"name": " "}, "name"),
        (profile, {"name": "None"}, "name must not be empty, got 'None'; did the upstream task return one?"),
        (table, {"name": "events "}, "name must not have white space around it"),
        (table, {"connection_profile": "None"}, "connection_profile must not be empty"),
        (profile, {"config": "x"}, "config"),
        (table, {"schema": {1: 2}}, "schema"),
        (udf, {"language": "java"}, "language"),
        (udf, {"if_different": "replace"}, "if_different"),
    ],
)
def test_invalid_arguments_are_refused(make: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize("field", ["name", "connector"])
@pytest.mark.parametrize("make", [profile, table])
def test_a_rendered_none_creates_nothing(make: Any, field: str, sandbox: ArroyoSandbox) -> None:
    operator = make()
    setattr(operator, field, "None")
    with pytest.raises(ArroyoFatalTaskError, match=f"{field} must not be empty"):
        run(operator)
    assert sandbox.requests.total == 0


def test_an_unknown_connector_fails_without_a_retry(sandbox: ArroyoSandbox) -> None:
    with pytest.raises(ArroyoFatalTaskError, match="Unknown connector type"):
        run(profile(connector="kafkaa"))


@pytest.mark.parametrize("make, field", [(profile, "config"), (table, "config")])
def test_invalid_rendered_arguments_fail_without_a_retry_before_any_request(
    make: Any, field: str, sandbox: ArroyoSandbox
) -> None:
    operator = make()
    setattr(operator, field, json.dumps(getattr(operator, field)))
    with pytest.raises(ArroyoFatalTaskError, match=f"{field} must be a mapping"):
        run(operator)
    assert sandbox.requests.total == 0
