"""The hook: from an Airflow connection to a working client, and errors that name what to fix."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.enums import StopMode
from airflow_provider_arroyo.client.tls import make_ssl_context
from airflow_provider_arroyo.exceptions import (
    ArroyoAmbiguousNameError,
    ArroyoAuthError,
    ArroyoNoConnectionError,
    ArroyoNoSuchNameError,
    ArroyoNotFoundError,
    ArroyoSettingsError,
    SqlDiagnostic,
)
from airflow_provider_arroyo.hooks import arroyo as hook_module
from airflow_provider_arroyo.hooks.arroyo import DEFAULT_CONN_ID, ArroyoHook
from airflow_provider_arroyo.hooks.masking import hide_values
from airflow_provider_arroyo.pipelines.spec import PipelineSpec
from airflow_provider_arroyo.sandbox import ArroyoSandbox, ManualClock
from tests.adapters import BROKEN_JOB, NAMELESS, DamagingAdapter
from tests.client.server import Server, reply
from tests.hooks.conftest import Connect
from tests.support import ENDLESS, Lines


@pytest.fixture
def sandbox(request: pytest.FixtureRequest) -> Iterator[ArroyoSandbox]:
    with ArroyoSandbox(
        arroyo_version=getattr(request, "param", "0.16"), api_key="right-key", clock=ManualClock(), seed=1
    ) as made:
        yield made


@pytest.fixture
def hook(sandbox: ArroyoSandbox, connect: Connect) -> ArroyoHook:
    return ArroyoHook(connect(sandbox.airflow_connection_uri()))


def as_json(host: str, **fields: Any) -> str:
    return json.dumps({"conn_type": "arroyo", "host": host, **fields})


# -- the Test button -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sandbox", ["0.15", "0.16"], indirect=True)
def test_the_test_button_accepts_a_working_connection(hook: ArroyoHook, sandbox: ArroyoSandbox) -> None:
    good, text = hook.test_connection()
    assert good
    version = {"0.15": "0.15", "0.16": "0.16 or later"}[sandbox.arroyo_version]
    where = re.escape(f"Arroyo {version} responds at {sandbox.url}")
    assert re.fullmatch(rf"{where} within \S+ s and accepts the connection\. It has 0 pipelines\.", text)


def test_the_test_button_accepts_a_gateway_that_refuses_validations(
    hook: ArroyoHook, sandbox: ArroyoSandbox
) -> None:
    sandbox.faults.status(403, path="*/validate_query")
    good, text = hook.test_connection()
    assert good
    assert text.startswith("Arroyo responds at ")


@pytest.mark.parametrize("password", ["wrong-key", None])
def test_the_test_button_refuses_a_wrong_key(
    sandbox: ArroyoSandbox, connect: Connect, password: str | None
) -> None:
    good, text = ArroyoHook(connect(as_json(sandbox.url, password=password))).test_connection()
    assert not good
    assert "401" in text
    assert "Authorization" in text
    assert "wrong-key" not in text
    assert sandbox.requests.total == 1


@pytest.mark.parametrize(
    "response, words",
    [
        (reply("<html><h1>It works!</h1></html>", content_type="text/html"), "It works!"),
        (reply({"status": "ok"}), "not Arroyo's"),
        (
            reply(status=302, headers={"location": "https://login.example/"}),
            "redirect to https://login.example/",
        ),
    ],
)
def test_the_test_button_refuses_another_service(connect: Connect, response: Any, words: str) -> None:
    with Server() as server:
        server.play(response)
        good, text = ArroyoHook(connect(as_json(server.url()))).test_connection()
    assert not good
    assert words in text
    assert "lead to Arroyo" in text


def test_the_test_button_reports_a_refused_connection(connect: Connect) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        good, text = ArroyoHook(connect(as_json("127.0.0.1", port=unused.getsockname()[1]))).test_connection()
    assert not good
    assert "refused the connection" in text


def test_the_test_button_retries_a_short_fault(hook: ArroyoHook, sandbox: ArroyoSandbox) -> None:
    sandbox.faults.status(503, method="GET", path="*/ping")
    assert hook.test_connection()[0]


def test_the_test_button_is_limited_in_time(
    hook: ArroyoHook, sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_module, "_TEST_SECONDS", 0.3)
    sandbox.faults.hang(times=None)
    good, text = hook.test_connection()
    assert not good
    assert "did not respond" in text


def test_the_test_button_reports_a_missing_connection() -> None:
    good, text = ArroyoHook("nowhere").test_connection()
    assert not good
    assert "There is no Airflow connection 'nowhere'" in text


def test_the_test_button_names_an_invalid_field(connect: Connect) -> None:
    good, text = ArroyoHook(connect(as_json("h", extra=json.dumps({"verify": "perhaps"})))).test_connection()
    assert not good
    assert "Airflow connection 'arroyo_tested', field 'verify': must be true or false" in text


def test_the_test_button_names_a_missing_file(connect: Connect, tmp_path: Path) -> None:
    extra = {"ca_cert": str(tmp_path / "ca.pem")}
    good, text = ArroyoHook(connect(as_json("https://h", extra=json.dumps(extra)))).test_connection()
    assert not good
    assert "Airflow connection 'arroyo_tested', field 'ca_cert': cannot read" in text


# -- the connection --------------------------------------------------------------------------------------------


def test_the_default_connection_is_arroyo_default() -> None:
    assert ArroyoHook().arroyo_conn_id == DEFAULT_CONN_ID == "arroyo_default"


def test_a_connection_may_be_a_uri(connect: Connect) -> None:
    uri = "arroyo://:k%2Fey@gate.example:8443/https?base_path=%2Farroyo&read_timeout=7&headers=%7B%22X-A%22%3A%22b%22%7D"
    settings = ArroyoHook(connect(uri)).settings
    assert settings.base_url == "https://gate.example:8443/arroyo"
    assert (settings.api_key, settings.read_timeout_seconds, settings.headers) == ("k/ey", 7.0, {"X-A": "b"})


def test_a_connection_may_be_json(connect: Connect) -> None:
    extra = {"verify": False, "proxies": {"http": "http://p:1"}, "console_url": "https://c.example/x/"}
    hook = ArroyoHook(connect(as_json("h", port=1, password="k", extra=extra)))
    assert (hook.settings.verify, hook.settings.proxies) == (False, {"http": "http://p:1"})
    assert hook.console_url("a/b c") == "https://c.example/x/pipelines/a%2Fb%20c"


@pytest.mark.parametrize("extra", ["s3cr3t", "[1]", '"s3cr3t"', "{s3cr3t"])
def test_an_extra_that_is_not_an_object_is_refused(monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    class Stored:
        conn_id, host, port, schema, password = "arroyo_tested", "h", None, None, None

    stored = Stored()
    stored.extra = extra  # type: ignore[attr-defined]  # added for this test
    monkeypatch.setattr(ArroyoHook, "get_connection", lambda *_, **__: stored)
    with pytest.raises(ArroyoSettingsError, match="field 'extra'") as caught:
        _ = ArroyoHook("arroyo_tested").settings
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_connection_is_looked_up_once(connect: Connect, looked_up: list[str]) -> None:
    hook = ArroyoHook(connect(as_json("h")))
    assert looked_up == []
    assert hook.client is hook.get_conn()
    _ = (hook.settings, hook.console_url("x"), hook.client)
    assert looked_up == ["arroyo_tested"]


def test_secrets_of_gateways_and_proxy_are_masked(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[str] = []
    monkeypatch.setattr("airflow.providers.common.compat.sdk.mask_secret", masked.append, raising=False)
    extra = {
        "headers": {"X-Token": "t0ken-of-it", "X-Scope-OrgID": "1", "X-Gate": "open-sesame"},
        "secret_headers": "X-Gate",
        "proxies": {"http": "http://u:p%40ss@p:1", "https": "http://q:1"},
    }
    connect(as_json("h", extra=extra))
    secrets = ["open-sesame", "p%40ss", "p@ss", "t0ken-of-it"]
    _ = ArroyoHook("arroyo_tested").settings
    assert sorted(masked) == secrets
    masked.clear()
    asyncio.run(ArroyoHook("arroyo_tested").async_settings())
    assert sorted(masked) == secrets


# -- in a triggerer ----------------------------------------------------------------------------------------------


async def test_a_client_can_be_made_on_an_event_loop(hook: ArroyoHook, sandbox: ArroyoSandbox) -> None:
    with await hook.get_async_client(sandbox.url) as client:
        assert (await asyncio.to_thread(client.list_pipelines, limit=1)).readable == ()


async def test_the_connection_is_looked_up_synchronously_if_it_must_be(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under ``airflow dags test``, the asynchronous look-up does not reach Airflow's database."""

    async def not_found(*_: Any, **__: Any) -> Any:
        raise AirflowNotFoundException("The conn_id `arroyo_tested` isn't defined")

    connect(as_json("there"))
    monkeypatch.setattr("airflow.providers.common.compat.connection.get_async_connection", not_found)
    assert (await ArroyoHook("arroyo_tested").async_settings()).base_url == "http://there:5115"


