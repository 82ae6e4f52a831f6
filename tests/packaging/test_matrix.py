"""The table that ``make matrix`` writes."""

from __future__ import annotations

from pathlib import Path

from scripts.matrix import BEGIN, END, PAGE, Cell, table, write

CELLS = [
    Cell("3.0.6", "3.11", "unit and HTTP: 12"),
    Cell("3.0.6", "3.13", "this Airflow does not support it"),
    Cell("3.3.2", "3.11", "unit and HTTP: 10, **2 failed**", failed=True),
]


def test_a_row_for_each_airflow_and_a_column_for_each_python() -> None:
    assert table(CELLS).splitlines() == [
        "| Airflow | Python 3.11 | Python 3.13 |",
        "|---|---|---|",
        "| 3.0.6 | unit and HTTP: 12 | this Airflow does not support it |",
        "| 3.3.2 | unit and HTTP: 10, **2 failed** | not tried |",
    ]


def test_each_run_replaces_the_table_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\n\nan old table\n\n{END}\n\nafter\n")
    for _ in range(2):
        write(page, table(CELLS))
        assert page.read_text() == f"before\n\n{BEGIN}\n\n{table(CELLS)}\n\n{END}\n\nafter\n"


def test_the_page_has_the_marks() -> None:
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)
