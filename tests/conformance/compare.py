"""Compares a response with a recorded one, by rules.

Two responses are equal if their status, relevant headers, keys and key order, types and texts are. The exceptions:
ids (any id of the same kind, used consistently), times (any time of the same kind), measured numbers, lists whose
order is not stable, and what belongs to other users of the server.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HEADERS = ("content-type", "allow", "access-control-allow-origin", "cache-control")
_ID = re.compile(r"^(pl|job|ct|cp|jlm|udf)_[0-9A-Za-z]{10}$")
_ID_WITHIN = re.compile(r"\b(?:pl|job|ct|cp)_[0-9A-Za-z]{10}\b")
_PREVIEW_NAME = re.compile(r"^preview_\d{13}$")

MOMENTS = frozenset(
    {"created_at", "updated_at", "start_time", "finish_time", "time", "started_metadata_write", "timestamps"}
)
MEASURED = frozenset({"value", "bytes"})
OWN_TEXTS = frozenset({"icon", "table_config", "description", "connection_config"})
"""Texts of ``GET /connectors``: Arroyo's own, which the sandbox does not copy."""

UNORDERED = {"metric_groups": "name", "nodes": "node_id"}
MAPS = frozenset({"tags", "env_vars", "config"})


@dataclass
class Matching:
    """Which recorded id is which id now.

    :param ids: by recorded id, and by recorded name if the suite uses a name of its own.
    :param exact: lists that grow with time must have as many entries as were recorded.
    :param others: set once a list contained something that does not belong to the suite.
    """

    ids: dict[str, str] = field(default_factory=dict)
    exact: bool = False
    others: bool = False

    def now(self, text: str) -> str:
        """Return a recorded text with the current ids."""
        for recorded, current in self.ids.items():
            text = re.sub(rf"\b{re.escape(recorded)}\b", current.replace("\\", r"\\"), text)
        return text

    def known(self, recorded: str) -> bool:
        """Return whether a recorded id belongs to something that this run created again."""
        return recorded in self.ids


