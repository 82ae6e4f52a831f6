"""What Arroyo would say of a query: its graph, or why it refuses it. Needs the extra ``sandbox``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_arroyo.sandbox.sql.model import ARROYO_VERSIONS, CatalogTable, Evaluation, Sink, Source
from airflow_provider_arroyo.sandbox.sql.program import Program

__all__ = ["ARROYO_VERSIONS", "CatalogTable", "Evaluation", "Sink", "Source", "evaluate"]


def evaluate(
    query: str,
    *,
    arroyo_version: str,
    tables: Sequence[CatalogTable] = (),
    udfs: Sequence[Mapping[str, Any]] = (),
    preview: bool = False,
    parallelism: int = 1,
) -> Evaluation:
    """Evaluate a query as Arroyo's API does before it creates a pipeline.

    Names, functions, syntax and the options of tables are checked. Types never are, nor what depends on
    Arroyo's planner; such parts of a query are accepted and listed in :attr:`Evaluation.not_judged`. A
    query of a megabyte may take some seconds, so call this in a thread where an event loop must go on.

    :param query: the SQL. Nothing in it, in the tables or in the functions makes this raise.
    :param arroyo_version: ``"0.15"`` or ``"0.16"``: whose words to use.
    :param tables: the connection tables that the server has.
    :param udfs: the user-defined functions, as the API takes them: ``definition`` and ``language``.
    :param preview: whether it is a preview, whose sinks show their rows instead of writing them.
    :param parallelism: the parallelism of every node in the graph.
    :returns: the graph or the refusal.
    :raises ValueError: the version is not known.
    """
    if arroyo_version not in ARROYO_VERSIONS:
        raise ValueError(
            f"arroyo_version must be one of {', '.join(ARROYO_VERSIONS)}, not {arroyo_version!r}"
        )
    program = Program(query, arroyo_version)
    return program.evaluate(tables, udfs, preview=preview, parallelism=parallelism)