async def test_async_settings_are_looked_up_each_time(connect: Connect) -> None:
    hook = ArroyoHook(connect(as_json("h", password="old")))
    assert (await hook.async_settings()).api_key == "old"
    connect(as_json("h", password="new"))
    assert (await hook.async_settings()).api_key == "new"


async def test_asynchronous_look_ups_report_a_missing_connection() -> None:
    for look_up in (ArroyoHook("nowhere").async_settings, ArroyoHook("nowhere").get_async_client):
        with pytest.raises(ArroyoSettingsError, match="There is no Airflow connection 'nowhere'"):
            await look_up()


async def test_a_connection_that_now_leads_to_another_server_is_an_error(connect: Connect) -> None:
    hook = ArroyoHook(connect(as_json("http://new:1")))
    with pytest.raises(ArroyoSettingsError) as caught:
        await hook.get_async_client("http://old:1")
    assert str(caught.value) == (
        "Airflow connection 'arroyo_tested' led to http://old:1 when this wait began, and now leads to "
        "http://new:1, which is another server. Clear the task to start over there."
    )


async def test_another_secret_in_the_path_of_the_address_is_an_error(connect: Connect) -> None:
    """It may be the key of another tenant, who does not have the pipelines."""
    before, now = (f"https://gate/t/T0kenOfALot123456{digit}/arroyo" for digit in (7, 8))
    hook = ArroyoHook(connect(as_json(before)))
    server = hook.settings.server
    assert server.startswith("https://gate:443/t/***/arroyo#")
    (await hook.get_async_client(server)).close()
    connect(as_json(now))
    with pytest.raises(
        ArroyoSettingsError, match="another server, or has another secret in its path"
    ) as caught:
        await hook.get_async_client(server)
    assert "T0ken" not in str(caught.value)


