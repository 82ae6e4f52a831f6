"""What each answer means, over real HTTP, the same from both clients."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_arroyo.arroyo import api
from airflow_provider_arroyo.arroyo.call import Call
from airflow_provider_arroyo.arroyo.models import StopMode
from airflow_provider_arroyo.arroyo.spec import PipelineSpec
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConflictError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoNotFoundError,
    ArroyoQueryError,
    ArroyoResponseError,
    ArroyoTlsError,
    error_from_dict,
)
from tests.arroyo.conftest import Clock, Connect, Driver
from tests.arroyo.server import Server, reply

SPEC = PipelineSpec(name="orders", query="SELECT 1")
PIPELINE = {"id": "pl_1", "name": "orders", "query": "SELECT 1", "stop": "none", "graph": {}}
LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


def refusal(driver: Driver, call: Call[Any], cls: type[ArroyoError] = ArroyoApiError) -> Any:
    """Make a call that fails, and return how."""
    with pytest.raises(cls) as caught:
        driver.call(call)
    assert type(caught.value) is cls, caught.value
    return caught.value


def test_says_yes(client: Driver, server: Server) -> None:
    server.play(reply(PIPELINE, headers={"date": "Wed, 25 Nov 2026 03:55:27 GMT"}))
    exchange = client.exchange(api.get_pipeline("pl_1"))
    assert exchange.value.name == "orders"
    assert exchange.server_date == datetime(2026, 11, 25, 3, 55, 27, tzinfo=UTC)


def test_answer_without_a_date_has_none(client: Driver, server: Server) -> None:
    server.play(reply("Pong"))
    assert client.exchange(api.ping()).server_date is None


def test_error_in_arroyos_words(client: Driver, server: Server) -> None:
    server.play(reply({"error": "Pipeline's jobs must be in a terminal state"}, 400))
    error = refusal(client, api.delete_pipeline("pl_1"))
    assert (error.status, error.method, error.path) == (400, "DELETE", "/pipelines/pl_1")
    assert error.server_message == "Pipeline's jobs must be in a terminal state"
    assert error.server_message in str(error)
    assert len(server.requests) == 1


def test_error_in_plain_text(client: Driver, server: Server) -> None:
    words = "Failed to deserialize query string: invalid digit found in string"
    server.play(reply(words, 400, content_type="text/plain; charset=utf-8"))
    error = refusal(client, api.list_pipelines(limit=5))
    assert error.server_message == words
    assert words in str(error)


def test_error_without_a_word(client: Driver, server: Server) -> None:
    server.play(reply(None, 409))
    error = refusal(client, api.restart_pipeline("pl_1", ignore_state=True), ArroyoConflictError)
    assert error.server_message == ""
    assert "without a word" in str(error)


@pytest.mark.parametrize("status", [401, 403])
def test_key_that_is_refused_is_not_shown(status: int, connect: Connect, server: Server) -> None:
    server.play(reply(None, status))
    driver = connect(server.url(), api_key="s3cret-key")
    error = refusal(driver, api.list_jobs(), ArroyoAuthError)
    assert server.requests[0].headers["authorization"] == "Bearer s3cret-key"
    assert "header Authorization" in str(error)
    assert str(status) in str(error)
    assert "s3cret" not in str(error) + repr(error) + str(error.to_dict()) + driver.text()
    assert error.is_permanent
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_key_that_is_missing(status: int, client: Driver, server: Server) -> None:
    server.play(reply(None, status))
    error = refusal(client, api.ping(), ArroyoAuthError)
    assert "authorization" not in server.requests[0].headers
    assert "were sent" in str(error)
    assert "API key" in str(error)


def test_header_of_a_gateway_is_named(connect: Connect, server: Server) -> None:
    server.play(reply(LOGIN_PAGE, 403, content_type="text/html"))
    error = refusal(connect(server.url(), headers={"X-Gate": "open-sesame"}), api.ping(), ArroyoAuthError)
    assert server.requests[0].headers["x-gate"] == "open-sesame"
    assert "X-Gate" in str(error)
    assert "open-sesame" not in str(error)


def test_secrets_that_the_server_repeats_are_hidden(connect: Connect, server: Server) -> None:
    server.play(reply({"error": "no user has key s3cret-key"}, 400))
    error = refusal(connect(server.url(), api_key="s3cret-key"), api.list_jobs())
    assert "s3cret" not in str(error) + str(error.to_dict())
    assert "no user has key ***" in str(error)


def test_no_such_pipeline(client: Driver, server: Server) -> None:
    server.play(reply({"error": "Pipeline not found"}, 404))
    error = refusal(client, api.get_pipeline("pl_gone"), ArroyoNotFoundError)
    assert "pl_gone" in str(error)
    assert not error.is_transient


@pytest.mark.parametrize(
    "call, status, words",
    [
        (api.patch_pipeline("pl_gone", stop=StopMode.CHECKPOINT), 400, "There are no jobs for the pipeline"),
        (api.patch_pipeline("pl_gone", stop=StopMode.CHECKPOINT), 404, "Job for pipeline not found"),
        (api.restart_pipeline("pl_gone"), 400, "No jobs for pipeline"),
    ],
)
def test_every_way_of_saying_that_there_is_no_such_pipeline(
    call: Call[Any], status: int, words: str, client: Driver, server: Server
) -> None:
    server.play(reply({"error": words}, status))
    error = refusal(client, call, ArroyoNotFoundError)
    assert error.status == status
    assert "pl_gone" in str(error)


def test_path_that_arroyo_does_not_know_is_not_a_missing_pipeline(client: Driver, server: Server) -> None:
    server.play(reply({"error": "Route not found"}, 404))
    assert "base_path" in str(refusal(client, api.get_pipeline("pl_1")))


@pytest.mark.parametrize(
    "answer, what",
    [
        (reply(LOGIN_PAGE, 200, content_type="text/html"), "HTML"),
        (reply(LOGIN_PAGE.encode(), 200), "HTML"),
        (reply(LOGIN_PAGE, 404, content_type="text/html"), "HTML"),
        (reply(LOGIN_PAGE, 400, content_type="text/html; charset=utf-8"), "HTML"),
        (reply({"message": "no Route matched"}, 404), "404 that is not Arroyo's"),
        (reply({"message": "no Route matched"}, 400), "JSON that is not Arroyo's"),
        (reply(None, 404), "404 that is not Arroyo's"),
        (reply({"status": "ok"}), "field 'data' is missing"),
        (reply({"data": {}}), "not a list"),
        (reply({"data": [{"id": 7}]}), "not Arroyo's"),
        (reply({"data": ["x"]}), "not Arroyo's"),
        (reply([1, 2]), "not an object"),
        (reply("pleased to meet you", content_type="text/plain"), "not JSON"),
        (reply(None, 302, headers={"location": "https://login.example/?next=x"}), "https://login.example/"),
        (reply(None, 302), "a redirect to nowhere"),
    ],
)
def test_something_that_is_not_arroyo(answer: Any, what: str, client: Driver, server: Server) -> None:
    server.play(answer)
    error = refusal(client, api.list_jobs(), ArroyoResponseError)
    assert what in str(error)
    assert f"{server.url()}/api/v1/jobs" in str(error)
    assert error.is_permanent
    assert not error.is_transient
    assert len(server.requests) == 1


def test_the_first_characters_of_a_foreign_answer_are_shown(client: Driver, server: Server) -> None:
    server.play(reply(LOGIN_PAGE + "x" * 5000, content_type="text/html"))
    error = refusal(client, api.ping(), ArroyoResponseError)
    assert "<title>Sign in</title>" in str(error)
    assert len(str(error)) < 1000


def test_a_login_page_is_no_success_of_a_call_without_an_answer(client: Driver, server: Server) -> None:
    server.play(reply(LOGIN_PAGE, content_type="text/html"))
    refusal(client, api.delete_pipeline("pl_1"), ArroyoResponseError)


def test_a_ping_that_somebody_else_answers(client: Driver, server: Server) -> None:
    server.play(reply("pong"))
    assert "Pong" in str(refusal(client, api.ping(), ArroyoResponseError))


def test_json_that_breaks_off_is_read_again(client: Driver, server: Server, clock: Clock) -> None:
    server.play(reply(b'{"data": [{"id": "job'), reply({"data": []}))
    assert client.call(api.list_jobs()) == ()
    assert len(clock.slept) == 1


def test_json_that_keeps_breaking_off(client: Driver, server: Server) -> None:
    server.play(reply(b'{"data": [{"id": "job'))
    error = refusal(client, api.list_jobs(), ArroyoResponseError)
    assert error.is_transient
    assert not error.is_permanent
    assert """'{"data": [{"id": "job'""" in str(error)
    assert len(server.requests) == 11
    again = error_from_dict(error.to_dict())
    assert isinstance(again, ArroyoResponseError)
    assert again.is_transient


def test_json_that_breaks_off_after_a_change_leaves_it_unknown(client: Driver, server: Server) -> None:
    server.play(reply(b'{"id": "pl_'))
    error = refusal(client, api.create_pipeline(SPEC), ArroyoConnectionError)
    assert error.was_sent
    assert "not known whether it took effect" in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "make",
    [
        api.create_pipeline,
        lambda spec: api.put_pipeline("mine", spec),
        lambda spec: api.preview(spec.query),
        lambda spec: api.validate_query(spec.query),
    ],
)
def test_sql_that_is_refused(make: Callable[..., Call[Any]], client: Driver, server: Server) -> None:
    words = 'SQL error: ParserError("Expected: an SQL statement, found: SELEC at Line: 3, Column: 14")'
    server.play(reply({"error": words}, 400))
    error = refusal(client, make(SPEC), ArroyoQueryError)
    assert [(d.message, d.line, d.column) for d in error.diagnostics] == [(words, 3, 14)]
    assert error.is_permanent


def test_sql_that_is_refused_for_several_reasons(client: Driver, server: Server) -> None:
    words = "Failed to plan query:\n * table 'nowhere' not found\n * column 'a' not found"
    server.play(reply({"error": words}, 400))
    error = refusal(client, api.create_pipeline(SPEC), ArroyoQueryError)
    assert [d.message for d in error.diagnostics] == ["table 'nowhere' not found", "column 'a' not found"]


@pytest.mark.parametrize(
    "words", ["'format' must be set for Kafka connection", "Required option 'topic' must be set"]
)
def test_options_of_a_table_are_part_of_the_sql(words: str, client: Driver, server: Server) -> None:
    server.play(reply({"error": words}, 400))
    assert refusal(client, api.create_pipeline(SPEC), ArroyoQueryError).is_permanent


@pytest.mark.parametrize("status", [507, 520, 521, 530])
def test_page_of_a_gateway_whose_status_is_its_own(status: int, client: Driver, server: Server) -> None:
    """To a wait for a pipeline that was seen it is an outage, as other pages are."""
    server.play(reply("<html>web server is down</html>", status, content_type="text/html"))
    assert refusal(client, api.get_pipeline("pl_1"), ArroyoResponseError).status == status


def test_what_is_secret_does_not_change_what_an_answer_means(connect: Connect, server: Server) -> None:
    """A header of a gateway may have any value, also one that is a word of Arroyo's."""
    server.play(reply({"error": "No jobs for pipeline"}, 400))
    driver = connect(server.url(), headers={"X-Scope": "jobs"})
    error = refusal(driver, api.restart_pipeline("pl_1"), ArroyoNotFoundError)
    assert "jobs" not in error.server_message


