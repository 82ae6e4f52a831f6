-- A source that cannot be opened, as after a typo in a topic or a path.
CREATE TABLE orders (
    id BIGINT
) WITH (
    connector = 'single_file',
    path = '/nonexistent/orders.json',
    format = 'json',
    type = 'source'
);

CREATE TABLE orders_per_minute (
    id BIGINT
) WITH (
    connector = 'blackhole'
);

INSERT INTO orders_per_minute
SELECT id FROM orders;
