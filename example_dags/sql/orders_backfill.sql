-- A stand-in for old orders: fifty rows a second until all are read. Then the pipeline is Finished.
CREATE TABLE old_orders WITH (
    connector = 'impulse',
    event_rate = '50',
    message_count = '{{ params.rows }}'
);

CREATE TABLE orders (
    id BIGINT UNSIGNED
) WITH (
    connector = 'blackhole'
);

INSERT INTO orders
SELECT counter FROM old_orders;