@pytest.mark.parametrize(
    "status, words",
    [
        (400, "Field name must be set"),
        (400, "Checkpoint_interval_micros must be between 1 second and 1 day."),
        (400, "Failed to parse the request body as JSON: EOF while parsing a value at line 1 column 0"),
        (422, "Failed to deserialize the JSON body into the target type: missing field `query`"),
    ],
)
def test_refusals_that_are_not_about_the_sql(status: int, words: str, client: Driver, server: Server) -> None:
    server.play(reply({"error": words}, status))
    assert refusal(client, api.create_pipeline(SPEC)).server_message == words


@pytest.mark.parametrize(
    "call, words",
    [
        (api.put_pipeline("mine", SPEC), "A record already exists with that name or id"),
        (
            api.create_connection_table(name="t", connector="impulse", config={}),
            "connection_table with that name already exists",
        ),
    ],
)
def test_what_is_there_already(call: Call[Any], words: str, client: Driver, server: Server) -> None:
    server.play(reply({"error": words}, 400))
    assert refusal(client, call, ArroyoConflictError).server_message == words


def test_server_without_put(client: Driver, server: Server) -> None:
    server.play(reply(None, 405, headers={"allow": "GET,HEAD,PATCH,DELETE"}))
    error = refusal(client, api.put_pipeline("mine", SPEC))
    assert error.status == 405
    assert "0.15" in str(error)


