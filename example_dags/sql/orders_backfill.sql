-- This source stands for a table of old orders: fifty rows per second. After the last row, the pipeline is Finished.
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
