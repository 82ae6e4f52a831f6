"""Runs the blocks of the documentation, in one process with an Airflow and a sandbox of its own.

``python -m tests.docs.run FOLDER`` prints a line of JSON for each block: its place, and what went wrong, or null.
The folder is that of Airflow's DAGs, and its database is still to be made: ``test_blocks.py`` sets the environment.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterable
from datetime import timedelta
from importlib import import_module
from itertools import groupby
from pathlib import Path
from types import CodeType
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, AssetWatcher, task
from airflow.utils.db import initdb

from airflow_provider_arroyo.hooks.arroyo import ArroyoHook
from airflow_provider_arroyo.sandbox import ArroyoSandbox

from .blocks import Block, all_blocks

MODULES = ("operators.arroyo", "sensors.arroyo", "triggers.arroyo", "hooks.arroyo", "assets", "client.models")


DAG_IDS: dict[str, str] = {}
"""Where each DAG stands."""


class BlockError(Exception):
    """A block does not do what a reader expects of it."""


def folder_of(root: Path, page: str) -> Path:
    """Return where the files of a page go."""
    return root / page.removeprefix("docs/").removesuffix(".md").replace("/", "_").replace("-", "_").lower()


def write_files(root: Path, blocks: Iterable[Block]) -> None:
    """Write the blocks that are files, each page's into a folder of its own.

    :param root: the folder for all.
    :param blocks: of all pages.
    """
    for number, block in enumerate(blocks):
        folder, file = folder_of(root, block.page), block.file
        if file is None and block.language == "python" and block.why_not is None:
            if block.is_test:
                file = f"tests/test_block_{number}.py"
            elif block.has_dag:
                file = f"dags/block_{number}.py"
        if file is not None:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            # As many empty lines before it as on the page, so that tracebacks name its lines.
            (folder / file).write_text(
                ("" if file.endswith(".sql") else "\n" * (block.line - 1)) + block.text
            )
    root.mkdir(exist_ok=True)
    (root / ".airflowignore").write_text("**/tests/**\n**/plugins/**\n")


class Page:
    """What the blocks of one page have in common: names, and a folder.

    :param folder: its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"Path": Path, "timedelta": timedelta, "__name__": folder.name}
        self.names |= {"DAG": DAG, "AssetWatcher": AssetWatcher, "task": task}
        for module in MODULES:
            found = import_module(f"airflow_provider_arroyo.{module}")
            self.names |= {name: value for name, value in vars(found).items() if name[0] != "_"}

    def run(self, block: Block, number: int) -> None:
        """Run a block.

        :raises Exception: whatever it raises.
        """
        if block.language == "sql":
            self._plan(block)
            return
        code = compile("\n" * (block.line - 1) + block.text, block.page, "exec")
        if block.why_not is not None or block.is_test:
            return
        if block.has_dag:
            path = self.folder / (block.file or f"dags/block_{number}.py")
            self.names["__file__"] = str(path)
            self._run_dag(block, path)
            exec(code, self.names)  # noqa: S102  # our own pages
            return
        with self._dag_for(code, number):
            exec(code, self.names)  # noqa: S102  # our own pages

    def _dag_for(self, code: CodeType, number: int) -> DAG:
        """Return the DAG that a part of one belongs to: that of the tasks it mentions, else a new one."""
        for name in code.co_names:
            value = self.names.get(name)
            # A result of a task, else a task.
            if isinstance(dag := getattr(getattr(value, "operator", value), "dag", None), DAG):
                return dag
        return DAG(f"{self.folder.name}_{number}", schedule=None)

    def _plan(self, block: Block) -> None:
        if block.why_not is None and (errors := ArroyoHook().validate_query(block.text).errors):
            raise BlockError("; ".join(error.message for error in errors))

    def _run_dag(self, block: Block, path: Path) -> None:
        bag = DagBag(str(path))
        if bag.import_errors or not bag.dags:
            raise BlockError(next(iter(bag.import_errors.values()), "there is no DAG in it"))
        for dag in bag.dags.values():
            if DAG_IDS.setdefault(dag.dag_id, block.place) != block.place:
                raise BlockError(
                    f"{DAG_IDS[dag.dag_id]} has a DAG {dag.dag_id!r}, too, and Airflow knows one"
                )
            if block.is_run:
                ended = dag.test()
                tasks = {one.task_id: one.state for one in ended.get_task_instances()}
                if ended.state != "success":
                    raise BlockError(f"the run ended {ended.state}: {tasks}")


def main(root: Path) -> None:
    """Run every block.

    :param root: Airflow's folder of DAGs, still empty.
    """
    blocks = all_blocks()
    write_files(root, blocks)
    with ArroyoSandbox() as sandbox:
        os.environ["AIRFLOW_CONN_ARROYO_DEFAULT"] = sandbox.airflow_connection_uri()
        initdb()
        logging.disable(logging.INFO)
        for name, of_page in groupby(enumerate(blocks), lambda one: one[1].page):
            page = Page(folder_of(root, name))
            for number, block in of_page:
                if block.language not in ("python", "sql"):
                    continue
                problem = None
                try:
                    page.run(block, number)
                except Exception:  # noqa: BLE001  # whatever a block raises
                    problem = traceback.format_exc()
                print(json.dumps({"place": block.place, "problem": problem}), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