@pytest.mark.parametrize("name", ["ca_cert", "client_cert"])
@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_unusable_files_are_named(
    connect: Connect, tmp_path: Path, name: str, content: str | None
) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    connect(as_json("https://h", extra={name: str(path)}))
    words = f"Airflow connection 'arroyo_tested', field '{name}': "
    with pytest.raises(ArroyoSettingsError, match=words) as caught:
        await ArroyoHook("arroyo_tested").get_async_client()
    assert str(path) in str(caught.value)
    with pytest.raises(ArroyoSettingsError, match=words):
        _ = ArroyoHook("arroyo_tested").client


async def test_nothing_slow_is_done_on_the_event_loop(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Synchronous look-ups, masking, and reading certificates."""
    ca_cert = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca_cert))
    extra = {"headers": {"X-Token": "t0ken-of-it"}, "ca_cert": str(ca_cert)}
    connect(as_json("https://h", extra=extra))
    threads: dict[str, set[int]] = {"look up": set(), "mask": set(), "tls": set()}

    def note(what: str, do: Any) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            threads[what].add(threading.get_ident())
            return do(*args, **kwargs)

        return noted

    look_up = staticmethod(note("look up", ArroyoHook.get_connection))
    monkeypatch.setattr(ArroyoHook, "get_connection", look_up)
    monkeypatch.setattr(hook_module, "hide_values", note("mask", hide_values))
    tls = "airflow_provider_arroyo.client.transport.make_ssl_context"
    monkeypatch.setattr(tls, note("tls", make_ssl_context))
    (await ArroyoHook("arroyo_tested").get_async_client()).close()
    assert threads["mask"]
    assert threads["tls"]
    assert threading.get_ident() not in set.union(*threads.values())


# -- a key that is rotated while a client is used ----------------------------------------------------------------


def no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every look-up of a connection fail."""

    def fail(conn_id: str) -> Any:
        raise RuntimeError("the secrets backend is away")

    monkeypatch.setattr(ArroyoHook, "get_connection", staticmethod(fail))
    monkeypatch.setattr(BaseHook, "aget_connection", staticmethod(fail), raising=False)


async def _client(hook: ArroyoHook, where: str) -> ArroyoClient:
    return hook.client if where == "worker" else await hook.get_async_client()


@pytest.mark.parametrize("where", ["worker", "triggerer"])
async def test_a_rotated_key_is_loaded(
    where: str, hook: ArroyoHook, sandbox: ArroyoSandbox, connect: Connect
) -> None:
    connect(as_json(sandbox.url, password="old-key"))
    client = await _client(hook, where)
    connect(sandbox.airflow_connection_uri())
    await asyncio.to_thread(client.ping)
    assert [request.status for request in sandbox.requests] == [401, 200]
    assert client.settings.api_key == "right-key"


@pytest.mark.parametrize("where", ["worker", "triggerer"])
async def test_a_key_that_stays_wrong_is_loaded_only_once_more(
    where: str, hook: ArroyoHook, sandbox: ArroyoSandbox, connect: Connect, looked_up: list[str]
) -> None:
    connect(as_json(sandbox.url, password="old-key"))
    client = await _client(hook, where)
    with pytest.raises(ArroyoAuthError, match="401"):
        await asyncio.to_thread(client.ping)
    assert (sandbox.requests.total, len(looked_up)) == (1, 2)


@pytest.mark.parametrize("where", ["worker", "triggerer"])
async def test_a_refused_key_is_reported_if_the_look_up_fails(
    where: str,
    hook: ArroyoHook,
    sandbox: ArroyoSandbox,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether the key was rotated is unknown, so a retry of the task may succeed."""
    connect(as_json(sandbox.url, password="old-key"))
    client = await _client(hook, where)
    no_look_up(monkeypatch)
    with pytest.raises(ArroyoAuthError, match="401") as caught:
        await asyncio.to_thread(client.ping)
    assert not caught.value.is_fatal
    assert "Airflow could not look it up just now" in str(caught.value)


@pytest.mark.parametrize("where", ["worker", "triggerer"])
async def test_a_connection_edited_to_another_server_is_an_error(
    where: str, hook: ArroyoHook, sandbox: ArroyoSandbox, connect: Connect
) -> None:
    connect(as_json(sandbox.url, password="old-key"))
    client = await _client(hook, where)
    connect(as_json("http://elsewhere:1"))
    with pytest.raises(ArroyoSettingsError) as caught:
        await asyncio.to_thread(client.ping)
    assert f"led to {sandbox.url}, and now leads to http://elsewhere:1, which is another" in str(caught.value)


@pytest.mark.parametrize("where", ["worker", "triggerer"])
async def test_a_failing_look_up_does_not_end_an_outage(
    where: str, hook: ArroyoHook, sandbox: ArroyoSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secrets backend may raise anything; Arroyo's outage continues, and can end without it."""
    client = await _client(hook, where)
    no_look_up(monkeypatch)
    with pytest.raises(ArroyoNoConnectionError, match="Airflow could not look it up just now"):
        await asyncio.to_thread(client.reload)
    await asyncio.to_thread(client.ping)


# -- the hook's methods ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sandbox", ["0.15", "0.16"], indirect=True)
def test_the_methods_of_the_hook(hook: ArroyoHook, sandbox: ArroyoSandbox) -> None:
    made = hook.create_pipeline(PipelineSpec(name="orders", query=ENDLESS))
    assert hook.get_pipeline(made.id).name == "orders"
    assert hook.resolve_name("orders").id == made.id
    sandbox.advance(5)
    job = hook.get_job(made.id)
    assert job is not None
    assert job.state == "Running"
    for no_mode in (None, "CHECKPOINT", ""):
        with pytest.raises(ValueError, match="is not a valid StopMode"):
            hook.stop_pipeline(made.id, cast("StopMode", no_mode))
    hook.stop_pipeline(made.id)
    sandbox.advance(5)
    assert sandbox.state(made.id) == "Stopped"
    assert hook.list_checkpoints(made.id, job.id)[-1].is_finished
    assert [other.id for other in hook.list_pipelines()] == [made.id]
    assert [other.id for other in hook.list_jobs()] == [job.id]
    hook.resume_pipeline(made.id)
    sandbox.advance(5)
    hook.restart_pipeline(made.id, force=True)
    sandbox.advance(5)
    assert sandbox.state(made.id) == "Running"
    sandbox.faults.fail(made.id, error="boom")
    sandbox.advance(10)
    if sandbox.arroyo_version == "0.16":
        (error, *_) = hook.list_job_errors(made.id, job.id)
        assert "boom" in error.message + error.details
    hook.stop_pipeline(made.id, StopMode.IMMEDIATE)
    hook.delete_pipeline(made.id)
    with pytest.raises(ArroyoNotFoundError):
        hook.get_pipeline(made.id)
    with pytest.raises(ArroyoNotFoundError):
        hook.get_job(made.id)
    with pytest.raises(ArroyoNoSuchNameError):
        hook.resolve_name("orders")


def test_an_ambiguous_name_is_an_error(hook: ArroyoHook) -> None:
    for _ in range(2):
        hook.create_pipeline(PipelineSpec(name="orders", query=ENDLESS))
    with pytest.raises(ArroyoAmbiguousNameError):
        hook.resolve_name("orders")


def test_validate_query(hook: ArroyoHook) -> None:
    assert hook.validate_query(ENDLESS).is_valid
    (error,) = hook.validate_query("SELEC 1").errors
    assert isinstance(error, SqlDiagnostic)
    with pytest.raises(ValueError, match=r"udfs\[0\]"):
        hook.validate_query(ENDLESS, udfs=[5])


@pytest.mark.parametrize("sandbox", ["0.16"], indirect=True)
def test_what_cannot_be_read_is_left_out_of_lists_with_a_warning(
    hook: ArroyoHook, sandbox: ArroyoSandbox
) -> None:
    for name in ("orders", "other"):
        hook.create_pipeline(PipelineSpec(name=name, query=ENDLESS))
    sandbox.advance(30)
    DamagingAdapter(hook.client, {"/jobs": BROKEN_JOB, "/pipelines": NAMELESS})
    lines, log = Lines(), logging.Logger("tests.hooks")
    log.addHandler(lines)
    hook._log = cast(Any, log)
    assert len(hook.list_jobs()) == 1
    assert len(hook.list_pipelines()) == 1
    (_, jobs), (_, pipelines) = lines.lines
    assert "/jobs returned items that cannot be read: item 1 (id 'job_" in jobs
    assert "name 'None', field 'name': it is null" in pipelines


def test_the_test_button_names_what_cannot_be_read(connect: Connect) -> None:
    items = [{"id": "job_1", "state": "Running", "run_id": 1}, {"id": "job_2", "state": None, "run_id": 1}]
    with Server() as server:
        server.play(reply("Pong"), reply({"data": items}), reply({"errors": [], "graph": None}))
        status, message = ArroyoHook(connect(as_json(server.url()))).test_connection()
    assert status is True
    assert "It has 1 pipeline. GET " in message
    assert "item 2 (id 'job_2', field 'state': it is null" in message
