"""Reads the recordings of real servers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data" / "arroyo"
FOLDERS = {"0.15": DATA / "0.15.0", "0.16": DATA / "0.16-dev"}


@dataclass(frozen=True)
class RecordedCall:
    """A request and the response of a real server.

    :param body: what was sent as JSON, or text under the key ``raw``.
    :param status: None: the server closed the connection without a response.
    :param response: the response's body: a JSON value, or a text if it was not JSON.
    :param authorization: the header that was sent, if the recording is about it.
    """

    file: str
    note: str
    method: str
    path: str
    body: Any
    status: int | None
    headers: dict[str, str]
    response: Any
    authorization: str | None = None
    about_keys: bool = False


@dataclass(frozen=True)
class Row:
    """A line of a timeline: what a poll was the first to see, or, with ``call``, what was requested."""

    ms: int
    call: str | None
    values: dict[str, Any]


def calls(version: str, file: str) -> list[RecordedCall]:
    """Return the calls of a file, in their order."""
    listed = json.loads((FOLDERS[version] / f"{file}.json").read_text())
    return [
        RecordedCall(
            file=file,
            note=item["note"],
            method=item["request"]["method"],
            path=item["request"]["path"],
            body=item["request"].get("body"),
            status=item["response"].get("status"),
            headers=item["response"].get("headers", {}),
            response=item["response"].get("body"),
            authorization=item["request"].get("authorization"),
            about_keys="authorization" in item["request"],
        )
        for item in listed
    ]


def stream(version: str) -> dict[str, Any]:
    """Return the recorded output of a preview."""
    recorded: dict[str, Any] = json.loads((FOLDERS[version] / "preview_output_sse.json").read_text())
    return recorded


def call_files(version: str) -> list[str]:
    """Return the names of the files with calls."""
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
