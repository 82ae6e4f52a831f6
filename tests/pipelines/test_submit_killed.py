"""A try is killed at each of its HTTP requests, and the next one ends with the same single pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.pipelines.bench import SPEC, Bench, endpoint, open_bench
from tests.support import KilledError, kill_at

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
        bench.leave_half_created()


def _points(sent: list[str], answered: list[str]) -> Iterator[tuple[str, int]]:
    """Yield each moment at which a kill may matter: before or after a request, and its number, from 1.

    Of a series of equal requests, only before the first and the last. After a request only if it changed something:
    otherwise, it is the same as before the next one.
    """
    for number, request in enumerate(sent, 1):
        if not sent[number - 2 : number - 1] == sent[number : number + 1] == [request]:
            yield "before", number
    for number, request in enumerate(answered, 1):
        if not request.startswith("GET") or number == len(answered):
            yield "after", number


CASES = [
    (version, arrangement, on_existing)
    for version in ("0.15", "0.16")
    for arrangement in ("nothing", *ARRANGEMENTS, "half created")
    for on_existing in ("adopt", "replace")
    # What does not exist, or has other SQL, is replaced in either case; 0.15 has no PUT, which leaves half a record.
    if (on_existing == "adopt" or arrangement not in ("nothing", "stopped, and other SQL is wanted"))
    and (version, arrangement) != ("0.15", "half created")
]


@pytest.mark.parametrize("are_lost", [False, True], ids=["", "first responses lost"])
@pytest.mark.parametrize("version, arrangement, on_existing", CASES)
def test_killed_at_every_request(version: str, arrangement: str, on_existing: str, are_lost: bool) -> None:
    spec = OTHER if "other SQL" in arrangement else SPEC

    @contextmanager
    def arranged() -> Iterator[Bench]:
        with open_bench(version) as bench:
            _arrange(bench, arrangement)
            if are_lost:
                # Of requests that change something, including those that the client repeats.
                for method in ("PUT", "POST", "PATCH", "DELETE"):
                    bench.sandbox.faults.reset(method=method, after_effect=True)
            yield bench

    sent, answered = list[str](), list[str]()
    with arranged() as bench:
        client = bench.new_client(
            before=lambda request: sent.append(endpoint(request)),
            after=lambda request: answered.append(endpoint(request)),
        )
        bench.submit(spec, client=client, try_number=2, on_existing=on_existing)
    for moment, at in _points(sent, answered):
        with arranged() as bench:
            client = bench.new_client(**{moment: kill_at(at)})
            with pytest.raises(KilledError):
                bench.submit(spec, client=client, try_number=2, on_existing=on_existing)
            bench.sandbox.faults.clear()
            again = bench.submit(spec, try_number=3, on_existing=on_existing)
            only = bench.only_pipeline()
            assert only.id == again.pipeline.id, f"killed {moment} request {at}"
            assert only.query.endswith(spec.query)


@pytest.mark.parametrize("version", ["0.15", "0.16"])
def test_killed_again_and_again(version: str) -> None:
    """Every try is killed one request later than the previous one, until one survives."""
    with open_bench(version) as bench:
        for try_number in range(1, 40):
            client = bench.new_client(after=kill_at(try_number))
            try:
                submitted = bench.submit(client=client, try_number=try_number)
            except KilledError:
                continue
            break
        else:
            pytest.fail("no try survives")
        assert bench.only_pipeline().id == submitted.pipeline.id
