-- The numbers of the views, written by hand for one table cdr, without a thought of this package's views.
-- A person knows the data: few calls have several legs, an original call is a tree, and the zone is Israel's.
leg AS {once} (
    SELECT *, {zone} AS ahead FROM (
        SELECT row_number() OVER () AS n, cdr_type AS kind, dial_status AS status, direction AS side, outcome,
            {us} AS us, CAST(ring_time AS BIGINT) AS ring, CAST(duration AS BIGINT) AS duration, CAST(coalesce(ring_time, 0) + coalesce(duration, 0) AS BIGINT) AS busy,
            price_agorot AS price, customer_number AS customer, call_id,
            CASE WHEN original_call_id <> call_id THEN original_call_id END AS parent, queue_name AS queue,
            coalesce(nullif(representative_code, ''), nullif(user_name, ''), nullif(CASE WHEN cdr_type IN (4, 10, 15, 17)
                THEN caller_extension ELSE target_extension END, '')) AS agent,
            nullif(did, '') AS did, {menu} AS menu, record_expect AND duration > 0 AS recorded, coalesce(record_url, '') = '' AS lacks_url
        FROM cdr
    ) AS plain
),
child AS (
    SELECT DISTINCT call_id, parent FROM leg WHERE parent IS NOT NULL
),
up(call_id, top) AS (
    SELECT call_id, parent FROM child UNION SELECT up.call_id, child.parent FROM up JOIN child ON child.call_id = up.top
),
root AS (
    SELECT call_id, top FROM up WHERE top NOT IN (SELECT call_id FROM child)
),
family AS {once} (
    SELECT call_id AS member, top AS family FROM root UNION SELECT top, top FROM root
    UNION SELECT many.call_id, many.call_id FROM (SELECT call_id FROM leg GROUP BY call_id HAVING count(*) > 1) AS many
    LEFT JOIN root ON root.call_id = many.call_id WHERE root.call_id IS NULL
),
joined AS (
    SELECT leg.*, family,
        CASE WHEN us > 3600000000 + max(us + busy * 1000000) OVER (PARTITION BY family
            ORDER BY us, kind, status, ring, duration ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) THEN 1 ELSE 0 END AS later
    FROM leg JOIN family ON family.member = leg.call_id
),
part AS (
    SELECT *, sum(later) OVER (PARTITION BY family ORDER BY us, kind, status, ring, duration ROWS UNBOUNDED PRECEDING) AS part
    FROM joined
),
several AS {once} (
    SELECT *, min(n) OVER legs AS call_n,
        row_number() OVER (PARTITION BY family, part ORDER BY us, kind, status, ring, duration) AS ord,
        max(CASE WHEN kind IN (14, 18, 19) AND outcome = 'answered' THEN 1 ELSE 0 END) OVER legs AS has_agent,
        max(CASE WHEN kind IN (9, 14) AND outcome = 'answered' THEN 2 WHEN kind IN (9, 14) AND outcome <> 'unknown' THEN 1
            ELSE 0 END) OVER legs AS fetched
    FROM part WINDOW legs AS (PARTITION BY family, part)
),
ended AS (
    SELECT *, CASE WHEN kind = 17 AND has_agent = 1 AND outcome = 'unknown' THEN 'answered'
        WHEN kind = 17 AND has_agent = 0 AND outcome = 'answered' THEN 'abandoned'
        WHEN kind IN (10, 15) AND outcome <> 'answered' AND fetched = 1 THEN 'not_dialed' ELSE outcome END AS ends
    FROM several
),
known AS {once} (
    SELECT call_n AS of_call, max(CASE WHEN ord = first_ord THEN side END) AS call_side, max(first_ord) AS first_ord,
        max(beginning) AS beginning, max(last_own) AS last_own, max(last_line) AS last_line,
        max(CASE WHEN kind IN (1, 4, 8, 10, 11, 13, 15, 17, 22, 23) AND ends = 'answered' THEN us + coalesce(ring, 0) * 1000000 END) AS spoken,
        min(CASE WHEN kind IN (1, 4, 8, 10, 11, 13, 15, 17, 22, 23) AND ends = 'answered' THEN ord END) AS first_answer,
        max(CASE WHEN kind IN (1, 4, 8, 10, 11, 13, 15, 17, 22, 23) AND ends = 'answered' THEN ord END) AS last_answer
    FROM (
        SELECT *, coalesce(min(CASE WHEN kind IN (1, 4, 8, 10, 11, 15, 17) AND side <> 'internal' AND parent IS NULL THEN ord END) OVER legs,
                min(CASE WHEN kind IN (1, 4, 8, 10, 11, 15, 17) THEN ord END) OVER legs, 1) AS first_ord,
            max(CASE WHEN kind IN (1, 4, 8, 10, 11, 15, 17) AND side <> 'internal' AND parent IS NULL THEN 1 ELSE 0 END) OVER legs AS beginning,
            max(CASE WHEN kind IN (1, 4, 8, 10, 11, 15, 17) THEN ord END) OVER legs AS last_own,
            max(CASE WHEN kind IN (1, 4, 8, 10, 11, 13, 15, 17, 22, 23) THEN ord END) OVER legs AS last_line
        FROM ended WINDOW legs AS (PARTITION BY call_n)
    ) AS ordered GROUP BY call_n
),
every AS (
    SELECT n, kind, status, side, us, ahead, ring, duration, price, customer, queue, agent, did, menu, parent, recorded, lacks_url,
        n AS call_n, 1 AS ord, 1 AS first_ord, 0 AS several,
        CASE WHEN kind = 17 AND outcome = 'answered' THEN 'abandoned' ELSE outcome END AS ends, side AS call_side,
        CASE WHEN kind IN (1, 4, 8, 10, 11, 15, 17) AND side <> 'internal' AND parent IS NULL THEN 1 ELSE 0 END AS beginning,
        CASE WHEN kind IN (1, 2, 4, 8, 10, 11, 12, 13, 15, 16, 17, 20, 22, 23) THEN 1 END AS last_ord,
        CASE WHEN kind IN (1, 4, 8, 10, 11, 13, 15, 22, 23) AND outcome = 'answered' THEN us + coalesce(ring, 0) * 1000000 END AS spoken,
        CASE WHEN kind IN (1, 4, 8, 10, 11, 13, 15, 22, 23) AND outcome = 'answered' THEN 1 END AS first_answer,
        CASE WHEN kind IN (1, 4, 8, 10, 11, 13, 15, 22, 23) AND outcome = 'answered' THEN 1 END AS last_answer,
        CAST(NULL AS {text}) AS came, 0 AS goes_on
    FROM leg LEFT JOIN family ON family.member = leg.call_id WHERE member IS NULL
    UNION ALL
    SELECT n, kind, status, side, us, ahead, ring, duration, price, customer, queue, agent, did, menu, parent, recorded, lacks_url,
        call_n, ord, known.first_ord, 1, ends, call_side, known.beginning, coalesce(known.last_own, known.last_line), spoken, first_answer, last_answer,
        lag(ends) OVER line, CASE WHEN lead(ord) OVER line IS NULL THEN 0 ELSE 1 END
    FROM known JOIN ended ON ended.call_n = known.of_call
    WINDOW line AS (PARTITION BY call_n, kind IN (1, 4, 8, 10, 11, 13, 15, 17, 22, 23) ORDER BY ord)
),
one AS {once} (
    SELECT *, (us {div} 1000000) + ahead AS local,
        kind IN (1, 4, 8, 10, 11, 13, 15, 17, 22, 23) AS line,
        kind IN (8, 19) AND side <> 'internal' AS entry,
        ends = 'answered' AND (kind IN (1, 4, 8, 10, 15, 18, 19, 22) AND side <> 'internal'
            OR kind IN (13, 23) AND (side <> 'internal' OR parent IS NOT NULL)) AS talk,
        kind IN (4, 10, 15) AND side = 'outbound' AND ends <> 'not_dialed' OR kind IN (18, 19) AND ends = 'answered' AS attempt,
        kind IN (1, 4, 8, 10, 11, 13, 15, 17, 22, 23) AND call_side = 'inbound' AND side <> 'outbound'
            AND (spoken IS NULL OR ends <> 'answered' AND us > spoken)
            AND ends IN ('abandoned', 'timed_out', 'refused', 'left_queue', 'unanswered', 'failed') AS missed
    FROM every
),
own AS (
    SELECT DISTINCT CASE WHEN did LIKE '0%' THEN '972' || substr(did, 2) ELSE did END AS number FROM leg WHERE did IS NOT NULL
),
calls AS {once} (
    SELECT call_n, side, ends, kind, talk, wait, price, first_us, first_n, spoken, missed_n, missed_us, answer_n, answer_us, tried,
        CASE WHEN number NOT IN (SELECT number FROM own) THEN number END AS customer, queue, agent, did, menu, local,
        beginning = 1 AND NOT (side = 'outbound' AND ends = 'not_dialed') AS counted
    FROM (
        SELECT call_n, call_side AS side, CASE WHEN last_ord IS NULL THEN 'unknown' ELSE ends END AS ends, kind,
            CASE WHEN talk THEN duration ELSE 0 END AS talk, CASE WHEN line THEN ring END AS wait, price, us AS first_us, n AS first_n,
            spoken, CASE WHEN missed THEN n END AS missed_n, CASE WHEN missed THEN us END AS missed_us,
            CASE WHEN first_answer IS NOT NULL THEN n END AS answer_n, CASE WHEN first_answer IS NOT NULL THEN us END AS answer_us,
            kind = 8 AND side <> 'internal' AND ends IN ('answered', 'abandoned', 'timed_out', 'left_queue', 'refused') AS tried,
            customer AS number, queue, agent, did, menu, local, beginning
        FROM one WHERE several = 0
        UNION ALL
        SELECT call_n, max(call_side), CASE WHEN max(first_answer) IS NOT NULL THEN 'answered'
                ELSE coalesce(max(CASE WHEN ord = last_ord THEN ends END), 'unknown') END,
            max(CASE WHEN ord = first_ord THEN kind END),
            CASE WHEN count(*) FILTER (WHERE talk AND duration IS NULL) = 0 THEN coalesce(sum(duration) FILTER (WHERE talk), 0) END,
            CASE WHEN count(*) FILTER (WHERE line AND ord <= coalesce(first_answer, ord) AND ring IS NULL) = 0
                THEN sum(ring) FILTER (WHERE line AND ord <= coalesce(first_answer, ord)) END,
            sum(price), max(CASE WHEN ord = first_ord THEN us END), max(CASE WHEN ord = first_ord THEN n END), max(spoken),
            min(CASE WHEN missed THEN ord * 1000000000 + n END) % 1000000000, min(us) FILTER (WHERE missed),
            max(CASE WHEN ord = last_answer THEN n END), max(CASE WHEN ord = first_answer THEN us END),
            max(CASE WHEN kind = 8 AND side <> 'internal' AND ends IN ('answered', 'abandoned', 'timed_out', 'left_queue', 'refused')
                THEN 1 ELSE 0 END) = 1,
            coalesce(max(CASE WHEN ord = first_ord AND customer NOT IN (SELECT number FROM own) THEN customer END),
                substr(min(CASE WHEN customer NOT IN (SELECT number FROM own) THEN CAST(1000 + ord AS {text}) || customer END), 5)),
            max(CASE WHEN ord = first_ord THEN queue END), max(CASE WHEN ord = first_ord THEN agent END),
            max(CASE WHEN ord = first_ord THEN did END), max(CASE WHEN ord = first_ord THEN menu END),
            max(CASE WHEN ord = first_ord THEN local END), max(beginning)
        FROM one WHERE several = 1 GROUP BY call_n
    ) AS whole
),
story AS (
    SELECT *, coalesce(sum(CASE WHEN what >= 4 THEN 1 ELSE 0 END) OVER (PARTITION BY customer ORDER BY moment, what
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS episode
    FROM (
        SELECT customer, missed_us AS moment, 0 AS what, missed_n AS n, 0 AS began FROM calls WHERE missed_us IS NOT NULL
        UNION ALL SELECT customer, first_us, 3, NULL, 0 FROM calls WHERE side = 'outbound' AND kind IN (4, 10) AND counted
        UNION ALL SELECT customer, spoken, CASE WHEN side = 'outbound' AND kind IN (4, 10) THEN 5 ELSE 4 END, NULL, answer_us FROM calls
            WHERE spoken IS NOT NULL
    ) AS event WHERE customer IN (SELECT customer FROM calls WHERE missed_us IS NOT NULL AND customer IS NOT NULL)
),
missing AS {once} (
    SELECT customer, since, n, tried, talked,
        CASE WHEN returned > since THEN returned WHEN returned IS NOT NULL THEN since END AS returned
    FROM (
        SELECT customer, min(since) AS since, min(CASE WHEN what = 0 AND moment = since THEN n END) AS n,
            min(CASE WHEN what = 3 AND moment >= since THEN moment END) AS tried, min(CASE WHEN what = 4 THEN moment END) AS talked,
            min(CASE WHEN what = 5 THEN began END) AS returned
        FROM (SELECT *, min(CASE WHEN what = 0 THEN moment END) OVER (PARTITION BY customer, episode) AS since FROM story) AS placed
        WHERE since IS NOT NULL GROUP BY customer, episode
    ) AS episodes
),
due AS {once} (
    SELECT customer, n, returned, tried, since {div} 1000000 AS since_s FROM (
        SELECT customer, n, since, CASE WHEN returned - since <= 86400000000 THEN returned - since END AS returned,
            CASE WHEN coalesce(tried, CASE WHEN returned - since <= 86400000000 THEN returned END) - since <= 86400000000
                THEN coalesce(tried, CASE WHEN returned - since <= 86400000000 THEN returned END) - since END AS tried
        FROM missing WHERE since + 86400000000 <= (SELECT max(us) FROM leg) AND coalesce(talked - since > 86400000000, TRUE)
    ) AS delays
),
returned AS {once} (
    SELECT due.n, due.returned, due.tried,
        {day_of_since} AS since_day, {day_of_tried} AS tried_day, {day_of_returned} AS returned_day
    FROM due
),
followed AS {once} (
    SELECT customer, answer_n AS n, coalesce(next_us <= first_us + 604800000000, FALSE) AS again FROM (
        SELECT customer, answer_n, first_us, ends, min(first_us) OVER (PARTITION BY customer ORDER BY first_us
            RANGE BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS next_us
        FROM calls WHERE side = 'inbound' AND counted AND customer IS NOT NULL
    ) AS own_calls WHERE ends = 'answered' AND first_us <= (SELECT max(us) FROM leg) - 604800000000
),
callers AS {once} (
    SELECT n, 'missed' AS what, returned, tried, since_day, tried_day, returned_day, FALSE AS again FROM returned
    UNION ALL SELECT n, 'answered', NULL, NULL, NULL, NULL, NULL, again FROM followed
)
