-- The callers to call back, with what is known of their missed calls (see analytics/missed_calls.py).
, spoken AS (
    SELECT customer, max(spoken_us) AS until_us FROM calls WHERE spoken_us IS NOT NULL GROUP BY customer
), waiting AS (
    SELECT calls.customer, calls.call_id, calls.missed_us FROM calls
    LEFT JOIN spoken ON spoken.customer = calls.customer
    WHERE calls.missed_leg IS NOT NULL AND calls.customer IS NOT NULL
        AND (spoken.until_us IS NULL OR calls.missed_us > spoken.until_us)
), missed AS (
    SELECT caller, missed_call, missed_us, ring, status, queue, department_label,
        row_number() OVER (PARTITION BY caller ORDER BY {backwards}) AS place,
        row_number() OVER (PARTITION BY caller, CASE WHEN queue IS NULL THEN 1 ELSE 0 END ORDER BY {backwards})
            AS queue_place,
        row_number() OVER (PARTITION BY caller, CASE WHEN department_label IS NULL THEN 1 ELSE 0 END
            ORDER BY {backwards}) AS department_place
    FROM (
        SELECT waiting.customer AS caller, waiting.call_id AS missed_call, waiting.missed_us, leg.*
        FROM waiting JOIN leg ON leg.call_id = waiting.call_id AND leg.is_missed = 1
    ) AS missed_leg
)
SELECT caller AS customer_number, count(DISTINCT missed_call) AS attempts, min(missed_us) AS first_attempt_us,
    max(missed_us) AS last_attempt_us, sum(coalesce(ring, 0)) AS waiting_seconds,
    max(CASE WHEN place = 1 THEN status END) AS dial_status,
    max(CASE WHEN queue_place = 1 THEN queue END) AS queue,
    max(CASE WHEN department_place = 1 THEN department_label END) AS department
FROM missed GROUP BY caller
