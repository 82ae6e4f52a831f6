-- A stand-in for a stream of orders: Arroyo's own generator, ten rows a second, for ever.
CREATE TABLE orders WITH (
    connector = 'impulse',
    event_rate = '10'
);

-- Where the results go. This connector throws them away; yours may be a Kafka topic.
CREATE TABLE orders_per_minute (
    orders BIGINT
) WITH (
    connector = 'blackhole'
);

INSERT INTO orders_per_minute
SELECT count(*) FROM orders
GROUP BY tumble(interval '1 minute');
