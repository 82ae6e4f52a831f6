"""The file of benchmark results: rows that are measured separately are merged into it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import Table, write


def table(title: str, cell: str) -> Table:
    return Table(title, "little", ["what"], lines=[[cell]])


def test_a_row_that_is_measured_alone_replaces_only_its_own_table(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    write(path, [table("Waits", "old"), table("Pages", "old")], about="here", command="bench")
    noted = path.read_text().replace("the sandbox.\n", "the sandbox.\nA word about some of them.\n")
    path.write_text(noted)
    write(path, [table("Pages", "new"), table("Imports", "new")], about="there", command="bench")
    found = path.read_text()
    head, *tables = found.split("\n## ")
    assert head == noted.partition("\n## ")[0]
    assert [one.partition("\n")[0] for one in tables] == ["Waits", "Pages", "Imports"]
    assert [("| old |" in one, "| new |" in one) for one in tables] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert "here" in tables[0]
    write(path, [], about="", command="bench")
    assert path.read_text() == found
