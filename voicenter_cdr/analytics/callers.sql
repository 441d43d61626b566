-- What happened to each caller: missed, called, answered, talked with (see analytics/callers.py).
last AS (
    SELECT {until} AS until_us
),
history AS {once} (
    SELECT customer, missed_us AS at_us, 0 AS what, missed_leg AS leg_id, CAST(0 AS BIGINT) AS ref_us
    FROM calls WHERE customer IS NOT NULL AND missed_leg IS NOT NULL
    UNION ALL SELECT customer, first_us, 3, first_leg, CAST(0 AS BIGINT)
    FROM calls WHERE customer IS NOT NULL AND direction = 'outbound' AND kind IN ({by_hand}) AND (tags & {counted}) <> 0
    UNION ALL SELECT customer, spoken_us, CASE WHEN direction = 'outbound' AND kind IN ({by_hand}) THEN 5 ELSE 4 END, CAST(NULL AS BIGINT), answer_us
    FROM calls WHERE customer IS NOT NULL AND spoken_us IS NOT NULL
),
counted AS (
    SELECT *, coalesce(sum(CASE WHEN what >= 4 THEN 1 ELSE 0 END) OVER (PARTITION BY customer ORDER BY at_us, what, ref_us
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS episode
    FROM history WHERE customer IN (SELECT customer FROM calls WHERE customer IS NOT NULL AND missed_leg IS NOT NULL)
),
twin AS {once} (
    SELECT customer AS caller, missed_us FROM calls WHERE customer IS NOT NULL AND missed_leg IS NOT NULL
    GROUP BY customer, missed_us HAVING count(*) > 1
),
later_twin AS {once} (
    SELECT leg_id FROM (
        SELECT leg_id, row_number() OVER (PARTITION BY caller, start_us ORDER BY {twins}) AS place FROM (
            SELECT twin.caller, leg.* FROM twin
            JOIN calls ON calls.customer = twin.caller AND calls.missed_us = twin.missed_us
            JOIN leg ON leg.leg_id = calls.missed_leg
        ) AS twins
    ) AS placed_twins WHERE place > 1
),
placed AS (
    SELECT *,
        min(CASE WHEN what = 0 THEN at_us END) OVER (PARTITION BY customer, episode) AS since_us
    FROM counted
),
episode AS {once} (
    SELECT customer, episode, min(since_us) AS since_us,
        min(CASE WHEN what = 0 AND at_us = since_us AND leg_id NOT IN (SELECT leg_id FROM later_twin) THEN leg_id END)
            AS leg_id,
        sum(CASE WHEN what = 0 THEN 1 ELSE 0 END) AS attempts,
        min(CASE WHEN what = 3 AND at_us >= since_us THEN at_us END) AS tried_us,
        min(CASE WHEN what = 4 THEN at_us END) AS talked_us,
        min(CASE WHEN what = 5 THEN CASE WHEN ref_us > since_us THEN ref_us ELSE since_us END END) AS returned_us
    FROM placed WHERE since_us IS NOT NULL GROUP BY customer, episode
),
delay AS (
    SELECT customer, leg_id, since_us,
        CASE WHEN returned_us - since_us <= {horizon} THEN returned_us - since_us END AS returned,
        CASE WHEN coalesce(tried_us, CASE WHEN returned_us - since_us <= {horizon} THEN returned_us END) - since_us <= {horizon}
            THEN coalesce(tried_us, CASE WHEN returned_us - since_us <= {horizon} THEN returned_us END) - since_us END AS tried
    FROM episode CROSS JOIN last
    WHERE since_us + {horizon} <= until_us AND coalesce(talked_us - since_us > {horizon}, TRUE)
),
clocked AS {once} (
    SELECT delay.*, since_us {div} 1000000 AS since_s, (since_us + tried) {div} 1000000 AS tried_s,
        (since_us + returned) {div} 1000000 AS returned_s
    FROM delay
),
due AS {once} (
    SELECT customer, leg_id, returned, tried, {due}
        + CASE WHEN tried <= 3600000000 THEN {tried_1h} ELSE 0 END
        + CASE WHEN tried <= 10800000000 THEN {tried_3h} ELSE 0 END
        + CASE WHEN {tried_day} = {since_day} THEN {tried_same_day} ELSE 0 END
        + CASE WHEN returned <= 3600000000 THEN {returned_1h} ELSE 0 END
        + CASE WHEN returned <= 10800000000 THEN {returned_3h} ELSE 0 END
        + CASE WHEN {returned_day} = {since_day} THEN {returned_same_day} ELSE 0 END AS tags
    FROM clocked
),
followed AS {once} (
    SELECT customer, last_answer_leg AS leg_id, first_us, is_answer, min(first_us) OVER (PARTITION BY customer
        ORDER BY first_us RANGE BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS next_us
    FROM (
        SELECT customer, last_answer_leg, first_us, CASE WHEN outcome = 'answered' THEN 1 ELSE 0 END AS is_answer
        FROM calls WHERE customer IS NOT NULL AND direction = 'inbound' AND (tags & {counted}) <> 0
    ) AS own_calls
),
resolution AS {once} (
    SELECT customer, leg_id, CASE WHEN next_us <= first_us + {soon} THEN {repeated} ELSE 0 END AS tags
    FROM followed CROSS JOIN last WHERE is_answer = 1 AND first_us <= until_us - {soon}
)
