-- This source stands for a stream of orders. Arroyo's own generator makes ten rows per second, without end.
CREATE TABLE orders WITH (
    connector = 'impulse',
    event_rate = '10'
);

-- The sink. This connector discards the results; yours may be a Kafka topic.
CREATE TABLE orders_per_minute (
    orders BIGINT
) WITH (
    connector = 'blackhole'
);

INSERT INTO orders_per_minute
SELECT count(*) FROM orders
GROUP BY tumble(interval '1 minute');
