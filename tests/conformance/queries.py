"""The SQL of the recordings."""

from __future__ import annotations

IMPULSE = (
    "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '10');\n"
    "CREATE TABLE sink (n BIGINT UNSIGNED) WITH (connector = 'blackhole');\n"
    "INSERT INTO sink SELECT counter FROM impulse;"
)
WINDOW = (
    "CREATE TABLE impulse WITH (connector = 'impulse', event_rate = '1000');\n"
    "CREATE TABLE sink (c BIGINT) WITH (connector = 'blackhole');\n"
    "INSERT INTO sink SELECT count(*) FROM impulse GROUP BY hop(interval '2 seconds', interval '10 seconds');"
)
MISSING_FILE = (
    "CREATE TABLE src (value TEXT) WITH (connector = 'single_file', path = '/nonexistent/input.json', "
    "type = 'source', format = 'raw_string');\n"
    "CREATE TABLE sink (value TEXT) WITH (connector = 'blackhole');\n"
    "INSERT INTO sink SELECT value FROM src;"
)
PREVIEW = (
    "CREATE TABLE impulse WITH (connector='impulse', event_rate='10', message_count='60'); "
    "SELECT counter, counter * 2 AS d FROM impulse;"
)


def bounded(rate: int, count: int) -> str:
    """A pipeline that ends after that many rows."""
    return IMPULSE.replace("event_rate = '10'", f"event_rate = '{rate}', message_count = '{count}'")


_TWO = (
    "CREATE TABLE first WITH (connector = 'impulse', event_rate = '10', message_count = '1');\n"
    "CREATE TABLE second WITH (connector = 'impulse', event_rate = '10'{count});\n"
    "CREATE TABLE sink1 (n BIGINT UNSIGNED) WITH (connector = 'blackhole');\n"
    "CREATE TABLE sink2 (n BIGINT UNSIGNED) WITH (connector = 'blackhole');\n"
    "INSERT INTO sink1 SELECT counter FROM first;\n"
    "INSERT INTO sink2 SELECT counter FROM second;"
)
ONE_OF_TWO_ENDS = _TWO.format(count="")
ONE_ENDS_SOONER = _TWO.format(count=", message_count = '100'")
KAFKA = (
    "CREATE TABLE src (value TEXT) WITH (connector = 'kafka', type = 'source', topic = 'orders', "
    "bootstrap_servers = '127.0.0.1:1', format = 'raw_string');\n"
    "CREATE TABLE sink (value TEXT) WITH (connector = 'blackhole');\n"
    "INSERT INTO sink SELECT value FROM src;"
)
TUMBLING = (
    "CREATE TABLE stream WITH (connector='impulse', event_rate='50');\n"
    "CREATE TABLE sink (n BIGINT) WITH (connector='blackhole');\n"
    "INSERT INTO sink SELECT count(*) FROM stream GROUP BY tumble(interval '1 second');\n"
)
