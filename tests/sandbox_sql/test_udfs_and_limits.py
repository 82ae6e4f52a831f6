"""User-defined functions, strictness, and what is accepted without being judged."""

from __future__ import annotations

import pytest

from airflow_provider_arroyo.sandbox.sql import CatalogTable, Judgement, judge

IMPULSE = "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');\n"


def ask(query: str, *definitions: str, version: str = "0.16", language: str = "rust") -> Judgement:
    udfs = [{"definition": definition, "language": language} for definition in definitions]
    return judge(IMPULSE + query, arroyo_version=version, udfs=udfs)


DOUBLE = """
/*
[dependencies]
regex = "1"
*/

use arroyo_udf_plugin::udf;
use regex::Regex;

#[udf]
fn my_double(x: i64) -> i64 {
    let brackets = "}})";  // }
    x * 2
}
"""


def test_a_function_is_known_by_its_signature() -> None:
    judgement = ask("SELECT my_double(cast(counter AS BIGINT)) AS d FROM impulse", DOUBLE)
    assert judgement.graph is not None
    assert judgement.sinks[0].columns == (("d", "Int64"),)
    assert judgement.not_judged == ("the body of the function my_double",)


@pytest.mark.parametrize(
    "argument, given",
    [
        ("counter", "Int64"),
        ("'x'", "Utf8"),
        ("1.5", "Float64"),
        ("1 > 2", "Boolean"),
        ("counter + 1", "Int64"),
    ],
)
def test_arguments_of_the_wrong_type(argument: str, given: str) -> None:
    udf = "#[udf] pub fn small(x: u8) -> u8 { x }"
    message = ask(f"SELECT small({argument}) FROM impulse", udf).errors[0]["message"]
    assert message == (
        "Error during planning: Failed to coerce arguments to satisfy a call to 'small' function: coercion from "
        f"[{given}] to the signature Exact([UInt8]) failed No function matches the given name and argument types "
        f"'small({given})'. You might need to add explicit type casts.\n\tCandidate functions:\n\tsmall(UInt8)"
    )


@pytest.mark.parametrize(
    "argument",
    [
        "NULL",
        "cast(counter AS TINYINT UNSIGNED)",
        "CAST(1 AS TINYINT UNSIGNED) * CAST(2 AS TINYINT UNSIGNED)",
    ],
)
def test_arguments_of_the_right_type(argument: str) -> None:
    assert (
        ask(f"SELECT small({argument}) FROM impulse", "#[udf] fn small(x: u8) -> u8 { x }").graph is not None
    )


def test_a_call_without_arguments() -> None:
    message = ask("SELECT f() FROM impulse", "#[udf] fn f(x: i64) -> i64 { x }").errors[0]["message"]
    assert message.startswith(
        "Error during planning: 'f' does not support zero arguments No function matches"
    )
    assert ask("SELECT f() FROM impulse", "#[udf] fn f() -> i64 { 1 }").graph is not None


def test_a_function_over_many_rows_is_an_aggregate() -> None:
    udf = "#[udf]\nfn my_median(args: Vec<i64>) -> f64 { 0.0 }"
    judgement = ask("SELECT my_median(counter) AS m FROM impulse GROUP BY tumble(interval '1 s')", udf)
    assert judgement.sinks[0].columns == (("m", "Float64"),)
    assert (
        "must appear in GROUP BY"
        in ask("SELECT my_median(counter), counter FROM impulse", udf).errors[0]["message"]
    )


def test_an_asynchronous_function_is_a_step() -> None:
    udf = (
        '#[udf(ordered, allowed_in_flight=5, timeout="1s")]\nasync fn slow(x: i64) -> Option<String> { None }'
    )
    judgement = ask("SELECT slow(counter) FROM impulse", udf)
    assert judgement.graph is not None
    assert judgement.graph["nodes"][1]["description"] == "impulse -> watermark -> async_udf<slow>"
    message = ask("SELECT counter FROM impulse WHERE slow(counter) = 'x'", udf).errors[0]["message"]
    assert "async UDFs are only supported in projections, but slow was called" in message


