"""Which parts of a UDF's source may be shown: everything except strings that belong to a secret."""

from __future__ import annotations

import pytest

from airflow_provider_arroyo.client.body_secrets import body_secret_values, code_secret_values, redact_code

SECRET = "hunter2 abcdef"


@pytest.mark.parametrize(
    "language, source",
    [
        ("rust", 'const API_KEY: &str = "%s";'),
        ("rust", 'const API_KEY: &\'static str = "%s";'),
        ("rust", 'let token = String::from("%s");'),
        ("rust", 'request.header("Authorization", "Bearer %s")'),
        ("rust", 'let password = "%s".to_string();'),
        ("rust", 'let password =\n    "%s";'),
        ("rust", 'let password = r#"%s"#;'),
        ("rust", 'let password = br##"%s"##;'),
        ("rust", 'let password = "%s'),
        (None, 'static PASSWORD: Option<&str> = Some("%s");'),
        ("python", 'API_KEY: str = "%s"'),
        ("python", 'password = str("%s")'),
        ("python", "options = dict(api_key='%s')"),
        ("python", "password = (\n  '%s'\n)"),
        ("python", "password = \\\n  '%s'"),
        ("python", 'password = b"%s"'),
        ("python", 'password = """%s"""'),
        ("python", 'password = "%s'),
        ("python", "PASSWORD = 'a' + '%s'"),
        ("python", "requests.post(url, headers={'X-Api-Key': '%s'})"),
    ],
)
def test_a_string_that_follows_a_secret_name_is_masked(language: str | None, source: str) -> None:
    shown = redact_code(f'first("kept");\n{source % SECRET}', language)
    assert "abcdef" not in shown
    assert "***" in shown
    assert shown.startswith('first("kept");\n')


@pytest.mark.parametrize(
    "language, source, shown",
    [
        ("rust", '// the password is hunter2\nlet a = "b";', '// the password is ***\nlet a = "b";'),
        ("rust", '/* key: hunter2 */ let a = "b";', '/* key: *** */ let a = "b";'),
        ("rust", 'get("https://me:hunter2@host/a b")', 'get("https://***@host/a b")'),
        ("python", "# token=hunter2\na = 'b'", "# token=***\na = 'b'"),
        ("python", "connect('host=a password=hunter2')", "connect('host=a password=***')"),
    ],
)
def test_secrets_in_strings_and_comments_are_masked_as_in_sql(language: str, source: str, shown: str) -> None:
    assert redact_code(source, language) == shown
    assert code_secret_values(source, language) == {"hunter2"} or "me:hunter2" in source


@pytest.mark.parametrize(
    "language, source",
    [
        ("rust", ""),
        ("rust", "fn f(token: &str, api_key: String) -> Password { token.len() }"),
        ("python", "def f(token: str = None, *, auth: bool) -> Token: return token"),
        ("rust", 'fn upper<\'a>(name: &\'a str) -> String { name.replace("a", "b") }'),
        ("rust", 'let token = read();\nlog("done");'),
        ("rust", 'fn token() -> &str { log("done"); }'),
        ("python", "password = read()\nlog('done')"),
        ("python", "# its token\nlog('done')"),
    ],
)
def test_other_strings_are_shown(language: str, source: str) -> None:
    assert redact_code(source, language) == source


@pytest.mark.parametrize("language", ["rust", "python"])
@pytest.mark.parametrize("unit", ['"', "'", "\\", "r#", "/*", "#", "password=(", "token\n", '"""', "é\ud800"])
def test_text_that_is_not_source_code_takes_linear_time(language: str, unit: str) -> None:
    source = unit * (220_000 // len(unit))
    assert len(redact_code(source, language)) <= len(source) + 3


def test_environment_variables_are_secrets_if_they_are_long_or_their_names_say_so() -> None:
    variables = {
        "DB_PASSWORD": "hunter2",
        "REGION": "eu-west-1",
        "LEVEL": "debug",
        "SASL": "none",
        "PIN": "1234567",
    }
    assert body_secret_values({"query": "SELECT 1", "env_vars": variables}) == {"hunter2", "eu-west-1"}
    assert body_secret_values({"env_vars": None}) == set()
