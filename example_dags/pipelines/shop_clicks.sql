-- arroyo: {checkpoint_interval: 1}
CREATE TABLE clicks WITH (
    connector = 'impulse',
    event_rate = '20'
);

CREATE TABLE sampled_clicks (
    click BIGINT UNSIGNED
) WITH (
    connector = 'blackhole'
);

INSERT INTO sampled_clicks
SELECT counter FROM clicks
WHERE counter % 10 = 0;
