"""The names of datasets in OpenLineage, derived from a table's connector and options.

Source of the rules: OpenLineage's naming conventions for Kafka, S3, GCS, ABFSS and files. For other connectors,
the address of the service is the namespace, as in OpenLineage's Spark integration for Kinesis and Iceberg's catalogs.
Source of the options: Arroyo's connectors (0.15 and 0.16).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from airflow_provider_arroyo.client.secret_names import MASK, is_secret_name, redact_path
from airflow_provider_arroyo.client.text_secrets import redact_logins

Options = Mapping[str, str]


class DatasetName(NamedTuple):
    """The name of a dataset in OpenLineage."""

    namespace: str
    name: str


def dataset_name(connector: str, options: Options) -> DatasetName | None:
    """Return the name of the dataset that a table reads or writes.

    :param connector: the connector.
    :param options: its options in SQL, or the result of :func:`options_of_config`.
    :returns: None for a connector without data outside of Arroyo, such as ``impulse``, for an unknown connector, and
        if the name is not known here: it is missing, or one of Arroyo's variables. Never contains a login or the
        query of an address.
    """
    rule = _RULES.get(connector.lower())
    if rule is None:
        return None
    try:
        found = rule(_Given(options))
    except (_UnknownError, ValueError):  # the latter: not an address
        return None
    return None if "{{" in found.namespace + found.name else found._replace(name=redact_logins(found.name))


def options_of_config(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the configuration of a connection table or profile, with the names of its options in SQL.

    :param config: as Arroyo's API sends it: nested, in camel case.
    """
    found: dict[str, str] = {}
    pending = [config]
    while pending:
        one = pending.pop(0)
        for key, value in one.items():
            if isinstance(value, Mapping):
                pending.append(value)
            elif isinstance(value, list | tuple):
                found.setdefault(_snake_case(key), ",".join(map(str, value)))
            elif value is not None:
                found.setdefault(_snake_case(key), str(value))
    return found


class _UnknownError(Exception):
    """The name of a dataset is not known here."""


class _Given:
    """The options, by name or by the last part of it: a configuration has ``addresses`` for ``cluster.addresses``."""

    def __init__(self, options: Options) -> None:
        self._options = {name.rpartition(".")[2]: value for name, value in options.items()} | dict(options)

    def get(self, *names: str) -> str | None:
        """Return the first of these options that is set."""
        return next(
            (self._options[name].strip() for name in names if self._options.get(name, "").strip()), None
        )

    def required(self, *names: str) -> str:
        """Return the first of these options that is set; one of them is needed for the dataset's name."""
        return _known(self.get(*names))


def _known(value: str | None) -> str:
    if not value:
        raise _UnknownError
    return value


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


# -- addresses -----------------------------------------------------------------------------------------------------


def _server(addresses: str, port: int | None) -> str:
    """Return host and port of the first of some addresses, without scheme, login, path and query."""
    # Python does not recognize Kafka's schemes, such as SASL_SSL.
    parts = urlsplit("//" + re.sub(r"^\w+://", "", addresses.split(",")[0].strip()))
    if not parts.hostname or "@" in parts.path:  # the latter: a login that was not escaped
        raise _UnknownError
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port or port
    return f"{host}:{port}" if port else host


def _origin(address: str) -> str:
    """Return scheme, host and port of an address."""
    scheme = re.match(r"([a-z][a-z\d+.-]*)://", address.lower())
    return f"{_known(scheme and scheme[1])}://{_server(address, None)}"


def _without_secrets(path: str) -> str:
    """Return the path of an address; segments that look like secrets, as in Slack's webhooks, are masked."""
    parts = (part.partition(";")[0] for part in _without_secret_pairs(path).strip("/").split("/"))
    return redact_path("/".join(parts))


def _without_secret_pairs(path: str) -> str:
    """Return a path with the values of parts such as ``token=…`` masked."""
    return re.sub(
        r"([^/=]+)=([^/]*)", lambda pair: f"{pair[1]}={MASK}" if is_secret_name(pair[1]) else pair[0], path
    )


# -- one rule for each kind of connector -----------------------------------------------------------------------------


def _service(scheme: str, port: int | None, server: tuple[str, ...], name: tuple[str, ...]) -> _Rule:
    """Return the rule for a service: its address, and the name of a stream, topic or the like."""

    def rule(given: _Given) -> DatasetName:
        return DatasetName(f"{scheme}://{_server(given.required(*server), port)}", given.required(*name))

    return rule


def _kinesis(given: _Given) -> DatasetName:
    stream, region = given.required("stream_name"), given.get("aws_region")
    # Without a region, the server's environment has it. OpenLineage's Spark integration also leaves it empty then.
    host = f"kinesis.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}" if region else ""
    return DatasetName(f"kinesis://{host}", stream)


