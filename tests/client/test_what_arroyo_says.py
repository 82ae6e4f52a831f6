"""Arroyo's reasons for failures may be megabytes long, contain secrets, or not be valid text."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from airflow_provider_arroyo.client.details import JobError
from airflow_provider_arroyo.client.models import FailureReason, Job
from airflow_provider_arroyo.client.reading import iter_items
from airflow_provider_arroyo.client.sql_secrets import MAX_READABLE
from airflow_provider_arroyo.client.wire import to_json
from airflow_provider_arroyo.exceptions import ArroyoForeignResponseError
from airflow_provider_arroyo.text import shorten
from tests.client.conftest import PIPELINE
from tests.client.server import Server, reply

JOB: dict[str, Any] = {"id": "job_1", "state": "Failed", "run_id": 2}


def failed(reason: Any, domain: Any = "user", **more: Any) -> Job:
    return Job.from_api({**JOB, "failure_reason": {"error": reason, "domain": domain}, **more})


@pytest.mark.parametrize(
    "read",
    [
        lambda client: client.get_job("pl_1").failure.error,
        lambda client: client.list_jobs()[0].failure.error,
        lambda client: client.list_job_errors("pl_1", "job_1")[0].message,
    ],
)
def test_bytes_that_are_not_text_are_replaced(
    read: Callable[[ArroyoClient], str], client: ArroyoClient, server: Server
) -> None:
    """A failed pipeline does not count as unreachable for that reason."""
    item = {**JOB, "failure_reason": {"error": "no such file: b?r"}, "message": "no such file: b?r"}
    body = json.dumps({"data": [item], "hasMore": False}).encode()
    server.play(reply(body.replace(b"?", b"\xe4")))
    assert read(client) == "no such file: b\ufffdr"
    assert len(server.requests) == 1
    (listed,) = iter_items(body.replace(b"?", b"\xff\xfe"))
    assert listed["id"] == "job_1"


@pytest.mark.parametrize("wrong", [b"\xe4", rb"\ud800", rb"\udc00\ud800"])
@pytest.mark.parametrize("field", ["query", "name"])
def test_bytes_that_are_not_text_in_a_definition_are_refused(
    field: str, wrong: bytes, client: ArroyoClient, server: Server
) -> None:
    """A replacement character would be a difference, for which a pipeline may be replaced."""
    server.play(reply(json.dumps({**PIPELINE, field: "b?r"}).encode().replace(b"?", wrong)))
    with pytest.raises(ArroyoForeignResponseError):
        client.with_limits(max_elapsed_seconds=0.0).get_pipeline(str(PIPELINE["id"]))


@pytest.mark.parametrize(
    "expected",
    ["x " * 2_500_000, "'" * 5_000_000, "postgres://a:" * 400_000, "password = " * 450_000, "\n" * 5_000_000],
    ids=lambda expected: expected[:12],
)
def test_megabytes_are_cut(expected: str) -> None:
    for text in (
        failed(expected).failure,
        Job.from_api({**JOB, "failure_message": expected}).failure,
    ):
        assert text is not None
        assert len(text.error) < MAX_READABLE
    error = JobError.from_api({"id": "1", "message": expected, "details": expected})
    assert max(len(error.message), len(error.details)) < MAX_READABLE


@pytest.mark.parametrize("around", range(MAX_READABLE - 60, MAX_READABLE + 20, 7))
@pytest.mark.parametrize(
    "secret", ["kafka://user:hunter2222@broker:9092", "password='hunter2222'", "sasl.password = hunter2222"]
)
def test_a_cut_shows_no_part_of_a_secret(around: int, secret: str) -> None:
    expected = "x " * (around // 2) + secret + " y" * 10_000
    reason = failed(expected).failure
    assert reason is not None
    assert "hunt" not in reason.error


def test_no_secret_crosses_processes() -> None:
    job = failed("cannot connect to kafka://user:hunter2222@broker:9092")
    assert "hunter" not in json.dumps(to_json(job)) + repr(job)


@pytest.mark.parametrize(
    "domain, read",
    [("external", "external"), (None, None), (5, None), ("x" * 101, None), ("a\nb", None), (["user"], None)],
)
def test_an_invalid_reason_is_not_an_error(domain: Any, read: str | None) -> None:
    assert failed("boom", domain).failure == FailureReason("boom", read)


@pytest.mark.parametrize(
    "expected, stored",
    [("a\0b", "a\ufffdb"), ("a\ud800b", "a\ufffdb"), ("a\nb\tc", "a\nb\tc"), ("größe 😀", "größe 😀")],
)
def test_characters_that_no_database_stores_are_replaced(expected: str, stored: str) -> None:
    reason = failed(expected).failure
    assert reason is not None
    assert reason.error == stored
    assert json.dumps(to_json(reason)).encode()


@pytest.mark.parametrize(
    "text, shown",
    [
        ("orders\x1b[2J\x1b[31m FAILED", "orders\ufffd[2J\ufffd[31m FAILED"),
        ("a\r\n2026-11-28 ERROR b", "a 2026-11-28 ERROR b"),
        ("a\x07\x08\x7f\x9bb", "a\ufffd\ufffd\ufffd\ufffdb"),
        ("abc\u202edcba", "abc\ufffddcba"),
        ("a\u200bb\ufeffc\u2060d", "a\ufffdb\ufffdc\ufffdd"),
        ("größe 😀 e\u0301", "größe 😀 e\u0301"),
        ("\x1b" * 400, "\ufffd" * 300 + "… (400 characters)"),
    ],
)
def test_text_cannot_control_a_terminal(text: str, shown: str) -> None:
    assert shorten(text) == shown
