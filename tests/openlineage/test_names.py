"""Names of datasets: one row for each way in which a connector states where its data is."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_arroyo.openlineage.names import dataset_name, options_of_config

KAFKA = {"bootstrap_servers": "Broker-1:9092,broker-2:9093", "topic": "Orders"}
SLACK = "https://hooks.slack.com/services/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"

NAMES = [
    ("kafka", KAFKA, "kafka://broker-1:9092", "Orders"),
    ("kafka", KAFKA | {"bootstrap_servers": "SASL_SSL://user:pw@b:1"}, "kafka://b:1", "Orders"),
    ("kafka", KAFKA | {"bootstrap_servers": "b"}, "kafka://b:9092", "Orders"),
    ("kafka", KAFKA | {"bootstrap_servers": "[::1]:9092"}, "kafka://[::1]:9092", "Orders"),
    ("confluent", KAFKA | {"key": "k", "secret": "s"}, "kafka://broker-1:9092", "Orders"),
    (
        "kinesis",
        {"stream_name": "s", "aws_region": "eu-central-1"},
        "kinesis://kinesis.eu-central-1.amazonaws.com",
        "s",
    ),
    (
        "kinesis",
        {"stream_name": "s", "aws_region": "cn-north-1"},
        "kinesis://kinesis.cn-north-1.amazonaws.com.cn",
        "s",
    ),
    ("kinesis", {"stream_name": "s"}, "kinesis://", "s"),
    ("redis", {"address": "redis://user:pw@r:6380/2", "target.key_prefix": "o."}, "redis://r:6380", "2/o."),
    ("redis", {"address": "HTTPS://u:pw@r/2/pw?pw"}, "redis://r:6379", "2"),
    ("redis", {"address": "u:pw@r:1/pw"}, "redis://r:1", "0"),
    ("redis", {"address": "rediss://r"}, "redis://r:6379", "0"),
    ("redis", {"cluster.addresses": "redis://:pw@a:1,redis://b:2"}, "redis://a:1", "0"),
    ("nats", {"servers": "nats://u:pw@n:4222,n2", "subject": "orders.*"}, "nats://n:4222", "orders.*"),
    ("nats", {"servers": "n", "stream": "ORDERS"}, "nats://n:4222", "ORDERS"),
    ("mqtt", {"url": "mqtts://u:pw@m", "topic": "a/b"}, "mqtt://m:8883", "a/b"),
    ("mqtt", {"url": "tcp://m:1884", "topic": "a/b"}, "mqtt://m:1884", "a/b"),
    ("rabbitmq", {"stream": "s", "password": "pw"}, "rabbitmq://localhost:5552", "s"),
    ("rabbitmq", {"stream": "s", "host": "r", "port": "1"}, "rabbitmq://r:1", "s"),
    ("fluvio", {"endpoint": "f:9003", "topic": "t"}, "fluvio://f:9003", "t"),
    ("kafka", {"bootstrap_servers": "u:pw@k", "topic": "u:hunter2@orders"}, "kafka://k:9092", "***@orders"),
    (
        "nats",
        {"servers": "u:pw@n", "subject": "mqtt://u:hunter2@h/orders"},
        "nats://n:4222",
        "mqtt://***@h/orders",
    ),
    ("kafka", {"bootstrap_servers": "k", "topic": "orders@eu"}, "kafka://k:9092", "orders@eu"),
    ("webhook", {"endpoint": "https://h/token/s3cret/Ab3xK9"}, "https://h", "/token/***/***"),
    ("sse", {"endpoint": "https://u:pw@h.example/events?token=t#f"}, "https://h.example", "/events"),
    ("websocket", {"endpoint": "wss://h:8443/a/b/"}, "wss://h:8443", "/a/b"),
    ("polling_http", {"endpoint": "http://h"}, "http://h", "/"),
    ("polling_http", {"endpoint": "http://h/a;jsessionid=1/key=s3cret"}, "http://h", "/a/key=***"),
    ("webhook", {"endpoint": SLACK}, "https://hooks.slack.com", "/services/T0AB12CD3/B0AB12CD3/***"),
    ("webhook", {"endpoint": "https://h/9f1b0d7e-1c2d-4e3f-8a9b-0c1d2e3f4a5b"}, "https://h", "/***"),
    ("webhook", {"endpoint": "https://h/orders-by-region-2026-v2"}, "https://h", "/orders-by-region-2026-v2"),
    ("filesystem", {"path": "s3://b/out/orders/"}, "s3://b", "out/orders"),
    ("filesystem", {"path": "S3a://b"}, "s3://b", "/"),
    ("filesystem", {"path": "https://s3.us-west-2.amazonaws.com/b/k"}, "s3://b", "k"),
    ("filesystem", {"path": "https://b.s3.us-west-2.amazonaws.com/k/l"}, "s3://b", "k/l"),
    ("filesystem", {"path": "s3::http://key:pw@minio:9000/b/k"}, "s3://b", "k"),
    ("filesystem", {"path": "s3://b/k?X-Amz-Signature=s"}, "s3://b", "k"),
    ("filesystem", {"path": "s3://b/day=1/token=pw/k"}, "s3://b", "day=1/token=***/k"),
    ("filesystem", {"path": "r2://account@b/k"}, "r2://b", "k"),
    ("filesystem", {"path": "https://account.eu.r2.cloudflarestorage.com/b/k"}, "r2://b", "k"),
    ("filesystem", {"path": "https://my-b.account.r2.cloudflarestorage.com/k"}, "r2://my-b", "k"),
    ("filesystem", {"path": "gs://b/k"}, "gs://b", "k"),
    ("filesystem", {"path": "https://storage.googleapis.com/b/k"}, "gs://b", "k"),
    ("filesystem", {"path": "https://b.storage.googleapis.com/k"}, "gs://b", "k"),
    ("filesystem", {"path": "abfs://c@a.dfs.core.windows.net/k"}, "abfss://c@a.dfs.core.windows.net", "k"),
    ("filesystem", {"path": "https://a.blob.core.windows.net/c/k"}, "abfss://c@a.dfs.core.windows.net", "k"),
    ("filesystem", {"path": "file:///data/out/"}, "file", "/data/out"),
    ("filesystem", {"path": "file:/data"}, "file", "/data"),
    ("single_file", {"path": "/data/in.json"}, "file", "/data/in.json"),
    ("delta", {"path": "s3://lake/orders"}, "s3://lake", "orders"),
    (
        "iceberg",
        {
            "catalog.rest.url": "https://u:pw@c.example/api/catalog?token=t",
            "namespace": "shop",
            "table_name": "o",
        },
        "https://c.example/api/catalog",
        "shop.o",
    ),
    ("iceberg", {"catalog.rest.url": "http://c:8181", "table_name": "o"}, "http://c:8181", "default.o"),
]


@pytest.mark.parametrize("connector, options, namespace, name", NAMES)
def test_names_of_each_connector(connector: str, options: dict[str, str], namespace: str, name: str) -> None:
    assert dataset_name(connector, options) == (namespace, name)


@pytest.mark.parametrize(
    "connector, options",
    [
        *((one, {}) for one in ("impulse", "nexmark", "blackhole", "stdout", "preview", "new_in_0_17", "")),
        *(
            (one, {})
            for one in ("kafka", "kinesis", "redis", "nats", "mqtt", "rabbitmq", "filesystem", "iceberg")
        ),
        # Variables of Arroyo's environment.
        ("kafka", KAFKA | {"bootstrap_servers": "{{ BROKERS }}"}),
        ("kafka", KAFKA | {"topic": "{{ TOPIC }}"}),
        ("webhook", {"endpoint": "{{ HOOK }}"}),
        ("webhook", {"endpoint": "https://h/{{ TOKEN }}"}),
        ("filesystem", {"path": "{{ BUCKET }}/orders"}),
        # Invalid addresses, and a login that was not escaped.
        ("kafka", KAFKA | {"bootstrap_servers": " "}),
        ("kafka", KAFKA | {"bootstrap_servers": "b:not_a_port"}),
        ("webhook", {"endpoint": "h/a"}),
        ("webhook", {"endpoint": "h:80/a"}),
        ("webhook", {"endpoint": "https://pass/word@h/a"}),
        ("redis", {"address": "redis://:pa/ss@r:1"}),
        ("filesystem", {"path": "s3://key:pa/ss@b/k"}),
        ("filesystem", {"path": "relative/path"}),
        ("filesystem", {"path": "file://user:pw@h/a"}),
        ("filesystem", {"path": "//user:pw@h/a"}),
        ("webhook", {"endpoint": "h:1,https://user:pw@h/a"}),
        ("filesystem", {"path": "ftp://h/a"}),
        ("rabbitmq", {"stream": "s", "port": "many"}),
        ("iceberg", {"catalog.rest.url": "c:8181", "table_name": "o"}),
    ],
)
def test_options_without_an_address_have_no_dataset_name(connector: str, options: dict[str, str]) -> None:
    assert dataset_name(connector, options) is None


@pytest.mark.parametrize(
    "connector, profile, table, namespace, name",
    [
        ("kafka", {"bootstrapServers": "b:1", "authentication": {"password": "pw"}},
         {"topic": "t", "type": {"offset": "earliest"}}, "kafka://b:1", "t"),
        ("redis", {"connection": {"address": "redis://r:1"}, "password": "pw"},
         {"connectorType": {"target": {"keyPrefix": "o.", "ttlSecs": 1}}}, "redis://r:1", "0/o."),
        ("redis", {"connection": {"addresses": ["redis://a:1", "redis://b:2"]}},
         {"connectorType": {"lookup": {}}}, "redis://a:1", "0"),
        ("nats", {"servers": "n", "authentication": {}},
         {"connectorType": {"sourceType": {"subject": "s"}}}, "nats://n:4222", "s"),
        ("kinesis", {}, {"stream_name": "s", "aws_region": "eu-west-1", "type": {"offset": "latest"}},
         "kinesis://kinesis.eu-west-1.amazonaws.com", "s"),
        ("filesystem", {}, {"table_type": {"type": "sink", "path": "gs://b/k"}}, "gs://b", "k"),
        ("webhook", {}, {"endpoint": "https://h/a", "headers": "Authorization: Bearer t"}, "https://h", "/a"),
        ("iceberg", {"catalog": {"type": "rest", "url": "http://c", "token": "t"}},
         {"type": "sink", "namespace": "shop", "table_name": "o"}, "http://c", "shop.o"),
    ],
)  # fmt: skip
def test_names_of_connection_tables(
    connector: str, profile: dict[str, Any], table: dict[str, Any], namespace: str, name: str
) -> None:
    options = {**options_of_config(profile), **options_of_config(table)}
    assert dataset_name(connector, options) == (namespace, name)
