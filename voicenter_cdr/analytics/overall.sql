-- Numbers that only the whole has; each table has one row.
,
repeats AS (
    SELECT CAST(sum(again) AS DOUBLE PRECISION) / nullif(count(*), 0) AS repeat_callers FROM (
        SELECT max(CASE WHEN tags > 0 THEN 1 ELSE 0 END) AS again FROM resolution GROUP BY customer) AS callers
),
returns AS (
    SELECT CAST(sum(waiting) AS DOUBLE PRECISION) / nullif(count(*), 0) AS unreturned_callers FROM (
        SELECT max(CASE WHEN talked_us IS NULL AND returned_us IS NULL THEN 1 ELSE 0 END) AS waiting FROM episode
        GROUP BY customer) AS callers
),
delays AS (
    SELECT CAST(avg(returned) AS DOUBLE PRECISION) / 1000000 AS time_to_callback,
        CAST(min(CASE WHEN place * 100 >= returns * 50 THEN returned END) AS DOUBLE PRECISION) / 1000000
            AS time_to_callback_p50,
        CAST(min(CASE WHEN tried_place * 100 >= tries * 50 THEN tried END) AS DOUBLE PRECISION) / 1000000
            AS time_to_attempt_p50
    FROM (
        SELECT returned, tried, count(returned) OVER () AS returns, count(tried) OVER () AS tries,
            row_number() OVER (ORDER BY CASE WHEN returned IS NULL THEN 1 ELSE 0 END, returned) AS place,
            row_number() OVER (ORDER BY CASE WHEN tried IS NULL THEN 1 ELSE 0 END, tried) AS tried_place
        FROM due
    ) AS ranked_delays
),
peak AS (
    SELECT coalesce(max(lines), 0) AS peak_concurrency FROM (
        SELECT sum(change) OVER (ORDER BY moment, change ROWS UNBOUNDED PRECEDING) AS lines FROM (
            SELECT start_us AS moment, 1 AS change FROM base WHERE coalesce(ring, 0) + coalesce(duration, 0) > 0
            UNION ALL
            SELECT start_us + (coalesce(ring, 0) + coalesce(duration, 0)) * 1000000, -1 FROM base
            WHERE coalesce(ring, 0) + coalesce(duration, 0) > 0
        ) AS changes
    ) AS busy
)
