from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.arroyo.details import SqlDiagnostic
from airflow_provider_arroyo.arroyo.diagnosis import excerpt, moved_up, refused, with_place
from airflow_provider_arroyo.exceptions import ArroyoQueryError

PARSER = 'SQL error: ParserError("Expected: an SQL statement, found: SELEC at Line: 3, Column: 7")'


def _error(*diagnostics: SqlDiagnostic, server_message: str = "what it said") -> ArroyoQueryError:
    return ArroyoQueryError(
        "Arroyo refused the SQL",
        diagnostics=diagnostics,
        status=400,
        method="PUT",
        path="/pipelines/x",
        server_message=server_message,
    )


def test_place_from_the_words() -> None:
    assert with_place(SqlDiagnostic(PARSER)) == SqlDiagnostic(PARSER, 3, 7)
    assert with_place(SqlDiagnostic("no place")) == SqlDiagnostic("no place")
    own = SqlDiagnostic(PARSER, 1, 2)
    assert with_place(own) is own


def test_moved_up_past_our_comment() -> None:
    moved = moved_up(SqlDiagnostic(PARSER, 3, 7, 4, 1), 1)
    assert (moved.line, moved.column, moved.end_line, moved.end_column) == (2, 7, 3, 1)
    assert "at Line: 2, Column: 7" in moved.message
    assert moved_up(SqlDiagnostic("no place"), 1) == SqlDiagnostic("no place")
    assert moved_up(SqlDiagnostic("x", 2, 1), 1).end_line is None


QUERY = "SELECT 1\n  FROM nowhere, elsewhere\nWHERE x"


@pytest.mark.parametrize(
    "diagnostic, shown",
    [
        (SqlDiagnostic("m", 2, 8, 2, 15), "  line 2 |   FROM nowhere, elsewhere\n                  ^^^^^^^"),
        (SqlDiagnostic("m", 1, 1), "  line 1 | SELECT 1\n           ^"),
        (SqlDiagnostic("m", 3, 7, 3, 7), "  line 3 | WHERE x\n                 ^"),
        (SqlDiagnostic("m", 3, 8), "  line 3 | WHERE x\n                  ^"),
        (SqlDiagnostic("m", 3, 900), "  line 3 | WHERE x\n                  ^"),
        (SqlDiagnostic("m", 3, None), "  line 3 | WHERE x\n           ^"),
        (SqlDiagnostic("m", 3, 0), "  line 3 | WHERE x\n           ^"),
        (SqlDiagnostic("m", 1, 8, 2, 4), "  line 1 | SELECT 1\n                  ^"),
        (SqlDiagnostic("m", 1, 1, 2, 4), "  line 1 | SELECT 1\n           ^^^^^^^^"),
        (SqlDiagnostic("m", 0, 1), ""),
        (SqlDiagnostic("m", -1, 1), ""),
        (SqlDiagnostic("m", 4, 1), ""),
        (SqlDiagnostic("m"), ""),
    ],
)
def test_excerpt(diagnostic: SqlDiagnostic, shown: str) -> None:
    assert excerpt(QUERY, diagnostic) == shown


def test_only_a_line_feed_ends_a_line() -> None:
    query = "a\x0bb\u2028c\x85d\r\nSELEC 1\r\n"
    assert excerpt(query, SqlDiagnostic("m", 2, 1, 2, 6)) == "  line 2 | SELEC 1\n           ^^^^^"
    assert excerpt(query, SqlDiagnostic("m", 1, 3)) == "  line 1 | a b c d\n             ^"


def test_tabs_keep_the_mark_in_place() -> None:
    assert excerpt("\t\tSELEC", SqlDiagnostic("m", 1, 3, 1, 8)) == "  line 1 |   SELEC\n             ^^^^^"


def test_line_of_a_megabyte_is_cut_around_the_place() -> None:
    query = "x" * 500_000 + "HERE" + "y" * 500_000
    shown = excerpt(query, SqlDiagnostic("m", 1, 500_001, 1, 500_005)).splitlines()
    assert len(shown[0]) < 200
    assert shown[0].startswith("  line 1 | …x")
    assert shown[0].endswith("y…")
    assert [shown[0][place] for place, sign in enumerate(shown[1]) if sign == "^"] == list("HERE")


@given(
    query=st.text(max_size=400),
    line=st.integers(-1, 10),
    column=st.one_of(st.none(), st.integers(-1, 400)),
    end_line=st.one_of(st.none(), st.integers(-1, 10)),
    end_column=st.one_of(st.none(), st.integers(-1, 400)),
)
def test_excerpt_of_anything(
    query: str, line: int, column: int | None, end_line: int | None, end_column: int | None
) -> None:
    shown = excerpt(query, SqlDiagnostic("m", line, column, end_line, end_column))
    if not shown:
        assert not 0 < line <= query.count("\n") + 1
        return
    above, below = shown.split("\n")
    assert below.strip("^ ") == ""
    assert below.count("^") >= 1
    # The mark does not stand beyond the end of the line by more than what is missing there.
    assert len(below) <= len(above) + 1
    if column is not None and 0 < column <= len(query.split("\n")[line - 1].rstrip("\r")):
        assert above[below.index("^")] in (query.split("\n")[line - 1][column - 1], " ")


def test_refusal_prefers_what_the_validation_said() -> None:
    error = refused(
        _error(SqlDiagnostic("from the create")), QUERY, [SqlDiagnostic("told better", 2, 8, 2, 15)]
    )
    assert str(error) == (
        "Arroyo refused the SQL. Mend it, then clear this task.\n"
        "told better (line 2, column 8)\n"
        "  line 2 |   FROM nowhere, elsewhere\n"
        "                  ^^^^^^^"
    )
    assert error.diagnostics == (SqlDiagnostic("told better", 2, 8, 2, 15),)
    assert (error.status, error.method, error.path, error.server_message) == (
        400,
        "PUT",
        "/pipelines/x",
        "what it said",
    )
    assert error.is_permanent


def test_refusal_without_a_validation() -> None:
    assert "from the create" in str(refused(_error(SqlDiagnostic("from the create")), QUERY))
    assert "what it said" in str(refused(_error(), QUERY))
    assert "Arroyo refused the SQL" in str(refused(_error(server_message=""), QUERY))


def test_place_without_a_column() -> None:
    assert "m (line 3, column 1)" in str(refused(_error(SqlDiagnostic("m", 3)), QUERY))


def test_many_and_long_refusals_stay_readable() -> None:
    many = [SqlDiagnostic(f"number {number}", 1, 1) for number in range(25)]
    text = str(refused(_error(), QUERY, many))
    assert "number 9" in text
    assert "number 10" not in text
    assert text.endswith("… and 15 more")
    assert len(str(refused(_error(SqlDiagnostic("x" * 1_000_000)), QUERY))) < 3000
    assert len(str(refused(_error(server_message="x" * 1_000_000), QUERY))) < 3000
