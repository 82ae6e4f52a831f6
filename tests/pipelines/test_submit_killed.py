"""A try is killed at each of its HTTP requests, and the next one ends with the same single pipeline."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_arroyo.client.client import ArroyoClient
from tests.pipelines.bench import SPEC, Bench, open_bench
from tests.support import KilledError, kill_at


def _crashing_client(bench: Bench, at: int, *, after_effect: bool) -> ArroyoClient:
    """Return a client that is killed at one of its HTTP requests, counted from 1, before or after its effect."""
    return bench.new_client(**{"after" if after_effect else "before": kill_at(at)})


ARRANGEMENTS: dict[str, tuple[str | float, ...]] = {
    "running": (5,),
    "stopping": (5, "stop"),
    "stopped": (5, "stop", 5),
    "failed": (5, "fail", 10),
    "stopped, and other SQL is wanted": (5, "stop", 5),
}
OTHER = replace(SPEC, query=SPEC.query.replace("'10'", "'20'"))


def _arrange(bench: Bench, arrangement: str) -> None:
    if arrangement in ARRANGEMENTS:
        bench.change(bench.submit().pipeline.id, *ARRANGEMENTS[arrangement])
    elif arrangement == "half created":
        if bench.version == "0.15":
            pytest.skip("0.15 has no PUT, and the id of a POST is never used again")
        bench.leave_half_created()


@pytest.mark.parametrize(
    "after_effect, fault",
    [(False, "none"), (True, "none"), (True, "first response lost")],
    ids=["before the effect", "after the effect", "first response lost"],
)
@pytest.mark.parametrize("on_existing", ["adopt", "replace"])
@pytest.mark.parametrize("arrangement", ["nothing", *ARRANGEMENTS, "half created"])
@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_killed_at_every_request(
    version: str, arrangement: str, on_existing: str, after_effect: bool, fault: str
) -> None:
    spec = OTHER if "other SQL" in arrangement else SPEC
    killed = 0
    for at in range(1, 200):
        with open_bench(version) as bench:
            _arrange(bench, arrangement)
            if fault != "none":
                # Requests that change something, including those that the client repeats.
                for method in ("PUT", "POST", "PATCH", "DELETE"):
                    bench.sandbox.faults.reset(method=method, after_effect=True)
            client = _crashing_client(bench, at, after_effect=after_effect)
            try:
                bench.submit(spec, client=client, try_number=2, on_existing=on_existing)
            except KilledError:
                killed += 1
            else:
                break
            bench.sandbox.faults.clear()
            again = bench.submit(spec, try_number=3, on_existing=on_existing)
            only = bench.only_pipeline()
            assert only.id == again.pipeline.id, f"killed at request {at}"
            assert only.query.endswith(spec.query)
    else:
        pytest.fail("the submit sends requests forever")
    assert killed >= 1


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_killed_again_and_again(version: str) -> None:
    """Every try is killed one request later than the previous one, until one survives."""
    with open_bench(version) as bench:
        for try_number in range(1, 40):
            client = _crashing_client(bench, try_number, after_effect=True)
            try:
                submitted = bench.submit(client=client, try_number=try_number)
            except KilledError:
                continue
            break
        else:
            pytest.fail("no try survives")
        assert bench.only_pipeline().id == submitted.pipeline.id
