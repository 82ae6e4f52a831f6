"""Reads what was recorded of real servers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data" / "arroyo"
FOLDERS = {"0.15": DATA / "0.15.0", "0.16": DATA / "0.16-dev"}


@dataclass(frozen=True)
class Exchange:
    """A request and what a real server answered.

    :param body: what was sent as JSON, or text under the key ``raw``.
    :param answer: the answer's body: a JSON value, or a text where it was not JSON.
    :param authorization: the header that was sent, where the recording is about it.
    """

    file: str
    note: str
    method: str
    path: str
    body: Any
    status: int
    headers: dict[str, str]
    answer: Any
    authorization: str | None = None
    about_keys: bool = False


@dataclass(frozen=True)
class Row:
    """A line of a timeline: what a poll saw first, or, with ``call``, what was done."""

    ms: int
    call: str | None
    values: dict[str, Any]


def exchanges(version: str, file: str) -> list[Exchange]:
    """Return the exchanges of a file, in their order."""
    listed = json.loads((FOLDERS[version] / f"{file}.json").read_text())
    return [
        Exchange(
            file=file,
            note=item["note"],
            method=item["request"]["method"],
            path=item["request"]["path"],
            body=item["request"].get("body"),
            status=item["response"]["status"],
            headers=item["response"]["headers"],
            answer=item["response"]["body"],
            authorization=item["request"].get("authorization"),
            about_keys="authorization" in item["request"],
        )
        for item in listed
    ]


def stream(version: str) -> dict[str, Any]:
    """Return the recorded output of a preview."""
    recorded: dict[str, Any] = json.loads((FOLDERS[version] / "preview_output_sse.json").read_text())
    return recorded


def exchange_files(version: str) -> list[str]:
    """Return the names of the files with exchanges."""
    names = sorted(path.stem for path in FOLDERS[version].glob("*.json"))
    return [name for name in names if name != "preview_output_sse"]


def timelines(version: str) -> list[str]:
    """Return the names of the timelines."""
    return sorted(path.stem for path in (FOLDERS[version] / "timelines").glob("*.json"))


def timeline(version: str, name: str) -> list[Row]:
    """Return the rows of a timeline."""
    rows = json.loads((FOLDERS[version] / "timelines" / f"{name}.json").read_text())
    return [
        Row(row["ms"], row.get("call"), {key: row[key] for key in row if key not in ("ms", "call")})
        for row in rows
    ]
