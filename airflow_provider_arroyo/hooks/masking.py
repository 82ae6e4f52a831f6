"""Tells Airflow what it must mask, in the task's log and on its pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def hide_values(values: Iterable[str]) -> None:
    """Keep values out of the task's log, and of the page that shows its rendered fields.

    :param values: secrets.
    """
    from airflow.providers.common.compat.sdk import mask_secret

    mask: Callable[[str], None] = mask_secret
    for value in values:
        mask(value)
