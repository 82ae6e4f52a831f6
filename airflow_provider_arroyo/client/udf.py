"""User-defined functions as Arroyo's API takes and lists them. A separate module, as DAG files may import it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_arroyo.client.checks import check_text
from airflow_provider_arroyo.client.wire import ApiModel, wire


@dataclass(frozen=True, slots=True)
class Udf(ApiModel):
    """A user-defined function that belongs to a pipeline.

    :param definition: its source.
    :param language: ``rust`` or ``python``; None leaves it to the server, which assumes Rust.
    """

    definition: str = wire(is_secret=True)
    language: str | None = wire(is_strict=True, may_be_null=True, default=None)

    def to_api(self) -> dict[str, str]:
        """Return the JSON object for a request."""
        return {"definition": self.definition, **({"language": self.language} if self.language else {})}


def as_udfs(items: Iterable[Any]) -> tuple[Udf, ...]:
    """Return UDFs from users' values: a :class:`.Udf`, its source, or ``{"definition", "language"}``.

    :raises ValueError: if a value is invalid or has no source.
    """
    try:
        given = list(items)
    except TypeError:  # such as Airflow's stand-in for the result of another task
        given = None
    if given is None or isinstance(items, str | bytes | Mapping | Udf):
        raise ValueError(f"udfs must be a list of UDFs, got {type(items).__name__}")
    udfs = []
    for position, item in enumerate(given):
        where = f"udfs[{position}]"
        if isinstance(item, Udf):
            udf = item
        elif isinstance(item, str):
            udf = Udf(item)
        elif isinstance(item, Mapping) and set(item) <= {"definition", "language"}:
            udf = Udf(item.get("definition", ""), item.get("language"))
        else:
            raise ValueError(f"{where} must be a source, a Udf, or a mapping with definition and language")
        check_text(udf.definition, f"{where}.definition")
        if udf.language not in (None, "rust", "python"):
            raise ValueError(f"{where}.language must be 'rust' or 'python', got {udf.language!r}")
        udfs.append(udf)
    return tuple(udfs)