def test_body_that_is_too_large(client: Driver, server: Server) -> None:
    words = "Failed to buffer the request body: length limit exceeded"
    server.play(reply({"error": words}, 413))
    spec = PipelineSpec(name="big", query="-- " + "x" * 2_200_000)
    error = refusal(client, api.create_pipeline(spec))
    assert error.status == 413
    assert "2 MB" in str(error)
    assert error.is_permanent
    assert f"{len(server.requests[0].body):,} bytes" in str(error)
    assert words in str(error)
    assert len(server.requests) == 1


def test_body_that_a_proxy_finds_too_large(client: Driver, server: Server) -> None:
    server.play(reply("<html>413 Request Entity Too Large</html>", 413, content_type="text/html"))
    error = refusal(client, api.create_pipeline(SPEC))
    assert "proxy in between has a lower limit" in str(error)


@pytest.mark.parametrize(
    "words",
    [
        "Client sent an HTTP request to an HTTPS server.",
        "<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>",
    ],
)
def test_plain_http_that_a_gateway_refuses(words: str, client: Driver, server: Server) -> None:
    server.play(reply(words, 400, content_type="text/html" if words[0] == "<" else "text/plain"))
    error = refusal(client, api.ping(), ArroyoTlsError)
    assert "https" in str(error)
    assert len(server.requests) == 1


