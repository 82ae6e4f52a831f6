"""Reads which pipelines a prune keeps: names, or the pipelines of a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_arroyo.client.names import check_name


def names_to_keep(keep: Any, group: str | None = None) -> frozenset[str]:
    """Return the names of the pipelines to keep.

    :param keep: names, or the mappings that ``pipelines_from_folder`` returns.
    :param group: the group to prune; None if it is not known yet.
    :raises ValueError: if ``keep`` is empty or has another type, or if its pipelines belong to another group.
    """
    what = "keep must be a list of names, or of pipelines of a folder, got"
    if isinstance(keep, str | bytes | Mapping) or not isinstance(keep, Sequence | set | frozenset):
        raise ValueError(f"{what} {type(keep).__name__}")
    given = [one if isinstance(one, Mapping) else {"pipeline_name": one} for one in keep]
    names = [check_name(one.get("pipeline_name"), "a name in keep") for one in given]
    others = {str(one["group"]) for one in given if one.get("group") not in (None, group)}
    if group is not None and others:
        raise ValueError(
            f"keep has pipelines of group {min(others)!r}, but group {group!r} is pruned, which would "
            "delete all its pipelines; give this task and pipelines_from_folder the same group"
        )
    if not names:
        raise ValueError(
            "keep must name at least one pipeline: an empty list, as from an empty folder, would delete the whole "
            "group"
        )
    return frozenset(names)


def queries_of(keep: Any) -> dict[str, str]:
    """Return the SQL of the pipelines to keep, by name, as far as it is given.

    :param keep: names, or the mappings that ``pipelines_from_folder`` returns.
    """
    given = [one for one in keep if isinstance(one, Mapping)] if isinstance(keep, Sequence) else []
    found = ((one.get("pipeline_name"), one.get("query")) for one in given)
    return {name: query for name, query in found if isinstance(name, str) and isinstance(query, str)}
