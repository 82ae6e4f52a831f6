"""How SQL that Arroyo refused is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.exceptions import ArroyoQueryError
from airflow_provider_arroyo.exceptions import SqlDiagnostic as Diagnostic
from airflow_provider_arroyo.pipelines.sql_errors import (
    excerpt,
    invisible_characters,
    moved_up,
    refused,
    stands_there,
)

PARSER = 'SQL error: ParserError("Expected: an SQL statement, found: SELEC at Line: 3, Column: 7")'
QUERY = "SELECT 1\n  FROM nowhere, elsewhere\nWHERE x"
# Only a line feed ends a line.
LINE_ENDS = "a\x0bb\u2028c\x85d\r\nSELEC 1\r\n"
HTTP = {"status": 400, "method": "PUT", "path": "/pipelines/x"}


def _error(*diagnostics: Diagnostic, server_message: str = "what it said") -> ArroyoQueryError:
    return ArroyoQueryError(
        "Refused by Arroyo", diagnostics=diagnostics, server_message=server_message, **HTTP
    )


def test_the_position_of_an_error() -> None:
    assert Diagnostic(PARSER).with_place() == Diagnostic(PARSER, 3, 7)
    assert Diagnostic("no place").with_place() == Diagnostic("no place")
    own = Diagnostic(PARSER, 1, 2)
    assert own.with_place() is own


def test_positions_are_shifted_by_the_line_of_the_label() -> None:
    moved = moved_up(Diagnostic(PARSER, 3, 7, 4, 1), 1)
    assert (moved.line, moved.column, moved.end_line, moved.end_column) == (2, 7, 3, 1)
    assert "at Line: 2, Column: 7" in moved.message
    assert moved_up(Diagnostic("no place"), 1) == Diagnostic("no place")
    assert moved_up(Diagnostic("x", 2, 1), 1).end_line is None


@pytest.mark.parametrize(
    "query, place, shown",
    [
        (QUERY, (2, 8, 2, 15), "  line 2 |   FROM nowhere, elsewhere\n                  ^^^^^^^"),
        (QUERY, (1, 1), "  line 1 | SELECT 1\n           ^"),
        (QUERY, (3, 7, 3, 7), "  line 3 | WHERE x\n                 ^"),
        (QUERY, (3, 8), "  line 3 | WHERE x\n                  ^"),
        (QUERY, (3, 900), "  line 3 | WHERE x\n                  ^"),
        (QUERY, (3, None), "  line 3 | WHERE x\n           ^"),
        (QUERY, (3, 0), "  line 3 | WHERE x\n           ^"),
        (QUERY, (1, 8, 2, 4), "  line 1 | SELECT 1\n                  ^"),
        (QUERY, (1, 1, 2, 4), "  line 1 | SELECT 1\n           ^^^^^^^^"),
        (QUERY, (0, 1), ""),
        (QUERY, (-1, 1), ""),
        (QUERY, (4, 1), ""),
        (QUERY, (), ""),
        (LINE_ENDS, (2, 1, 2, 6), "  line 2 | SELEC 1\n           ^^^^^"),
        (LINE_ENDS, (1, 3), "  line 1 | a b c d\n             ^"),
        ("\t\tSELEC", (1, 3, 1, 8), "  line 1 |   SELEC\n             ^^^^^"),
        ("a\u200bb\ufeff c", (1, 6), "  line 1 | a·b· c\n                ^"),
    ],
)
def test_an_excerpt_marks_the_position(query: str, place: tuple[int | None, ...], shown: str) -> None:
    assert excerpt(query, Diagnostic("m", *place)) == shown


@pytest.mark.parametrize(
    "marked, shown",
    [
        ("b", "b"),
        ("topic", "topic"),
        ("unter", "***"),
        ("hunter2'", "***'"),
        ("= 'hun", "= '***"),
        ("er2', b", "***', b"),
    ],
)
def test_secrets_are_masked_and_the_position_is_still_marked(marked: str, shown: str) -> None:
    query = "WITH (topic = 't',\npassword = 'hunter2', b c)"
    at = query.index(marked)
    line = query.count("\n", 0, at) + 1
    column = at - query.rfind("\n", 0, at)
    above, below = excerpt(query, Diagnostic("m", line, column, line, column + len(marked))).split("\n")
    assert "hunter2" not in above
    assert above[below.index("^") : below.rindex("^") + 1] == shown


def test_a_secret_of_two_lines_is_masked_in_both() -> None:
    query = "WITH (password = 'hunter2\n2hunter', b c)"
    assert excerpt(query, Diagnostic("m", 1, 1)).startswith("  line 1 | WITH (password = '***\n")
    assert excerpt(query, Diagnostic("m", 2, 9)) == "  line 2 | ***', b c)\n               ^"


def test_a_line_of_a_megabyte_is_cut_around_the_position() -> None:
    query = "x" * 500_000 + "HERE" + "y" * 500_000
    line, marks = excerpt(query, Diagnostic("m", 1, 500_001, 1, 500_005)).splitlines()
    assert len(line) < 200
    assert line.startswith("  line 1 | …x")
    assert line.endswith("y…")
    assert [line[place] for place, sign in enumerate(marks) if sign == "^"] == list("HERE")


lines, columns = st.integers(-1, 10), st.none() | st.integers(-1, 400)


@given(
    query=st.text(max_size=400), line=lines, column=columns, end_line=st.none() | lines, end_column=columns
)
def test_any_text_and_position_has_an_excerpt(
    query: str, line: int, column: int | None, end_line: int | None, end_column: int | None
) -> None:
    shown = excerpt(query, Diagnostic("m", line, column, end_line, end_column))
    if not shown:
        assert not 0 < line <= query.count("\n") + 1
        return
    above, below = shown.split("\n")
    assert below.strip("^ ") == ""
    assert "^" in below
    # At most one mark is past the end of the line: that of missing text.
    assert len(below) <= len(above) + 1
    sql = query.split("\n")[line - 1].rstrip("\r")
    if column is not None and 0 < column <= len(sql):
        assert above[below.index("^")] in (sql[column - 1], " ", "·")


def test_a_refusal_prefers_the_errors_of_the_validation() -> None:
    better = Diagnostic("table 'nowhere' not found", 2, 8, 2, 15)
    error = refused(_error(Diagnostic("from the create")), QUERY, [better])
    assert str(error) == (
        "Arroyo refused the SQL. Fix it, then clear this task.\n"
        "table 'nowhere' not found (line 2, column 8)\n"
        "  line 2 |   FROM nowhere, elsewhere\n"
        "                  ^^^^^^^"
    )
    assert error.diagnostics == (better,)
    assert {name: getattr(error, name) for name in HTTP} == HTTP
    assert error.server_message == "what it said"
    assert error.is_fatal


def test_a_refusal_shows_no_secret_of_the_sql() -> None:
    query = "CREATE TABLE t WITH (password = 'hunter2' x)"
    words = "Expected: ), found: hunter2 at Line: 1, Column: 43"
    for found in ([], [Diagnostic(words)], [Diagnostic(words, 1, 43)]):
        error = refused(_error(server_message=words), query, found)
        assert "hunter2" not in f"{error} {error.diagnostics} {error.server_message}"
        assert "found: ***" in str(error)


def test_a_refusal_without_a_validation() -> None:
    assert "from the create" in str(refused(_error(Diagnostic("from the create")), QUERY))
    assert "what it said" in str(refused(_error(), QUERY))
    assert "Refused by Arroyo" in str(refused(_error(server_message=""), QUERY))
    assert "m (line 3, column 1)" in str(refused(_error(Diagnostic("m", 3)), QUERY))


def test_many_and_long_refusals_stay_readable() -> None:
    text = str(refused(_error(), QUERY, [Diagnostic(f"number {number}", 1, 1) for number in range(25)]))
    assert "number 9" in text
    assert "number 10" not in text
    assert text.endswith("… and 15 more")
    assert len(str(refused(_error(Diagnostic("x" * 1_000_000)), QUERY))) < 3000
    assert len(str(refused(_error(server_message="x" * 1_000_000), QUERY))) < 3000


# -- positions outside of the user's SQL ---------------------------------------------------------------

GENERATED = (
    "CREATE TABLE orders (\n  at TIMESTAMP NOT NULL,\n  watermark TIMESTAMP GENERATED ALWAYS AS (att)\n)"
)


def parser(found: str, line: int, column: int) -> str:
    return (
        f'SQL error: ParserError("Expected: an expression, found: {found} at Line: {line}, Column: {column}")'
    )


@pytest.mark.parametrize(
    "query, message, place, expected",
    [
        (QUERY, "table 'nowhere' not found", (2, 8, 2, 15), True),
        (QUERY, "table 'elsewhere' not found", (2, 8, 2, 15), False),
        # The server's own text has the column at 8, where this text has the TA of TABLE.
        (GENERATED, "column 'at' not found", (1, 8, 1, 10), False),
        (GENERATED, "expressions have incompatible types", (1, 8, 1, 10), False),
        (QUERY, "expressions have incompatible types", (2, 8, 2, 15), True),
        (QUERY, "it doesn't fit", (2, 8, 2, 15), True),
        ('SELECT "Order Id"', "column 'Order Id' not found", (1, 8, 1, 18), True),
        ("SELECT COUNTERR", "column 'counterr' not found", (1, 8, 1, 16), True),
        ("SELECT o.total", "column 'o.total' not found", (1, 8, 1, 15), True),
        ("SELECT total", "column 'o.total' not found", (1, 8, 1, 13), True),
        ("SELECT otal", "column 'o.total' not found", (1, 8, 1, 12), False),
        ("SELECT cosine(x)", "Invalid function 'cosine'", (1, 8, 1, 17), True),
        ("SELECT x", "column 'x' not found", (1, 8, 1, 8), False),
        (QUERY, parser("FROM", 2, 3), (), True),
        (QUERY, parser("FROM", 1, 3), (), False),
        (QUERY, parser("FROM", 9, 3), (), False),
        ("SELECT 1 'a b'", parser("'a b'", 1, 10), (), True),
        ('SELECT 1 "a b"', parser('\\"a b\\"', 1, 10), (), True),
        ("SELECT\u200b 1", parser("SELECT\\u{200b}", 1, 1), (), True),
        ("SELECT 'a", 'SQL error: TokenizerError("Unterminated string at Line: 1, Column: 8")', (), True),
    ],
)
def test_a_position_is_marked_only_if_the_named_text_is_there(
    query: str, message: str, place: tuple[int, ...], expected: bool
) -> None:
    diagnostic = Diagnostic(message, *place)
    assert stands_there(query, diagnostic.with_place()) is expected
    text = str(refused(_error(), query, [diagnostic]))
    assert ("^" in text, "(line " in text, message in text) == (expected, expected, True)


@given(query=st.text(max_size=200), message=st.text(max_size=60), line=lines, column=columns, end=columns)
def test_any_position_can_be_checked(
    query: str, message: str, line: int, column: int | None, end: int | None
) -> None:
    assert stands_there(query, Diagnostic(message, line, column, line, end)) in (True, False)


@pytest.mark.parametrize(
    "query, expected",
    [
        (QUERY, []),
        ("SELECT\u200b 1\n\u00adx", ["U+200B ZERO WIDTH SPACE (1, 7)", "U+00AD SOFT HYPHEN (2, 1)"]),
        ("SELECT 1;\n\ufeffSELECT 2", ["U+FEFF ZERO WIDTH NO-BREAK SPACE (2, 1)"]),
        ("SELECT\x00 1 \x07", ["U+0000 control character (1, 7)", "U+0007 control character (1, 11)"]),
        # Arroyo accepts these.
        ("SELECT '👩\u200d👩', \"a\u200bb\" -- \u200b\n/* \u200b\n */, \t\u00a01\r\n", []),
        ("/* \n '*/\u200b", ["U+200B ZERO WIDTH SPACE (2, 5)"]),
    ],
)
def test_invisible_characters_are_named_with_their_position(query: str, expected: list[str]) -> None:
    found = [text.replace("line ", "").replace("column ", "") for text in invisible_characters(query)]
    assert found == expected
    text = str(refused(_error(), query))
    assert ("invisible characters: " in text) is bool(expected)
