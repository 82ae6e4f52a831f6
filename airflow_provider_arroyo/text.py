"""How durations, times and long texts are formatted for people, the same in logs and errors."""

from __future__ import annotations

import re
from datetime import UTC, datetime

SHOWN_CHARACTERS = 300
"""How many characters of a server's response an error message repeats."""


REPLACED = "\ufffd"
"""Stands for a character that cannot be shown or stored."""

UNSTORABLE = "[\0\ud800-\udfff]"
"""Pattern of the characters that not every database can store: NUL, and unpaired surrogates."""

# Characters that move a terminal's cursor, change its colors, change the text direction, or are invisible. Here and
# elsewhere, patterns in modules that every DAG file imports are strings, which ``re`` compiles when they are used.
_CONTROLS = "[\0-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"


def visible(text: str) -> str:
    """Return a text with its control and invisible characters replaced, so that it looks like what it is.

    Line ends and tabs stay. A message of Arroyo, or SQL, must not read as something else.
    """
    return re.sub(_CONTROLS, lambda one: one[0] if one[0] in "\t\n" else REPLACED, text.replace("\r\n", "\n"))


def shorten(text: str, limit: int = SHOWN_CHARACTERS) -> str:
    """Return ``text`` on one line, cut to ``limit`` characters, with a mark where it was cut.

    Terminal control characters are replaced: a pipeline's name must not change how a log looks.
    """
    line = " ".join(text.split())
    shown = visible(line[:limit])
    return shown if len(line) <= limit else f"{shown}… ({len(text)} characters)"


def pipeline_label(name: str, pipeline_id: str) -> str:
    """Return a pipeline's name and id to begin a sentence with: ``Pipeline 'orders' (pl_1)``."""
    return f"Pipeline {shorten(name, 80)!r} ({pipeline_id})"


def is_template(text: str) -> bool:
    """Return whether a text contains Jinja syntax: an expression, a statement or a comment."""
    return any(brace in text for brace in ("{{", "{%", "{#"))


def duration(seconds: float) -> str:
    """Return a duration as people read it: ``0.26 s``, ``12.4 s``, ``3 min 5 s``, ``2 h 10 min``."""
    seconds = max(0.0, seconds)
    if round(seconds, 2) < 1:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def run_number(run_id: int) -> str:
    """Return a run as people read it: ``run 3``; a job has number 0 until its first run."""
    return f"run {run_id}" if run_id else "no run yet"


def in_run(run_id: int) -> str:
    """Return when something happened, in words that follow it: ``in run 3``, ``before its first run``."""
    return f"in run {run_id}" if run_id else "before its first run"


def utc_iso(epoch_seconds: float) -> str:
    """Return a time for programs, as ISO 8601: ``2026-11-25T03:04:05.678+00:00``."""
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="milliseconds")


def utc_time(epoch_seconds: float) -> str:
    """Return a time as ``2026-11-25 03:04:05 UTC``; if it is outside the calendar, as seconds since 1970."""
    try:
        return datetime.fromtimestamp(epoch_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OSError, OverflowError, ValueError):
        return f"{epoch_seconds:.0f} s after 1970"
