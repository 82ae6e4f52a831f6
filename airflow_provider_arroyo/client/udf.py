"""User-defined functions as Arroyo's API takes and lists them; every DAG file may name some."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_arroyo.client.wire import ApiModel


@dataclass(frozen=True, slots=True)
class Udf(ApiModel):
    """A user-defined function that belongs to a pipeline.

    :param definition: its source.
    :param language: ``rust`` or ``python``; None leaves it to the server, which assumes Rust.
    """

    definition: str
    language: str | None = None

    def to_api(self) -> dict[str, str]:
        """Return the JSON object for a request."""
        return {"definition": self.definition, **({"language": self.language} if self.language else {})}