def compare_headers(recorded: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    """Return the differences between the relevant headers."""
    found = [
        f"header {name}: {recorded.get(name)!r} was recorded, got {current.get(name)!r}"
        for name in HEADERS
        if recorded.get(name) != current.get(name)
    ]
    if recorded.get("content-length") == "0" and current.get("content-length") != "0":
        found.append(f"header content-length: '0' was recorded, got {current.get('content-length')!r}")
    return found


def compare(recorded: Any, current: Any, matching: Matching, path: Sequence[str] = ()) -> list[str]:
    """Return the differences between two bodies, each with its place."""
    where = ".".join(path) or "body"
    name = next((part for part in reversed(path) if not part.isdigit()), "")
    if isinstance(recorded, dict) and isinstance(current, dict):
        return _compare_objects(recorded, current, matching, path)
    if isinstance(recorded, list) and isinstance(current, list):
        return _compare_lists(recorded, current, matching, path)
    if name in MOMENTS and _is_number(recorded) and _is_number(current):
        return _compare_moments(recorded, current, where, name)
    if name in MEASURED and _is_number(recorded) and _is_number(current):
        # This counts as 0: the backpressure of a pipeline that is not under load.
        same = (recorded < 0.05) == (current < 0.05) and isinstance(recorded, int) == isinstance(current, int)
        return [] if same else [f"{where}: {recorded!r} was recorded, got {current!r}"]
    if isinstance(recorded, str) and isinstance(current, str):
        return _compare_texts(recorded, current, matching, where, name)
    if type(recorded) is type(current) and recorded == current:
        return []
    return [f"{where}: {_short(recorded)} was recorded, got {_short(current)}"]


def _compare_objects(
    recorded: dict[str, Any], current: dict[str, Any], matching: Matching, path: Sequence[str]
) -> list[str]:
    where = ".".join(path) or "body"
    name = path[-1] if path else ""
    keys, now = list(recorded), list(current)
    if name in MAPS:
        keys, now = sorted(keys), sorted(now)
    if keys != now:
        return [f"{where}: keys {keys} were recorded, got {now}"]
    own_texts = {"icon", "table_config"} <= set(recorded)
    found = []
    for key, value in recorded.items():
        if own_texts and key in OWN_TEXTS:
            if (value is None) != (current[key] is None):
                found.append(f"{where}.{key}: {_short(value)} was recorded, got {_short(current[key])}")
            continue
        if key == "hasMore" and matching.others:
            continue
        found += compare(value, current[key], matching, (*path, key))
    return found


def _compare_lists(
    recorded: list[Any], current: list[Any], matching: Matching, path: Sequence[str]
) -> list[str]:
    where = ".".join(path) or "body"
    name = path[-1] if path else ""
    recorded, current = _mine(recorded, current, matching)
    if recorded and isinstance(recorded[0], dict) and "table_config" in recorded[0]:
        # Of the connectors, only a few were kept in the recording.
        kept = [item["id"] for item in recorded]
        current = [item for item in current if item.get("id") in kept]
    key = _sort_key(recorded, name)
    if key:
        recorded = sorted(recorded, key=lambda item: item[key])
        current = sorted(current, key=lambda item: str(item.get(key)) if key != "node_id" else item[key])
    are_checkpoints = bool(recorded) and isinstance(recorded[0], dict) and "epoch" in recorded[0]
    if name == "metrics" or are_checkpoints:
        if bool(recorded) != bool(current):
            return [f"{where}: {len(recorded)} entries were recorded, got {len(current)}"]
        if not matching.exact:
            if are_checkpoints and _kinds(recorded) != _kinds(current):
                return [f"{where}: {_kinds(recorded)} were recorded, got {_kinds(current)}"]
            recorded, current = _of_the_moment(recorded, current)
    if len(recorded) != len(current):
        return [f"{where}: {len(recorded)} entries were recorded, got {len(current)}"]
    found = []
    for index, (before, now) in enumerate(zip(recorded, current, strict=True)):
        found += compare(before, now, matching, (*path, str(index)))
    return found


def _mine(recorded: list[Any], current: list[Any], matching: Matching) -> tuple[list[Any], list[Any]]:
    """Leave out what this run did not create, and what does not belong to the suite."""
    kinds = ("pl_", "job_", "ct_", "cp_", "udf_")
    if not all(isinstance(item, dict) and isinstance(item.get("id"), str) for item in [*recorded, *current]):
        return recorded, current
    if not any(item["id"].startswith(kinds) for item in [*recorded, *current]):
        return recorded, current
    mine = set(matching.ids.values())
    owner = "pipeline_id"
    learned = {item[owner]: item for item in current if item.get(owner) in mine}
    for item in recorded:
        # A job belongs to the owner of its pipeline.
        if owner in item and matching.known(item[owner]) and matching.ids[item[owner]] in learned:
            matching.ids.setdefault(item["id"], learned[matching.ids[item[owner]]]["id"])
    mine = set(matching.ids.values())
    if len(recorded) == len(current) == 1 and not matching.known(recorded[0]["id"]):
        matching.ids[recorded[0]["id"]] = current[0]["id"]
        return recorded, current
    kept = [item for item in current if item["id"] in mine]
    matching.others = matching.others or len(kept) < len(current)
    return [item for item in recorded if matching.known(item["id"])], kept


def _sort_key(items: list[Any], name: str) -> str | None:
    if name in UNORDERED:
        return UNORDERED[name]
    if items and isinstance(items[0], dict):
        if "metric_groups" in items[0]:
            return "node_id"
        if "operator_id" in items[0] and "subtasks" in items[0]:
            return "operator_id"
    return None


def _kinds(checkpoints: list[Any]) -> list[str | None]:
    """Return the types in order; how many scheduled ones follow each other depends on timing."""
    kinds = [item.get("checkpoint_type") for item in checkpoints]
    return [kind for kind, _ in itertools.groupby(kinds)]


def _of_the_moment(recorded: list[Any], current: list[Any]) -> tuple[list[Any], list[Any]]:
    """Pair the entries; how many there are, and whether the last one is in progress, depends on timing."""

    def group(item: Any) -> tuple[Any, bool]:
        return item.get("checkpoint_type"), item.get("finish_time", 1) is None

    pairs = []
    for key in {group(item) for item in recorded}:
        both = ([item for item in items if group(item) == key] for items in (recorded, current))
        pairs += [(before, now | _epoch(before)) for before, now in zip(*both, strict=False)]
    return [before for before, _ in pairs], [now for _, now in pairs]


def _epoch(checkpoint: Any) -> dict[str, Any]:
    return {"epoch": checkpoint["epoch"]} if "epoch" in checkpoint else {}


def _compare_moments(recorded: int, current: int, where: str, name: str) -> list[str]:
    kinds = [
        "none"
        if value == 0
        else "whole second"
        if name == "created_at" and value % 1_000_000 == 0
        else "moment"
        for value in (recorded, current)
    ]
    if kinds[0] == "whole second" and kinds[1] == "moment":
        # PostgreSQL keeps microseconds, SQLite does not.
        return []
    return [] if kinds[0] == kinds[1] else [f"{where}: {recorded} was recorded, got {current}"]


def _compare_texts(recorded: str, current: str, matching: Matching, where: str, name: str) -> list[str]:
    if _ID.match(recorded) and name in ("id", "pipeline_id", "job_id"):
        prefix = recorded.split("_")[0]
        if matching.known(recorded):
            same = matching.ids[recorded] == current
        else:
            same = current.startswith(f"{prefix}_") or not _ID.match(current)
            if same and prefix != "jlm":
                matching.ids[recorded] = current
        return [] if same else [f"{where}: {matching.now(recorded)!r} is what it was, got {current!r}"]
    if _PREVIEW_NAME.match(recorded) and _PREVIEW_NAME.match(current):
        return []
    expected = matching.now(recorded)
    if expected == current:
        return []
    if _ID_WITHIN.sub("id", expected) == _ID_WITHIN.sub("id", current):
        return []
    return [f"{where}: {_short(expected)} was recorded, got {_short(current)}"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else f"{text[:157]}..."
