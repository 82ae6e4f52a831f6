"""The texts of errors about responses, and what they never show. Their kinds are in ``test_dispositions.py``."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_arroyo.client import body_secrets, responses
from airflow_provider_arroyo.client import endpoints as api
from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.client.request import Request
from airflow_provider_arroyo.client.settings import ClientSettings
from airflow_provider_arroyo.client.text_secrets import redact_values
from airflow_provider_arroyo.client.transport import Transport
from airflow_provider_arroyo.exceptions import (
    ArroyoApiError,
    ArroyoAuthError,
    ArroyoConnectionError,
    ArroyoError,
    ArroyoForeignResponseError,
    ArroyoNotFoundError,
    ArroyoQueryError,
    ArroyoSettingsError,
)
from tests.client.conftest import ONCE, PIPELINE, SPEC, Connect
from tests.client.server import CLOSE, TLS_ALERT, Reply, Server, reply

LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
DATE = "Wed, 25 Nov 2026 03:55:27 GMT"
CREATE = api.create_pipeline(**SPEC)


def refusal(client: ArroyoClient, request: Request[Any], cls: type[ArroyoError] = ArroyoApiError) -> Any:
    """Send a request that fails, and return the error."""
    with pytest.raises(cls) as caught:
        client.with_limits(max_elapsed_seconds=0).send(request)
    return caught.value


def test_server_date(client: ArroyoClient, server: Server) -> None:
    server.play(reply(PIPELINE, headers={"date": DATE}), reply(PIPELINE))
    response = client.send(api.get_pipeline("pl_1"))
    assert response.value.name == "orders"
    assert response.server_date == datetime(2026, 11, 25, 3, 55, 27, tzinfo=UTC)
    assert client.send(api.get_pipeline("pl_1")).server_date is None


@pytest.mark.parametrize(
    "date", ["soon", "Wed, 25 Nov 2026 03:55:27 +99999999999", f"1 Jan {10**19} 0:00:00 GMT"]
)
def test_invalid_date(date: str, client: ArroyoClient, server: Server) -> None:
    server.play(reply(PIPELINE, headers={"date": date}))
    assert client.send(api.get_pipeline("pl_1")).server_date is None


@pytest.mark.parametrize("errors", [None, "no", [5], [{"words": "no"}]], ids=str)
def test_an_unreadable_validation_does_not_pass(errors: Any, client: ArroyoClient, server: Server) -> None:
    server.play(reply({"graph": None, "errors": errors}))
    refusal(client, api.validate_query("SELECT 1"), ArroyoForeignResponseError)


def test_a_refusal_has_the_data_of_the_response(client: ArroyoClient, server: Server) -> None:
    server.play(reply({"error": "Pipeline's jobs must be in a terminal state"}, 400))
    error = refusal(client, api.delete_pipeline("pl_1"))
    assert (error.status, error.method, error.path) == (400, "DELETE", "/pipelines/pl_1")
    assert error.server_message == "Pipeline's jobs must be in a terminal state"
    assert error.server_message in str(error)


NO_PUT = reply(None, 405, headers={"allow": "PATCH,GET,HEAD,DELETE"})
LONG_PAGE = reply(LOGIN_PAGE + "x" * 5000, content_type="text/html")
TOO_LARGE = reply({"error": "Failed to buffer the request body: length limit exceeded"}, 413)


@pytest.mark.parametrize(
    "request_, response, words",
    [
        (
            api.get_pipeline("pl_gone"),
            reply({"error": "Pipeline not found"}, 404),
            "not have pipeline 'pl_gone'",
        ),
        (api.list_jobs(), reply({"error": "Route not found"}, 404), "base_path"),
        (api.put_pipeline("mine", **SPEC), NO_PUT, "it is Arroyo 0.15"),
        (CREATE, reply(b'{"id": "pl_'), 'not known whether it took effect. It began: \'{"id": "pl_\''),
        (CREATE, TOO_LARGE, "so a proxy in between has a lower limit"),
        (
            api.create_pipeline(name="big", query="x" * 2_200_000),
            TOO_LARGE,
            'UDFs smaller. (It said: {"error": "Failed to buffer the request body: length limit exceeded"})',
        ),
        (api.ping(), reply("pong"), "not Arroyo's 'Pong'"),
        (
            api.list_jobs(),
            LONG_PAGE,
            "status 200 and HTML. Check that the connection's host, port and base_path",
        ),
        (api.list_jobs(), LONG_PAGE, "<title>Sign in</title>"),
        (
            api.list_jobs(),
            reply({"message": "no Route"}, 404),
            "status 404 and something that is not Arroyo's",
        ),
        (api.list_jobs(), reply({"error": "no such page"}, 404), "404 in words that are not Arroyo's"),
        (api.list_jobs(), reply("hello", content_type="text/plain"), "not JSON"),
        (
            api.list_jobs(),
            reply(None, 302, headers={"location": "https://u:pw@x/"}),
            "a redirect to https://***@x/",
        ),
    ],
)
def test_message(
    request_: Request[Any], response: Reply, words: str, client: ArroyoClient, server: Server
) -> None:
    server.play(response)
    message = str(refusal(client, request_, ArroyoError))
    assert words in message
    assert len(message) < 1000


# -- SQL -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        api.create_pipeline,
        lambda **fields: api.put_pipeline("mine", **fields),
        lambda name, query: api.preview_query(query),
        lambda name, query: api.validate_query(query),
    ],
)
def test_the_position_in_refused_sql_is_read(
    make: Callable[..., Request[Any]], client: ArroyoClient, server: Server
) -> None:
    words = 'SQL error: ParserError("Expected: an SQL statement, found: SELEC at Line: 3, Column: 14")'
    server.play(reply({"error": words}, 400))
    error = refusal(client, make(**SPEC), ArroyoQueryError)
    assert [(d.message, d.line, d.column) for d in error.diagnostics] == [(words, 3, 14)]


def test_several_errors_in_sql_are_read(client: ArroyoClient, server: Server) -> None:
    words = "Failed to plan query:\n * table 'nowhere' not found\n * column 'a' not found"
    server.play(reply({"error": words}, 400))
    error = refusal(client, CREATE, ArroyoQueryError)
    assert [d.message for d in error.diagnostics] == ["table 'nowhere' not found", "column 'a' not found"]


# -- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_shown(status: int, connect: Connect, server: Server) -> None:
    server.play(reply({"error": "who is s3cret-key?"}, status))
    client = connect(server.url(), api_key="s3cret-key")
    error = refusal(client, api.list_jobs(), ArroyoAuthError)
    assert server.requests[0].headers["authorization"] == "Bearer s3cret-key"
    assert "header Authorization" in str(error)
    assert str(status) in str(error)
    assert "who is ***?" in str(error)
    assert "s3cret" not in f"{error} {error!r} {error.to_dict()} {client!r} {client.settings!r}"
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_missing_key_is_reported(status: int, client: ArroyoClient, server: Server) -> None:
    server.play(reply(None, status))
    message = str(refusal(client, api.ping(), ArroyoAuthError))
    assert "authorization" not in server.requests[0].headers
    assert "were sent" in message
    assert "API key" in message


def test_a_refused_header_of_a_gateway_is_named(connect: Connect, server: Server) -> None:
    server.play(reply(LOGIN_PAGE, 403, content_type="text/html"))
    headers = {"X-Gate-Token": "open-sesame", "X-Forwarded-Proto": "https"}
    message = str(refusal(connect(server.url(), headers=headers), api.ping(), ArroyoAuthError))
    assert server.requests[0].headers["x-gate-token"] == "open-sesame"
    assert "header X-Gate-Token do not" in message


def test_the_message_about_a_firewall_that_forbids_sql(client: ArroyoClient, server: Server) -> None:
    server.play(reply("<html>Request blocked</html>", 403, content_type="text/html"))
    about_sql = str(refusal(client, api.validate_query("SELECT 1"), ArroyoAuthError))
    assert "any gateway in between, whose firewall may mistake SQL for an attack" in about_sql
    assert "firewall" not in str(refusal(client, api.ping(), ArroyoAuthError))


def test_secrets_do_not_change_what_a_response_means(connect: Connect, server: Server) -> None:
    """A header of a gateway may have any value, even one that occurs in Arroyo's messages."""
    server.play(reply({"error": "No jobs for pipeline"}, 400))
    client = connect(server.url(), headers={"X-Secret": "pipeline"})
    error = refusal(client, api.restart_pipeline("pl_1"), ArroyoNotFoundError)
    assert error.server_message == "No jobs for ***"


