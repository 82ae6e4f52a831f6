-- The number of orders, once a minute.
-- arroyo:
--   parallelism: 2
--   checkpoint_interval: 1
--   tags: {team: shop}
CREATE TABLE orders WITH (
    connector = 'impulse',
    event_rate = '10'
);

CREATE TABLE orders_per_minute (
    orders BIGINT
) WITH (
    connector = 'blackhole'
);

INSERT INTO orders_per_minute
SELECT count(*) FROM orders
GROUP BY tumble(interval '1 minute');
