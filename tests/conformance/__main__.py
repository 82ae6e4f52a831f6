"""``python -m tests.conformance [0.15] [0.16]``: the table; exit code 1 where anything differs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from tests.conformance import suite
from tests.conformance.suite import Result
from tests.conformance.target import NoServerError, server_target


def report(results: Iterable[Result]) -> int:
    """Print the result for each recording, then the table; return how many differ."""
    totals: dict[tuple[str, str], list[int]] = {}
    left_out: dict[str, int] = {}
    differing = 0
    for result in results:
        bad, skipped = len(result.differing), len(result.skipped)
        equal = len(result.outcomes) - bad - skipped
        print(f"{result.version}  {result.part:9}  {result.name}: {equal} equal, {bad} differ", flush=True)
        for outcome in result.differing:
            print(f"    {outcome.name}")
            for difference in outcome.differences:
                print(f"        {difference}")
        for outcome in result.skipped:
            reason = f"{result.version} {result.part}/{result.name}: {outcome.skipped}"
            left_out[reason] = left_out.get(reason, 0) + 1
        row = totals.setdefault((result.version, result.part), [0, 0, 0])
        row[0] += equal
        row[1] += bad
        row[2] += skipped
        differing += bad
    print(f"\n{'version':8} {'what':10} {'compared':>8} {'equal':>6} {'differ':>6} {'left out':>8}")
    for (version, part), (equal, bad, skipped) in totals.items():
        print(f"{version:8} {part:10} {equal + bad:8} {equal:6} {bad:6} {skipped:8}")
    for reason, count in left_out.items():
        print(f"left out: {count} of {reason}")
    return differing


def main(versions: list[str]) -> int:
    """Run the suite; return the exit code."""
    if os.environ.get("ARROYO_URL"):
        try:
            with server_target() as target:
                print(f"{target.url} is Arroyo {target.version}")
                return min(1, report(suite.on_server(target)))
        except NoServerError as error:
            print(error, file=sys.stderr)
            return 2
    if unknown := [version for version in versions if version not in ("0.15", "0.16")]:
        print(f"unknown version {unknown[0]}: choose from 0.15, 0.16", file=sys.stderr)
        return 2
    results = (result for version in versions or ["0.15", "0.16"] for result in suite.on_sandbox(version))
    return min(1, report(results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
