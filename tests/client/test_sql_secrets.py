"""What is masked in SQL that is shown. The secret in the tests is ``hunter2``; everything else must be unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_arroyo.client.secret_names import is_secret_name
from airflow_provider_arroyo.client.sql_secrets import find_secrets, redact_sql, secret_values
from airflow_provider_arroyo.client.text_secrets import redact_values
from airflow_provider_arroyo.pipelines.sql_diffs import redacted_diff

OPTIONS = [
    "'auth.password' = 'hunter2'",
    "'AUTH.PassWord'='hunter2'",
    "\"auth.password\" = 'hunter2'",
    "`secret` = 'hunter2'",
    "secret = hunter2",
    "auth.token => 'hunter2'",
    "'sasl.jaas.config' = 'user=\"u\" password=\"hunter2\"'",
    "'confluent.key' = 'hunter2'",
    "apiKey = 'hunter2'",
    "'storage.aws.access_key_id' = 'hunter2'",
    "credentials = E'a\\'hunter2'",
    "token = 'it''s hunter2'",
    "token = $$hunter2$$",
    "token = $x$ hunter2 $x$",
    "password = 'a' || 'hunter2'",
    "password = concat('hunter2', 'b')",
    "'password' /* the ' one */ = -- that's it\n 'hunter2'",
    "'password' = 'hunter2\nof two lines'",
    "-- 'auth.password' = 'hunter2',\n 'x' = 'y'",
    "/* password: hunter2 */ 'x' = 'y'",
    "'client_configs' = 'security.protocol=SASL_SSL,sasl.password=hunter2,a=b'",
    "headers = 'Authorization: Bearer hunter2,X-Api-Key: hunter2'",
    "headers = 'X-Custom: hunter2'",
    "'http.headers' = 'Cookie: a=hunter2; b=hunter2'",
    'body = \'{"password": "hunter2", "a": 1}\'',
    "url = 'redis://u:hunter2@host:6379'",
    "endpoint = 'https://host/events?token=hunter2'",
    "endpoint = 'wss://host:8443/events?a=b&api_key=hunter2&c=d'",
    "endpoint = 'https://host/events?X-Amz-Signature=hunter2'",
    "endpoint = 'https://host/events?sp=r&sig=hunter2'",
    "endpoint = 'https://host/events#access_token=hunter2'",
    "endpoint = 'https://hooks.example.com/services/T0AB/hunter2And4More5678/x?a=b'",
    "address = 'redis://:a@hunter2@host:6379'",
    "servers = 'nats1:4222,u:hunter2@nats2:4222'",
    "servers = 'hunter2@nats:4222'",
    "'x' = 'y' -- https://host/events?token=hunter2\n",
    # Logins without a scheme or a port, and with characters that should have been escaped.
    "servers = 'u:hunter2@nats2'",
    "servers = 'nats1,u:hunter2@nats2.example.com,nats3'",
    "'topic' = 'u:hunter2@orders'",
    "topic = ':hunter2@orders'",
    "address = 'redis://u:pass/hunter2@host:6379'",
    "address = 'redis://u:hunter2/pass@host'",
    "'x' = 'y', -- connects as u:hunter2@db\n 'z' = 'a'",
    # Short tokens in paths.
    "endpoint = 'https://host/token/hunter2'",
    "endpoint = 'https://host/v1/api-key/hunter2/events'",
    "endpoint = 'wss://host/Secret/hunter2?a=b'",
    # Names beyond password and token.
    *(
        f"'{name}' = 'hunter2'"
        for name in ("auth", "basic_auth", "auth.bearer", "auth.pass", "sas", "azure.pat")
    ),
    *(
        f"{name} = 'hunter2'"
        for name in ("jaas", "psk", "creds", "keytab", "hmac", "salt", "otp", "oauth2", "sig")
    ),
    "'schema.registry.basic.auth.user.info' = 'hunter2'",
    # Recognised by its form, whatever its name, and in a comment after other words.
    "note = 'bearer hunter2zQ9'",
    "'x' = 'y' -- Basic hunter2zQ9==\n",
    "cert = '-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----'",
    "cert = '-----BEGIN PRIVATE KEY-----\\nhunter2'",
    "note = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.hunter2'",
    "note = 'ghp_hunter2hunter2hunter2'",
    "-- The password is hunter2!\n'x' = 'y'",
    "--password=hunter2 --user=a\n'x' = 'y'",
    "-- api key for orders_2: hunter2abc1\n'x' = 'y'",
    "/* passwd\n hunter2 */ 'x' = 'y'",
    # Options inside the options of a client.
    "options = 'a=b,sasl.password=one,hunter2,c=d'",
    'message = \'{"args": "{\\"token\\": \\"hunter2\\"}"}\'',
]

SHORT_TOKENS = ["Ab3xK9", "a1b2c3d4", "3f2a9c1b", "dQw4w9WgXcQ", "x-Ab3xK9qZ"]
NO_TOKENS = [
    "orders-of-2026",
    "v1beta1",
    "OrdersV2Api",
    "x86and64",
    "per_minute",
    "T0AB12CD3",
    "kafka3",
    "p95p99",
    "2026-11-28",
]
"""Parts of paths: random ones, and names."""

BROKEN = [
    "CREATE TABLE t WITH ('auth.password' = 'hunter2",
    "CREATE TABLE t WITH ('auth.password' = 'hunter2)",
    "CREATE TABLE t WITH 'auth.password' = 'hunter2'",
    "CREATE TABLE t WIHT ('auth.password' = 'hunter2')",
    "CREATE TABLE t WITH ('auth.password' 'hunter2')",
    "CREATE TABLE t WITH ('auth.password' : 'hunter2')",
    "CREATE TABLE t WITH ('topic' = 'it's', 'auth.password' = 'hunter2')",
    "CREATE TABLE t WITH ('topic' = 'it's', password = 'hunter2', 'b' = 'it's')",
    "CREATE TABLE t WITH ('topic' = 'a, 'auth.password' = 'hunter2', 'b' = 'c')",
    "CREATE TABLE t WITH ('auth.password' = 'hunter2' 'topic' = 'a'",
    "CREATE TABLE t WITH ('auth.password' = 'hunter2' \nINSERT INTO sink SELECT 1",
    "/* CREATE TABLE t WITH ('auth.password' = 'hunter2')",
    "auth.password = 'hunter2'",
    "SELECT 1; WITH ('auth.password' = 'hunter2')",
]

UNTOUCHED = [
    "CREATE TABLE t (id INT PRIMARY KEY, key TEXT METADATA FROM 'key') WITH ('topic' = 'keys', type = 'sink')",
    "CREATE TABLE t WITH (value.format = 'json', 'key.format' = 'raw', 'sink.key_field' = 'id', note = 'a token')",
    "CREATE TABLE t WITH ('target.key_prefix' = 'p:', primary_key = 'id', keyspace = 'k', 'auth.type' = 'none')",
    "CREATE TABLE t (n TEXT, is_root BOOLEAN AS (token = 'root') STORED) WITH (connector = 'impulse')",
    "SELECT * FROM a JOIN b ON a.key = b.key WHERE token = 'abc' AND value->>'token' = 'x' OR (key = 'y')",
    "WITH password AS (SELECT key FROM t) SELECT count(*) FILTER (WHERE secret = 'no') FROM password",
    "INSERT INTO sink SELECT key = 'x', token FROM t",
    "SELECT extract_json_string(value, '$.token') = 'x', 'https://example.com/@team' FROM t",
    "CREATE TABLE t WITH (endpoint = 'https://host/services/orders-of-2026/per_minute', path = 's3://b/d/a1-b2')",
    "SELECT 'https://host:80/', 'me@example.com', 'a:b', 'http://h/x' -- see https://host/all-of-the-documents\n",
    "CREATE TABLE t WITH (password = '')",
    "-- owner:me@example.com, mailto:me@example.com, me@example.com:\nSELECT 'to:me@example.com'",
    "SELECT 'registry/image:tag@sha256:abc', 'image:tag@sha256:abc', 'https://h:80/@x', 'https://[::1]/@x'",
    "CREATE TABLE t WITH (endpoint = 'https://h/keys/orders', path = 's3://b/token/a', url = 'https://h/key')",
    "CREATE TABLE t WITH (path = 'abfss://data@account.dfs.core.windows.net/orders')",
    "CREATE TABLE t WITH (topic = 'orders@eu', subject = 'a.b:c', servers = 'nats1:4222,nats2:4222')",
    # Statements about a secret, that there is none, and where Arroyo reads it from.
    "CREATE TABLE t WITH ('sasl.mechanism' = 'PLAIN', auth_type = 'none', 'auth.protocol' = 'SASL_SSL', b = 'm')",
    "CREATE TABLE t WITH (token_count = '3', max_tokens = '9', 'password.file' = '/pw', 'token.url' = 'https://h/a')",
    "CREATE TABLE t WITH (password = 'none', secret = '{{ SECRET }}', 'oauth' = 'true', 'sasl' = 'plain')",
    "SELECT token_count, author, password_changes, passes FROM t WHERE author = 'me' AND token = 'abc'",
    "SELECT json_object('token': token), decrypt(key => key) FROM t WHERE url LIKE '%key=%' OR note = 'key: value'",
    "-- The key is the id. Passwords are kept elsewhere; the token bucket has 1000. TODO:ask@team at 10:30@berlin\n",
    "-- key: a note; secret santa 2026; password resets per minute; basic authentication\nSELECT 1",
    "",
]

COMPARED = [
    "SELECT * FROM t WHERE password = 'hunter2' AND a = 'b'",
    "SELECT * FROM t WHERE a = 'b' AND (t.api_key = 'hunter2')",
    "SELECT decrypt(a, key => 'hunter2'), 'b'",
]


@pytest.mark.parametrize("sql", COMPARED)
def test_a_password_in_an_expression_is_masked(sql: str) -> None:
    assert redact_sql(sql) == sql.replace("hunter2", "***")


@pytest.mark.parametrize(
    "words",
    [
        "SASL: handshake failed: no mechanism",
        "Invalid token: expected `;`, found `,`",
        "missing key: customer_reference_id_2",
        "auth: Authentication failed for user orders",
        "Expected: ), found: key at Line: 3, Column: 5",
        "basic authentication failed; unknown token orders_2026",
    ],
)
def test_server_messages_stay_readable(words: str) -> None:
    assert redact_echo(words, "SELECT 1") == words


@pytest.mark.parametrize("option", OPTIONS)
def test_values_of_secret_options_are_masked(option: str) -> None:
    sql = f"CREATE TABLE t (a INT) WITH (connector = 'kafka', {option}, 'topic' = 'orders');\nSELECT 'end'"
    shown = redact_sql(sql)
    assert "hunter2" not in shown
    assert "***" in shown
    assert shown.startswith("CREATE TABLE t (a INT) WITH (connector = 'kafka', ")
    assert shown.endswith(", 'topic' = 'orders');\nSELECT 'end'")


@pytest.mark.parametrize(
    "part, is_token", [*((p, True) for p in SHORT_TOKENS), *((p, False) for p in NO_TOKENS)]
)
def test_short_tokens_in_the_paths_of_addresses(part: str, is_token: bool) -> None:
    shown = redact_sql(f"CREATE TABLE t WITH (endpoint = 'https://host/hooks/{part}/in?a=b')")
    assert (part not in shown) is is_token
    assert shown.endswith("/in?a=b')")


@pytest.mark.parametrize("sql", BROKEN)
def test_values_are_masked_in_broken_sql(sql: str) -> None:
    assert "hunter2" not in redact_sql(sql)
    assert "password" in redact_sql(sql)


@pytest.mark.parametrize("sql", UNTOUCHED)
def test_everything_else_is_unchanged(sql: str) -> None:
    assert redact_sql(sql) == sql
    assert find_secrets(sql) == ()


@pytest.mark.parametrize(
    "name, is_secret",
    [
        *((name, True) for name in ("key", "api-key", "accessKey", "nkey_seed", "auth.secret", "sasl.username")),
        *((name, True) for name in ("ssl.key.password", "aws_session_token", "Credentials", "keys")),
        *((name, True) for name in ("auth", "AWS.SAS", "x-bearer", "privateKey", "user_info", "basicAuth")),
        *((name, False) for name in ("key.format", "partition_keys", "keyspace", "monkey", "topic", "tokenizer")),
        *((name, False) for name in ("tokenCount", "auth_type", "author", "password_changes", "sasl.mechanism")),
        *((name, False) for name in ("max.tokens", "ssl.key.location", "pattern", "passes", "compass", "signal")),
    ],
)  # fmt: skip
def test_names_that_suggest_secrets(name: str, is_secret: bool) -> None:
    assert is_secret_name(name) is is_secret


@given(st.text(alphabet="pasword=key'\"`$()-/*;,: \n\\eE{}@", max_size=60))
def test_secrets_are_parts_of_the_text_and_do_not_overlap(sql: str) -> None:
    at = 0
    for secret in find_secrets(sql):
        assert at <= secret.start < secret.end <= len(sql)
        at = secret.end
    redact_sql(sql)


@pytest.mark.parametrize(
    "piece",
    [
        *("'", "a", "key = ", "$", "/*", "e'\\", 'key\\"', "://", "-", "password='x' (", "?a=b", "?token="),
        *("a:b@", "://x:", "://:", "a:", "=a:b", "-----BEGIN PRIVATE KEY-----", "Bearer a", "eyJaaaaa."),
        *("--password is ", "password for ", "a='b=", "a=\"b='", "password=a,", "sk-", "eyJ-"),
    ],
)
def test_large_sql_takes_linear_time(piece: str) -> None:
    """Quadratic work would take minutes here."""
    redact_sql(piece * (100_000 // len(piece)))


# -- echoes of a server, and differences -------------------------------------------------------------------------

SQL = "CREATE TABLE t WITH (\n  topic = 'a',\n  password = 'hunter2',\n  type = 'sink'\n)"


def redact_echo(text: str, sql: str) -> str:
    return redact_values(text, secret_values(sql))


def test_server_messages_are_shown_without_the_secrets_of_the_sql() -> None:
    words = "Expected: ), found: hunter2 in password = 'other' at Line: 3; hunter22 is no word of it"
    assert redact_echo(words, SQL) == (
        "Expected: ), found: *** in password = '***' at Line: 3; hunter22 is no word of it"
    )


@pytest.mark.parametrize(
    "spelling",
    [
        "p@ss wörd/9",
        "p%40ss%20w%C3%B6rd%2F9",
        "p%40ss%20w%C3%B6rd/9",
        "p%40ss+w%C3%B6rd%2F9",
        '{"said": "p@ss w\\u00f6rd/9"}',
        "cEBzcyB3w7ZyZC85",
    ],
)
@pytest.mark.parametrize("value", ["'{}'", "$${}$$", "$a${}$a$"])
def test_echoes_are_masked_in_any_spelling(value: str, spelling: str) -> None:
    sql = f"CREATE TABLE t WITH (password = {value.format('p@ss wörd/9')})"
    shown = redact_echo(f"cannot use {spelling} here", sql)
    assert "***" in shown
    assert not any(part in shown for part in ("ss", "rd", "C85"))


def test_rust_debug_output_is_shown_without_secrets() -> None:
    words = 'Config { user: Some("u"), token: Some("hunter2"), password: "hunter2", key: None }'
    assert redact_echo(words, "") == 'Config { user: Some("u"), token: ***), password: "***", key: None }'


def test_common_words_are_not_masked_in_echoes() -> None:
    sql = (
        "CREATE TABLE t WITH ('sasl.username' = 'orders', token = 'abc', url = 'https://me:pass1word@h', "
        "headers = 'Content-Type: application/json,X-Id: a1b2c3d4')"
    )
    assert "'sasl.username' = '***'" in redact_sql(sql)
    words = "orders by me at Line: 1: application/json"
    assert redact_echo(words, sql) == words
    assert redact_echo("pass1word or a1b2c3d4", sql) == "*** or ***"


@pytest.mark.parametrize("end", ["'\"", "'", ""])
def test_a_quoted_text_is_shown_without_its_secrets(end: str) -> None:
    shown = redact_echo(repr("\"topic = 'a', 'auth.password' = 'hunter2" + end), "")
    assert "hunter2" not in shown
    assert "topic" in shown


@pytest.mark.parametrize(
    "old, new, lines",
    [
        ("", "", []),
        ("hunter2", "other", ["-   password = '***',", "+   password = '*** (changed)',"]),
        ("'a'", "'b'", ["-   topic = 'a',", "+   topic = 'b',"]),
        ("  password = 'hunter2',\n", "", ["-   password = '***',"]),
        ("password = 'hunter2'", "token = 'x', password = 'hunter2'",
         ["-   password = '***',", "+   token = '***', password = '***',"]),
        ("password = 'hunter2',\n", "password = 'x', --\n",
         ["-   password = '***',", "+   password = '*** (changed)', --"]),
    ],
)  # fmt: skip
def test_differences(old: str, new: str, lines: list[str]) -> None:
    changed = SQL.replace(old, new) if old else SQL
    assert [line for line in redacted_diff(SQL, changed) if line[0] != " "] == lines
    assert len(redacted_diff(SQL, changed, context_lines=0)) == len(lines)


def test_a_mask_in_the_sql_itself_does_not_hide_a_change() -> None:
    sql = "WITH (topic = '***', password = 'hunter2')"
    shown = redacted_diff(sql, sql.replace("hunter2", "other"))
    assert shown[0] == "- WITH (topic = '***', password = '***')"
    assert "password = '*** (changed)'" in shown[1]