@pytest.mark.parametrize(
    "response",
    [
        *(reply(None, status) for status in (204, 401, 403, 404, 407, 413, 429, 500, 502, 504)),
        reply(None, 302, headers={"location": "/t/T0kenOfALot1234567/login"}),
        reply({"error": "Pipeline not found"}, 404),
        reply({"error": "Something went wrong"}, 500),
        reply("no route for /t/T0kenOfALot1234567/arroyo/api/v1/pipelines", 404, content_type="text/plain"),
        reply(LOGIN_PAGE, content_type="text/html"),
        *(CLOSE, Reply(TLS_ALERT, "close"), Reply(b"SSH-2.0-x\r\n", "close")),
    ],
    ids=lambda response: ascii(response.data[:40]),
)
def test_token_in_the_path_of_the_address_is_not_shown(
    response: Reply, connect: Connect, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(f"{server.url()}/t/T0kenOfALot1234567/arroyo")
    server.play(response)
    for request in (
        api.get_pipeline("pl_1"),
        CREATE,
        api.delete_pipeline("pl_1"),
        api.output("pl_1", "job_1"),
    ):
        with pytest.raises(ArroyoError) as caught:
            client.with_limits(max_elapsed_seconds=3).send(request)
        logged = "".join(traceback.format_exception(caught.value))
        assert "T0ken" not in f"{logged} {caught.value!r} {caught.value.to_dict()} {client!r}"
    assert server.requests[0].target == "/t/T0kenOfALot1234567/arroyo/api/v1/pipelines/pl_1"
    # The libraries' debug logs are masked by Airflow, which gets these values.
    assert "T0kenOfALot1234567" in client.settings.secrets
    own = [record for record in caplog.records if record.name.startswith("airflow_provider_arroyo")]
    assert "T0ken" not in " ".join(record.getMessage() for record in own)


# -- settings loaded again -----------------------------------------------------------------------------------------


class Connection:
    """An Airflow connection whose settings may change."""

    def __init__(self, **settings: Any) -> None:
        self.settings = ClientSettings(**settings)
        self.loaded = 0

    def __call__(self) -> ClientSettings:
        self.loaded += 1
        return self.settings


@pytest.mark.parametrize("status", [401, 403])
def test_a_rotated_key_is_loaded(status: int, connect: Connect, server: Server) -> None:
    connection = Connection(base_url=server.url(), api_key="new")
    client = connect(server.url(), api_key="old", reload=connection)
    server.play(reply(None, status), reply("Pong"))
    client.with_limits(max_elapsed_seconds=1).ping()
    client.ping()
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer old", "Bearer new", "Bearer new"]
    assert connection.loaded == 1


def test_a_rotated_key_is_loaded_for_a_stream(connect: Connect, server: Server) -> None:
    client = connect(server.url(), api_key="old", reload=Connection(base_url=server.url(), api_key="new"))
    server.play(reply(None, 401), reply("", content_type="text/event-stream"))
    assert list(client.stream_output("p", "j")) == []


def test_a_key_that_another_thread_has_loaded_is_used(
    connect: Connect, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Connection(base_url=server.url(), api_key="new")
    client = connect(server.url(), api_key="old", reload=connection)
    server.play(reply(None, 401), reply("Pong"))
    send = Transport.send

    def send_while_another_thread_reloads(transport: Transport, *args: Any) -> Any:
        response = send(transport, *args)
        if connection.loaded == 0:
            client.reload()
        return response

    monkeypatch.setattr(Transport, "send", send_while_another_thread_reloads)
    client.ping()
    assert connection.loaded == 1


@pytest.mark.parametrize("new_key", ["old", "also-wrong"])
def test_a_key_that_stays_refused_is_loaded_only_once(new_key: str, connect: Connect, server: Server) -> None:
    connection = Connection(base_url=server.url(), api_key=new_key)
    client = connect(server.url(), api_key="old", reload=connection)
    server.play(reply(None, 401))
    with pytest.raises(ArroyoAuthError) as caught:
        client.list_jobs()
    assert caught.value.is_fatal
    assert connection.loaded == 1
    assert len(server.requests) == (1 if new_key == "old" else 2)


def test_a_connection_that_leads_to_another_server_is_an_error(connect: Connect, server: Server) -> None:
    connection = Connection(base_url="http://other.example:5115")
    client = connect(server.url(), reload=connection)
    server.play(reply(None, 401))
    with pytest.raises(ArroyoSettingsError) as caught:
        client.list_jobs()
    assert server.url() in str(caught.value)
    assert "http://other.example:5115" in str(caught.value)
    assert caught.value.is_fatal
    assert client.settings.base_url == server.url()


def test_a_connection_with_another_secret_in_its_path_is_an_error(connect: Connect, server: Server) -> None:
    connection = Connection(base_url=f"{server.url()}/t/T0kenOfALot7654321")
    client = connect(f"{server.url()}/t/T0kenOfALot1234567", reload=connection)
    server.play(reply(None, 401))
    with pytest.raises(ArroyoSettingsError, match="another secret in its path") as caught:
        client.list_jobs()
    assert "T0ken" not in str(caught.value)


def test_a_slow_look_up_of_the_settings_delays_no_other_request(connect: Connect, server: Server) -> None:
    is_loading, go_on = threading.Event(), threading.Event()

    def load() -> ClientSettings:
        is_loading.set()
        go_on.wait(20)
        return client.settings

    client = connect(server.url(), reload=load, limits=ONCE)
    loading = threading.Thread(target=client.reload)
    loading.start()
    assert is_loading.wait(20)
    server.play(CLOSE, reply("Pong"))
    refusal(client, api.ping(), ArroyoConnectionError)
    client.ping()
    assert loading.is_alive()
    go_on.set()
    loading.join(20)


def test_unchanged_settings_keep_the_connection_open(connect: Connect, server: Server) -> None:
    client = connect(server.url(), reload=Connection(base_url=server.url()))
    server.play(reply("Pong"))
    client.ping()
    client.reload()
    client.ping()
    assert server.connections == 1


@pytest.mark.parametrize(
    "headers, seconds",
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "soon"}, None),
        ({"date": DATE, "retry-after": "Wed, 25 Nov 2026 03:55:32 GMT"}, 5.0),
        ({"date": DATE, "retry-after": "Wed, 25 Nov 2026 03:00:00 GMT"}, 0.0),
    ],
)
def test_retry_after(
    headers: dict[str, str], seconds: float | None, connect: Connect, server: Server
) -> None:
    server.play(reply(None, 429, headers=headers))
    error = refusal(connect(server.url(), limits=ONCE), api.list_jobs())
    assert error.retry_after_seconds == seconds
    assert ("asks to wait" in str(error)) == (seconds is not None)