def test_gateway_that_misses_a_client_certificate(client: Driver, server: Server) -> None:
    page = "<html><title>400 No required SSL certificate was sent</title></html>"
    server.play(reply(page, 400, content_type="text/html"))
    assert "client_cert" in str(refusal(client, api.ping(), ArroyoTlsError))


def test_error_page_of_a_gateway_is_an_outage_and_not_a_foreign_server(
    client: Driver, server: Server
) -> None:
    server.play(reply("<html><h1>502 Bad Gateway</h1></html>", 502, content_type="text/html"))
    error = refusal(client, api.list_jobs())
    assert error.is_transient
    assert "502 Bad Gateway" in str(error)


@pytest.mark.parametrize(
    "headers, seconds",
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "soon"}, None),
        (
            {"date": "Wed, 25 Nov 2026 03:55:27 GMT", "retry-after": "Wed, 25 Nov 2026 03:55:32 GMT"},
            5.0,
        ),
        (
            {"date": "Wed, 25 Nov 2026 03:55:27 GMT", "retry-after": "Wed, 25 Nov 2026 03:00:00 GMT"},
            0.0,
        ),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None, client: Driver, server: Server) -> None:
    server.play(reply(None, 429, headers=headers))
    assert refusal(client, api.list_jobs()).retry_after_seconds == seconds


def test_interval_is_sent_in_microseconds_and_what_is_not_set_is_left_out(
    client: Driver, server: Server
) -> None:
    server.play(reply(PIPELINE))
    client.call(api.patch_pipeline("pl_1", checkpoint_interval=timedelta(seconds=1.5)))
    assert server.requests[0].json == {"checkpoint_interval_micros": 1_500_000}
