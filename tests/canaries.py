"""Secrets of every kind, all different, in the SQL of every connector. None of them may be shown anywhere."""

from __future__ import annotations

import itertools
import re
from typing import Any

from tests.support import ENDLESS

_PEM = "-----BEGIN {kind}PRIVATE KEY-----\n{one}AbCd\n{two}+/==\n-----END {kind}PRIVATE KEY-----"

OPTIONS: dict[str, tuple[str, ...]] = {
    "kafka": (
        "topic = 'orders', type = 'sink', format = 'json', bootstrap_servers = 'broker:9092'",
        "'auth.type' = 'sasl', 'auth.mechanism' = 'PLAIN', 'auth.username' = 'orders', 'auth.password' = '{}'",
        "'schema_registry.api_secret' = '{}', 'schema_registry.endpoint' = 'https://me:{}@registry.example.com/v1'",
        "client_configs = 'sasl.password={},part-of-{},client.id=a,sasl.oauthbearer.client.secret={}'",
        'client_configs2 = \'sasl.jaas.config=Login required username="u" password="{}";\'',
        f"'client_configs.cert' = '{_PEM.format(kind='', one='{}', two='{}')}'",
        f"'client_configs.ssl.pem' = E'{_PEM.format(kind='RSA ', one='{}', two='{}')}'",
        "'client_configs.basic.auth.user.info' = 'u:{}', 'client_configs.keytab' = '{}'",
    ),
    "confluent": (
        "topic = 'orders', type = 'sink', format = 'json', bootstrap_servers = 'b:9092', key = '{}', secret = '{}'",
    ),
    "redis": ("type = 'sink', format = 'json', address = 'redis://:{}@redis:6379', password = '{}'",),
    "mqtt": ("topic = 't', type = 'sink', format = 'json', url = 'tcp://u:{}@mqtt:1883', password = '{}'",),
    "nats": (
        "subject = 's', type = 'sink', format = 'json', servers = 'u:{}@nats1,nats2:4222', 'nats.creds' = '{}'",
        "'auth.token' = '{}', seed = 'SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY'",
    ),
    "rabbitmq": (
        "stream = 's', type = 'source', format = 'json', host = 'amqp://u:{}@rabbit/v', password = '{}'",
    ),
    "kinesis": (
        "stream_name = 's', type = 'sink', format = 'json', 'aws.access_key_id' = 'AKIAIOSFODNN7EXAMPLE'",
        "'aws.secret_access_key' = '{}', 'aws.session.token' = '{}', 'aws.pat' = '{}'",
    ),
    "fluvio": ("topic = 't', type = 'sink', format = 'json', endpoint = 'fluvio:9003', bearer = '{}'",),
    "filesystem": (
        "path = 's3://id:{}@bucket/p', type = 'sink', format = 'json', 'storage.azure_storage_sas' = '{}'",
        "'storage.azure_storage_account_key' = '{}', 'storage.apikey' = '{}', 'storage.signature' = '{}'",
    ),
    "delta": ("path = 'https://a.blob.core.windows.net/c?sv=1&sig={}', format = 'parquet', 'sas' = '{}'",),
    "iceberg": ("table_name = 't', 'catalog.rest.url' = 'https://c.example.com/{}', 'catalog.token' = '{}'",),
    "webhook": (
        "endpoint = 'https://hooks.example.com/services/T0/{}?access_token={}', format = 'json'",
        "headers = 'Authorization: Bearer {},X-Custom: {},X-Api-Key: {}'",
    ),
    "sse": (
        "endpoint = 'https://{}@events.example.com/s', events = 'a', format = 'json', headers = 'Cookie: a={}'",
    ),
    "websocket": (
        "endpoint = 'wss://w.example.com/token/{}', format = 'json'",
        'subscription_message = \'{{"op": "auth", "args": {{"apiKey": "{}", "auth": "{}"}}}}\'',
    ),
    "polling_http": (
        "endpoint = 'https://p.example.com/?api_key={}', format = 'json', body = 'grant=x&client_secret={}'",
    ),
    "single_file": ("path = '/tmp/token={}/passphrase={}', type = 'sink', format = 'json'",),
}
"""Options with secrets, by connector."""

COMMENTS = (
    "-- the password is {}",
    "-- pwd for kafka: {} (until May)",
    "/* token was\n   {} */",
    "-- Authorization: Bearer {}",
    "-- runs as u:{}@db, see https://me:{}@wiki.example.com/x?token={}",
    "-- eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.{}",
)
EXPRESSIONS = (
    "WHERE n > 0 AND api_password = '{}'",
    "AND note <> 'Basic {}'",
    "AND decrypt(key => '{}') = 'x'",
)
UDF = (
    '// the API key is {}\nuse arroyo_udf_plugin::udf;\nconst API_KEY: &str = "{}";\n#[udf]\n'
    'fn plus_one(x: i64) -> i64 {{ post("https://u:{}@host/x"); log("password={}"); x + 1 }}\n'
)
SETTINGS = {
    "authentication": {"username": "orders", "password": "{}", "jaas": "{}"},
    "headers": {"X-Custom": "{}"},
    "url": "https://me:{}@example.com",
}
VARIABLES = {"DB_PASSWORD": "{}", "DB_URL": "postgres://u:{}@db/x", "LEVEL": "info"}

_numbers = itertools.count(10)


def planted(text: str) -> str:
    """Return a text in which each ``{}`` is replaced by a new secret."""
    return re.sub(
        r"\{\}|\{\{|\}\}",
        lambda found: f"cNary{next(_numbers)}Zq7x" if found[0] == "{}" else found[0][0],
        text,
    )


def planted_in(value: Any) -> Any:
    """Return JSON values in which each ``{}`` is replaced by a new secret."""
    if isinstance(value, dict):
        return {name: planted_in(item) for name, item in value.items()}
    return planted(value) if isinstance(value, str) else value


def leaked(text: str) -> list[str]:
    """Return the secrets that a text contains."""
    known = r"cNary\d+Zq7x|AKIAIOSFODNN7EXAMPLE|SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
    return re.findall(known, text)


TABLES = {
    connector: planted(
        f"CREATE TABLE {connector}_t (n BIGINT) WITH (connector = '{connector}', {', '.join(options)});"
    )
    for connector, options in OPTIONS.items()
}
SQL = "\n".join([*map(planted, COMMENTS), *TABLES.values(), ENDLESS])
QUERY = planted(f"SELECT n FROM t {' '.join(EXPRESSIONS)};")