def _mqtt(given: _Given) -> DatasetName:
    url = given.required("url")
    port = 8883 if url.startswith(("mqtts:", "ssl:")) else 1883
    return DatasetName(f"mqtt://{_server(url, port)}", given.required("topic"))


def _rabbitmq(given: _Given) -> DatasetName:
    host, port = given.get("host") or "localhost", int(given.get("port") or 5552)
    return DatasetName(f"rabbitmq://{_server(host, port)}", given.required("stream"))


def _redis(given: _Given) -> DatasetName:
    address = given.required("address", "addresses")
    path = re.match(r"\w+://[^/]*/(\d+)", address)
    database = path[1] if path else "0"
    prefix = given.get("key_prefix", "list_prefix", "hash_key_prefix")
    return DatasetName(f"redis://{_server(address, 6379)}", f"{database}/{prefix}" if prefix else database)


def _http(given: _Given) -> DatasetName:
    endpoint = given.required("endpoint")
    return DatasetName(_origin(endpoint), f"/{_without_secrets(urlsplit(endpoint).path)}")


def _iceberg(given: _Given) -> DatasetName:
    url = given.required("catalog.rest.url", "url")
    catalog = f"{_origin(url)}/{_without_secrets(urlsplit(url).path)}".rstrip("/")
    return DatasetName(catalog, f"{given.get('namespace') or 'default'}.{given.required('table_name')}")


_BUCKET = r"(?P<bucket>[a-z\d._-]+)"
_R2 = r"r2\.cloudflarestorage\.com"
# A login before the bucket, or the account of R2, is not part of the name.
_LOCATIONS = tuple(
    (re.compile(f"{pattern}(?:/(?P<key>.*))?", re.IGNORECASE), namespace)
    for pattern, namespace in (
        (rf"s3a?://(?:[^/]*@)?{_BUCKET}", "s3://{bucket}"),
        (rf"https://s3\.[\w-]+\.amazonaws\.com/{_BUCKET}", "s3://{bucket}"),
        (rf"https://{_BUCKET}\.s3\.[\w-]+\.amazonaws\.com", "s3://{bucket}"),
        # A store with S3's API at its own address.
        (rf"s3a?::https?://(?:[^/]*@)?[a-z\d.:_-]+/{_BUCKET}", "s3://{bucket}"),
        (rf"r2://(?:[^/]*@)?{_BUCKET}", "r2://{bucket}"),
        (rf"https://\w+(?:\.\w+)?\.{_R2}/{_BUCKET}", "r2://{bucket}"),
        (rf"https://(?P<bucket>[a-z\d_-]+)\.\w+(?:\.\w+)?\.{_R2}", "r2://{bucket}"),
        (rf"gs://(?:[^/]*@)?{_BUCKET}", "gs://{bucket}"),
        (rf"https://storage\.googleapis\.com/{_BUCKET}", "gs://{bucket}"),
        (rf"https://{_BUCKET}\.storage\.googleapis\.com", "gs://{bucket}"),
        (
            rf"abfss?://{_BUCKET}@(?P<account>\w+)\.dfs\.core\.windows\.net",
            "abfss://{bucket}@{account}.dfs.core.windows.net",
        ),
        (
            rf"https://(?P<account>\w+)\.(?:blob|dfs)\.core\.windows\.net/{_BUCKET}",
            "abfss://{bucket}@{account}.dfs.core.windows.net",
        ),
    )
)


def _files(given: _Given) -> DatasetName:
    """Return the name of a file or folder, in any of the spellings that Arroyo accepts."""
    path = given.required("path")
    local = re.fullmatch(r"(?:file:(?://)?)?(/(?!/).*)", path, re.IGNORECASE)
    if local:
        return DatasetName("file", "/" + _without_secret_pairs(local[1]).strip("/"))
    address = re.split(r"[?#]", path, maxsplit=1)[0]
    for pattern, namespace in _LOCATIONS:
        if found := pattern.fullmatch(address):
            key = _without_secret_pairs(found["key"] or "").strip("/") or "/"
            return DatasetName(namespace.format(**found.groupdict()).lower(), key)
    raise _UnknownError


_Rule = Callable[[_Given], DatasetName]
_KAFKA = _service("kafka", 9092, ("bootstrap_servers",), ("topic",))
_RULES: Mapping[str, _Rule] = {
    "kafka": _KAFKA,
    "confluent": _KAFKA,
    "kinesis": _kinesis,
    "redis": _redis,
    "nats": _service("nats", 4222, ("servers",), ("subject", "stream")),
    "mqtt": _mqtt,
    "rabbitmq": _rabbitmq,
    "fluvio": _service("fluvio", 9003, ("endpoint",), ("topic",)),
    **dict.fromkeys(("sse", "websocket", "polling_http", "webhook"), _http),
    **dict.fromkeys(("filesystem", "single_file", "delta"), _files),
    "iceberg": _iceberg,
}
