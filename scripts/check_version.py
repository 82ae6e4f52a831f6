"""Checks that the version is written in one place only: ``airflow_provider_arroyo/__init__.py``. Part of
``make lint``.

The changelog has a section for it. Everything else reads it from the package.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = "airflow_provider_arroyo/__init__.py"
CHANGELOG = "CHANGELOG.md"

# Files with versions of other things, and recordings.
OTHERS = re.compile(r"^(requirements/|tests/data/|.*/data/|benchmarks/RESULTS\.md|.*package(-lock)?\.json)")
BINARY = {".png", ".svg", ".ico", ".woff2", ".gz"}
# The version that added a setting does not change.
ADDED = re.compile(r"version_added|versionadded|versionchanged|deprecated")


def version(root: Path) -> str:
    """Return the version.

    :param root: the folder of the project.
    """
    found = re.search(r'^__version__ = "([^"]+)"$', (root / SOURCE).read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f'{SOURCE} must have one line like: __version__ = "1.2.3"')
    return found[1]


def problems(root: Path, names: Iterable[str]) -> Iterator[str]:
    """Yield the other places that contain the version, and what the changelog lacks.

    :param root: the folder of the project.
    :param names: its files.
    """
    current = version(root)
    stated = re.compile(rf"(?<![\d.]){re.escape(current)}(?![\w.]|\.\d)")
    for name in sorted(names):
        path = root / name
        if name in (SOURCE, CHANGELOG) or OTHERS.match(name) or path.suffix in BINARY or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if stated.search(line) and not ADDED.search(line):
                yield f"{name}:{number}: says the version, which {SOURCE} does already: {line.strip()[:100]}"
    if not re.search(rf"^## {re.escape(current)}\b", (root / CHANGELOG).read_text(), re.MULTILINE):
        yield f"{CHANGELOG}: has no section '## {current}'"


def main() -> int:
    """Check; return the exit code."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = list(problems(ROOT, listed.stdout.splitlines()))
    for line in found:
        sys.stderr.write(f"{line}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