@pytest.mark.parametrize("state", ["Running\nStopped", "\x1b[31mRunning", "x" * 101, "\u2028", ""])
def test_a_job_whose_state_is_not_a_name_is_refused(state: str) -> None:
    with pytest.raises(ValueError, match="state"):
        Job.from_api({"id": "job_1", "state": state, "run_id": 1})


@pytest.mark.parametrize(
    "fields, wish", [({}, None), ({"running_desired": None}, None), ({"running_desired": False}, False)]
)
def test_a_job_without_running_desired_is_read(fields: dict[str, Any], wish: bool | None) -> None:
    job = Job.from_api({"id": "job_1", "state": "Running", "run_id": 1, **fields})
    assert job.running_desired is wish


def test_an_unknown_state_is_kept() -> None:
    assert Job.from_api({"id": "job_1", "state": "Hibernating", "run_id": 1}).state == "Hibernating"


# -- long pages ----------------------------------------------------------------------------------------------------

LINE = '<p class="row"><a href="https://gate.example/login?next=%2F">Sign in</a> key: value</p>\n'


@pytest.mark.parametrize("content_type", ["text/html", "text/plain", "application/json"])
@pytest.mark.parametrize("status", [200, 404, 502])
def test_only_the_beginning_of_a_long_page_is_read_and_kept(
    content_type: str, status: int, client: ArroyoClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every poll may get it, its error is stored with the wait, and masking a megabyte takes a second."""
    masked: list[int] = []

    def counted(text: str, values: Iterable[str]) -> str:
        masked.append(len(text))
        return redact_values(text, values)

    monkeypatch.setattr(body_secrets, "redact_values", counted)
    server.play(reply((LINE * 20_000).encode(), status, headers={"content-type": content_type}))
    error = refusal(client, api.list_jobs(), ArroyoForeignResponseError)
    assert sum(masked) < 50_000
    assert "Sign in" in str(error)
    assert "Sign in" in error.server_message
    assert len(str(error.to_dict())) < 5000


@pytest.mark.parametrize("is_arroyos", [False, True])
def test_a_secret_at_the_end_of_what_is_read_is_not_shown(
    is_arroyos: bool, connect: Connect, server: Server
) -> None:
    secret = "s3cret-Key/of=Arroyo" * 5
    client = connect(server.url(), api_key=secret, limits=ONCE)
    most = body_secrets.MAX_READ if is_arroyos else responses._MAX_PAGE
    shown = ""
    for before in range(most - len(secret), most, 7):
        text = f"who is {' ' * (before - 7)}{secret} {'x ' * most}"
        content = {"error": text} if is_arroyos else text.encode()
        server.play(reply(content, 503, headers={} if is_arroyos else {"content-type": "text/plain"}))
        error = refusal(client, api.list_jobs())
        shown += str(error) + str(error.to_dict())
    assert "who is" in shown
    assert "s3cret" not in shown


def test_a_reason_is_masked_once_although_every_poll_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[str] = []

    def count(text: str, values: Iterable[str]) -> str:
        masked.append(text)
        return redact_values(text, values)

    monkeypatch.setattr(body_secrets, "redact_values", count)
    job = {"id": "job_1", "pipeline_id": "pl_1", "state": "Failed", "run_id": 1, "running_desired": True}
    reason, variables = {"error": "refused: s3cret-of-polls"}, {"LOGIN": "s3cret-of-polls"}
    for _ in range(3):
        read = Job.from_api({**job, "failure_reason": reason, "env_vars": variables})
        assert read.failure is not None
        assert read.failure.error == "refused: ***"
    assert len(masked) == 1
