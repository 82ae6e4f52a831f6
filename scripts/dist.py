"""Builds the release from the last commit into ``dist/``, and checks it: ``make dist``.

The source distribution and the wheel are built twice, in different folders, the second wheel from the second source
distribution; each pair must be the same, byte for byte. Then twine checks both, and each is installed into an empty
environment in which Airflow must know the provider.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
UI = Path("airflow_provider_arroyo/plugin/ui")
PROVIDER = "airflow-provider-arroyo"


class DistError(RuntimeError):
    """The release cannot be built, or is not as it should be; the message says why."""


def main() -> int:
    """Build and check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uv", required=True, type=Path, help="the program uv")
    parser.add_argument("--twine", required=True, type=Path, help="a Python that has twine")
    parser.add_argument("--python", required=True, type=Path, help="the Python of the environments")
    parser.add_argument(
        "--constraints", required=True, type=Path, help="versions of what is installed beside it"
    )
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="arroyo-dist-") as name:
            work = Path(name)
            first = build(work / "a", options.uv, wheel_from_sdist=False)
            # A longer path, to detect whether the path gets into a file.
            second = build(work / "another" / "folder", options.uv, wheel_from_sdist=True)
            compare(first, second)
            say(run([options.twine, "-m", "twine", "check", "--strict", *first]).strip())
            for number, path in enumerate(first):
                check_install(path, work / f"environment{number}", options)
            publish(first)
    except DistError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def build(folder: Path, uv: Path, *, wheel_from_sdist: bool) -> list[Path]:
    """Build the source distribution and the wheel of the last commit; return both.

    :param folder: where to; replaced if it exists.
    :param wheel_from_sdist: whether the wheel is built from the source distribution, as pip would; else from the
        same files.
    """
    say(f"== building, the wheel from {'the source distribution' if wheel_from_sdist else 'the repository'}")
    sources, out = folder / "sources", folder / "out"
    sources.mkdir(parents=True)
    commit = subprocess.Popen(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE)
    run(["tar", "-xf", "-", "-C", sources], stdin=commit.stdout)
    if commit.wait() != 0:
        raise DistError("git cannot say what the last commit holds; see above.")
    # The npm packages are installed once. The pages are built each time.
    shutil.copytree(ROOT / UI / "node_modules", sources / UI / "node_modules", symlinks=True)
    kinds = [] if wheel_from_sdist else ["--sdist", "--wheel"]
    run(
        [
            uv,
            "build",
            "--quiet",
            *kinds,
            "--no-build-isolation",
            "--python",
            sys.executable,
            "--out-dir",
            out,
            ".",
        ],
        cwd=sources,
        # The timestamp of the files in both; without it, hatchling uses a fixed one of its own.
        env={"SOURCE_DATE_EPOCH": run(["git", "log", "-1", "--format=%ct"], cwd=ROOT).strip(), **os.environ},
    )
    return sorted([*out.glob("*.tar.gz"), *out.glob("*.whl")])


def compare(first: list[Path], second: list[Path]) -> None:
    """Check that two builds are the same.

    :raises DistError: names what differs.
    """
    if [path.name for path in first] != [path.name for path in second] or len(first) != 2:
        raise DistError(f"Not a source distribution and a wheel, twice: {first} and {second}")
    for one, other in zip(first, second, strict=True):
        sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (one, other)]
        if sums[0] != sums[1]:
            kept = ROOT / "build" / "dist-differs"
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir(parents=True)
            shutil.copy(one, kept / f"first-{one.name}")
            shutil.copy(other, kept / f"second-{one.name}")
            raise DistError(f"Two builds of {one.name} differ; both are in {kept}")
        say(f"== the same twice: {one.name}, sha256 {sums[0]}")


def check_install(path: Path, environment: Path, options: argparse.Namespace) -> None:
    """Install a distribution into an empty environment, and check that Airflow knows the provider there.

    :param path: the distribution.
    :param environment: where to; made anew.
    :param options: what the command was given.
    :raises DistError: when it cannot be installed, or Airflow does not know it, in this version.
    """
    say(f"== installing {path.name} into an empty environment")
    python = environment / "bin" / "python"
    run([options.python, "-m", "venv", "--without-pip", environment])
    run(
        [
            options.uv,
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            "--constraints",
            options.constraints,
            path,
        ],
        cwd=environment,
    )
    run([options.uv, "pip", "check", "--quiet", "--python", python], cwd=environment)
    script = (
        "import airflow_provider_arroyo as package, pathlib\n"
        "static = pathlib.Path(package.__file__).parent / 'plugin' / 'static'\n"
        "assert (static / 'main.js').stat().st_size and (static / 'licenses.md').stat().st_size\n"
        "print(package.__version__)"
    )
    version = run([python, "-c", script], cwd=environment).strip()
    if f"-{version}" not in path.name:
        raise DistError(f"{path.name} installs version {version!r}")
    env = {**os.environ, "AIRFLOW_HOME": str(environment), "PYTHONWARNINGS": "ignore"}
    shown = run([python, "-m", "airflow", "providers", "get", PROVIDER], cwd=environment, env=env)
    say(shown.strip())
    if version not in shown:
        raise DistError(f"Airflow knows another version of the provider than {version}:\n{shown}")


def publish(paths: list[Path]) -> None:
    """Put the result into ``dist/``, replacing its contents."""
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    (ROOT / "dist").mkdir()
    for path in paths:
        shutil.copy(path, ROOT / "dist")
    if run(["git", "status", "--porcelain"], cwd=ROOT):
        say("== built from the last commit: what is not committed is not in it")
    say(f"== in dist/: {', '.join(path.name for path in paths)}")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(command: list[str | Path], **options: object) -> str:
    """Run a command and return what it printed.

    :raises DistError: when it fails.
    """
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, **options)  # type: ignore[call-overload]  # any of its options
    if done.returncode != 0:
        raise DistError(f"This failed: {' '.join(map(str, command))}\n{done.stdout}")
    return str(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