UNREADABLE = {
    "fn f(x: i64) -> i64 { x }": "UDF must contain a function with with the annotation #[udf]",
    "#[udf] fn f() -> i64 { 1 } #[udf] fn g() -> i64 { 2 }": "Only one function in a UDF may be annotated with "
    "#[udf]",
    "#[udf] fn f(x: i64) { }": "Function f return type must be specified",
    "#[udf] fn f(x: HashMap<String, i32>) -> i64 { 1 }": "Could not convert function f arg 0 into a SQL data type: "
    "unsupported Rust type HashMap<String,i32>",
    "#[udf] fn f(x: String) -> i64 { 1 }": "Could not convert function f arg 0 into a SQL data type: expected "
    "reference type &str instead of String",
    "#[udf] fn f(x: &str) -> &str { x }": "Could not convert function f return type into a SQL data type: "
    "expected owned String, not &str",
    "#[udf] fn f(x: i64 -> i64 { 1 }": "cannot parse string into token stream",
}


@pytest.mark.parametrize("definition, message", UNREADABLE.items())
def test_functions_that_do_not_parse(definition: str, message: str) -> None:
    new = ask("SELECT counter FROM impulse", definition)
    assert new.udf_refusal == new.refusal == f"invalid UDF: {message}"
    old = ask("SELECT counter FROM impulse", definition, version="0.15")
    assert old.errors == ({"message": f"invalid UDF: {message}", "span": None},)
    assert (old.udf_refusal, old.refusal) == (None, f"invalid UDF: {message}")


def test_a_python_function() -> None:
    udf = "from arroyo_udf import udf\n\n@udf\ndef shout(x: str) -> str:\n    return x.upper()\n"
    judgement = ask("SELECT shout('a') AS s FROM impulse", udf, language="python")
    assert judgement.sinks[0].columns == (("s", "Utf8"),)
    broken = ask("SELECT counter FROM impulse", "def f(:", language="python")
    assert (broken.udf_refusal or "").startswith("invalid Python UDF: ")


def test_the_version_must_be_known() -> None:
    with pytest.raises(ValueError, match=r"arroyo_version must be one of 0.15, 0.16, not '0.14'"):
        judge("SELECT 1", arroyo_version="0.14")


@pytest.mark.parametrize(
    "query, what",
    [
        ("SELECT counter FROM impulse INTERSECT SELECT counter FROM impulse", "INTERSECT and EXCEPT"),
        ("SELECT counter FROM impulse GROUP BY ROLLUP (counter)", "ROLLUP, CUBE and GROUPING SETS"),
        ("SELECT DISTINCT ON (counter) counter FROM impulse", "DISTINCT ON"),
        ("SELECT a FROM impulse, UNNEST(ARRAY[1, 2]) AS u(a)", "UNNEST in FROM"),
        ("SELECT * FROM generate(1, 2), impulse", "a function in FROM"),
        ("CREATE INDEX i ON impulse (counter); SELECT counter FROM impulse", "the statement CREATE INDEX"),
    ],
)
def test_what_is_not_judged_is_accepted_and_said(query: str, what: str) -> None:
    judgement = ask(query)
    assert judgement.graph is not None
    assert judgement.not_judged == (what,)
    assert [source.name for source in judgement.sources] == ["impulse"]
    strict = judge(IMPULSE + query, arroyo_version="0.16", strict=True)
    assert strict.errors == ({"message": f"not judged: {what}", "span": None},)
    assert strict.refusal == f"Failed to plan query:\n * not judged: {what}"


def test_strict_takes_what_is_judged() -> None:
    query = IMPULSE + "SELECT upper('x'), counter + 1 FROM impulse"
    assert judge(query, arroyo_version="0.16", strict=True) == judge(query, arroyo_version="0.16")


def test_a_table_whose_columns_are_not_known_has_any() -> None:
    table = CatalogTable("orders", "kafka", {"topic": "orders"}, (), "source")
    judgement = judge("SELECT anything, o.other.field FROM orders o", arroyo_version="0.16", tables=[table])
    assert judgement.graph is not None
    assert judgement.not_judged == ("the columns of the table orders",)
