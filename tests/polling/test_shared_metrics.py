"""The metrics of a job are requested once for all waits of a triggerer that need them at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_arroyo.client.models import Job
from airflow_provider_arroyo.exceptions import ArroyoConnectionError
from airflow_provider_arroyo.monitoring.condition import Reading
from airflow_provider_arroyo.polling.shared_details import SharedMetrics


def job(job_id: str = "job_1", run_id: int = 1) -> Job:
    return Job(id=job_id, state="Running", run_id=run_id, running_desired=True)


class Server:
    """Counts the fetches; each one lasts until it is released."""

    def __init__(self) -> None:
        self.fetched = 0
        self.began, self.released = threading.Event(), threading.Event()

    def fetch(self) -> Reading:
        self.fetched += 1
        self.began.set()
        assert self.released.wait(60)
        return Reading(self.fetched)


def test_callers_during_a_request_or_just_after_it_share_the_response() -> None:
    server, now = Server(), [100.0]
    shared = SharedMetrics(lambda: now[0])
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared.get, job(), server.fetch)
        assert server.began.wait(60)
        others = [pool.submit(shared.get, job(), server.fetch) for _ in range(3)]
        server.released.set()
        assert [one.result(60).value for one in (first, *others)] == [1, 1, 1, 1]
    now[0] += 1.7
    assert shared.get(job(), server.fetch).value == 1
    assert shared.get(job("job_2"), server.fetch).value == 2
    now[0] += 0.2
    assert shared.get(job(), server.fetch).value == 3
    # The values of the previous run are not shared with this one.
    assert shared.get(job(run_id=2), server.fetch).value == 4


def test_a_failure_is_shared_but_not_stored() -> None:
    now = [100.0]
    shared = SharedMetrics(lambda: now[0])
    error = ArroyoConnectionError("Connection reset")

    def fail() -> Reading:
        raise error

    for _ in range(2):
        with pytest.raises(ArroyoConnectionError, match="Connection reset"):
            shared.get(job(), fail)
    now[0] += 2
    assert shared.get(job(), lambda: Reading(5)).value == 5
