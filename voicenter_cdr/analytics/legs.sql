-- Every record with what the rules of calls make of it, and which call it belongs to (see calls/legs.py).
timed AS (
    SELECT *, {micro} AS start_us, ({micro}) {div} 1000000 AS start_s FROM {table}
),
base AS {once} (
    SELECT
        row_number() OVER () AS leg_id,
        coalesce(CAST(cdr_type AS INTEGER), -1) AS kind,
        dial_status AS status,
        direction,
        outcome AS alone,
        start_us,
        CASE WHEN ring_time >= 0 THEN CAST(ring_time AS BIGINT) END AS ring,
        CASE WHEN duration >= 0 THEN CAST(duration AS BIGINT) END AS duration,
        CASE WHEN cdr_type IN (8, 19) THEN {wait} WHEN ring_time >= 0 THEN ring_time END AS wait,
        price_agorot AS price,
        customer_number AS customer,
        CASE WHEN cdr_type IN ({ruled}) THEN call_id END AS own_id,
        CASE WHEN cdr_type IN ({ruled}) AND original_call_id <> coalesce(call_id, '') THEN original_call_id END
            AS parent_id,
        CASE WHEN cdr_type IN ({customers}) THEN 1 ELSE 0 END AS is_own,
        CASE WHEN cdr_type IN ({on_line}) THEN 1 ELSE 0 END AS is_on_line,
        CASE WHEN cdr_type IN ({ruled}) AND cdr_type NOT IN ({apart}) THEN 0 ELSE 1 END AS is_apart,
        CASE WHEN original_call_id <> coalesce(call_id, '') THEN 1 ELSE 0 END AS is_later,
        CASE WHEN cdr_type IN ({talking}) AND (direction <> 'internal' OR (cdr_type IN ({transfers})
            AND original_call_id <> coalesce(call_id, ''))) THEN 1 ELSE 0 END AS can_talk,
        CASE WHEN record_expect AND duration > 0 THEN CASE WHEN coalesce(record_url, '') = '' THEN {recorded} + {unrecorded}
            ELSE {recorded} END ELSE 0 END AS recording{made}
    FROM timed
),
linked_id AS (
    SELECT own_id AS id FROM base WHERE own_id IS NOT NULL GROUP BY own_id HAVING count(*) > 1
    UNION SELECT own_id FROM base WHERE parent_id IS NOT NULL AND own_id IS NOT NULL
    UNION SELECT parent_id FROM base WHERE parent_id IS NOT NULL
),
bearer AS (
    SELECT leg_id, id, start_us, start_us + (coalesce(ring, 0) + coalesce(duration, 0)) * 1000000 AS end_us
    FROM (
        SELECT base.*, own_id AS id FROM base JOIN linked_id ON linked_id.id = own_id
        UNION ALL SELECT base.*, parent_id FROM base WHERE parent_id IS NOT NULL
    ) AS with_id
),
gap AS (
    SELECT *,
        CASE WHEN start_us > {patience} + max(end_us)
        OVER (PARTITION BY id ORDER BY start_us, leg_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        THEN 1 ELSE 0 END AS is_gap
    FROM bearer
),
part AS (
    SELECT *, sum(is_gap) OVER (PARTITION BY id ORDER BY start_us, leg_id ROWS UNBOUNDED PRECEDING) AS part FROM gap
),
headed AS {once} (
    SELECT leg_id, min(head) AS head, max(head) AS other FROM (
        SELECT leg_id, min(leg_id) OVER (PARTITION BY id, part) AS head FROM part
    ) AS heads
    GROUP BY leg_id
),
link AS (
    SELECT head, other FROM headed WHERE head <> other UNION SELECT other, head FROM headed WHERE head <> other
),
reach(head, other) AS (
    SELECT head, head FROM link UNION SELECT reach.head, link.other FROM reach JOIN link ON link.head = reach.other
),
family AS (
    SELECT head, min(other) AS family FROM reach GROUP BY head
),
joined AS {once} (
    SELECT base.*, coalesce(family.family, headed.head) AS family
    FROM base LEFT JOIN headed ON headed.leg_id = base.leg_id LEFT JOIN family ON family.head = headed.head
),
seen AS {once} (
    SELECT *, family AS call_id, row_number() OVER (PARTITION BY family ORDER BY {order}) AS ord
    FROM joined WHERE family IS NOT NULL
),
sides AS (
    SELECT call_id,
        max(CASE WHEN kind IN ({agent_later}) AND alone = 'answered' THEN 1 ELSE 0 END) AS has_agent,
        max(CASE WHEN kind = 9 AND alone = 'answered' THEN 2 WHEN kind = 9 AND alone <> 'unknown' THEN 1 ELSE 0 END)
            AS first_leg_9,
        max(CASE WHEN kind = 14 AND alone = 'answered' THEN 2 WHEN kind = 14 AND alone <> 'unknown' THEN 1 ELSE 0 END)
            AS first_leg_14,
        coalesce(
            min(CASE WHEN is_own = 1 AND direction <> 'internal' AND is_later = 0 THEN ord END),
            min(CASE WHEN is_own = 1 THEN ord END),
            1
        ) AS first_ord,
        max(CASE WHEN is_own = 1 AND direction <> 'internal' AND is_later = 0 THEN 1 ELSE 0 END) AS has_beginning,
        coalesce(max(CASE WHEN is_own = 1 THEN ord END), max(CASE WHEN is_on_line = 1 THEN ord END)) AS last_ord
    FROM seen GROUP BY call_id
),
ended AS {once} (
    SELECT seen.*, first_ord, has_beginning, last_ord,
        CASE WHEN kind = 17 AND has_agent = 1 AND alone = 'unknown' THEN 'answered'
            WHEN kind = 17 AND has_agent = 0 AND alone = 'answered' THEN 'abandoned'
            WHEN kind = 10 AND alone <> 'answered' AND first_leg_9 = 1 THEN 'not_dialed'
            WHEN kind = 15 AND alone <> 'answered' AND first_leg_14 = 1 THEN 'not_dialed'
            ELSE alone END AS outcome
    FROM sides JOIN seen ON seen.call_id = sides.call_id
),
answer AS (
    SELECT call_id,
        max(CASE WHEN ord = first_ord THEN direction END) AS side,
        max(CASE WHEN is_on_line = 1 AND outcome = 'answered' THEN start_us + coalesce(ring, 0) * 1000000 END)
            AS spoken_us,
        min(CASE WHEN is_on_line = 1 AND outcome = 'answered' THEN ord END) AS first_answer,
        max(CASE WHEN is_on_line = 1 AND outcome = 'answered' THEN ord END) AS last_answer
    FROM ended GROUP BY call_id
),
linked AS {once} (
    SELECT ended.*, side, spoken_us, first_answer, last_answer,
        CASE WHEN is_on_line = 1 AND outcome = 'answered' THEN 1 ELSE 0 END AS is_answered,
        lag(CASE WHEN outcome = 'answered' THEN 1 ELSE 0 END)
            OVER (PARTITION BY ended.call_id, is_on_line ORDER BY ord) AS came_answered,
        CASE WHEN lead(ord) OVER (PARTITION BY ended.call_id, is_on_line ORDER BY ord) IS NULL THEN 0 ELSE 1 END
            AS goes_on
    FROM answer JOIN ended ON ended.call_id = answer.call_id
),
each_leg AS (
    SELECT {columns}, leg_id AS call_id, 0 AS is_linked, 1 AS ord, 1 AS first_ord,
        CASE WHEN is_own = 1 AND direction <> 'internal' AND is_later = 0 THEN 1 ELSE 0 END AS has_beginning,
        CASE WHEN is_on_line = 1 OR is_apart = 1 THEN 1 END AS last_ord,
        direction AS side,
        CASE WHEN kind = 17 AND alone = 'answered' THEN 'abandoned' ELSE alone END AS outcome,
        CASE WHEN is_on_line = 1 AND alone = 'answered' AND kind <> 17 THEN 1 ELSE 0 END AS is_answered,
        CAST(NULL AS INTEGER) AS came_answered, 0 AS goes_on,
        CASE WHEN is_on_line = 1 AND alone = 'answered' AND kind <> 17
            THEN start_us + coalesce(ring, 0) * 1000000 END AS spoken_us,
        CASE WHEN is_on_line = 1 AND alone = 'answered' AND kind <> 17 THEN 1 END AS first_answer,
        CASE WHEN is_on_line = 1 AND alone = 'answered' AND kind <> 17 THEN 1 END AS last_answer
    FROM joined WHERE family IS NULL
    UNION ALL
    SELECT {columns}, call_id, 1, ord, first_ord, has_beginning, last_ord, side, outcome, is_answered, came_answered,
        goes_on, spoken_us, first_answer, last_answer
    FROM linked
),
flagged AS (
    SELECT *,
        CASE WHEN can_talk = 1 AND outcome = 'answered' THEN 1 ELSE 0 END AS is_talk,
        CASE WHEN kind IN (8, 19) AND direction <> 'internal' THEN 1 ELSE 0 END AS is_entry,
        CASE WHEN (kind IN (4, 10, 15) AND direction = 'outbound' AND outcome <> 'not_dialed')
            OR (kind IN (18, 19) AND outcome = 'answered') THEN 1 ELSE 0 END AS is_attempt,
        CASE WHEN is_on_line = 1 AND side = 'inbound' AND direction <> 'outbound'
            AND (spoken_us IS NULL OR (is_answered = 0 AND start_us > spoken_us)) AND ({missed})
            THEN 1 ELSE 0 END AS is_missed
    FROM each_leg
),
leg AS {once} (
    SELECT *,
        recording
            + {talks} * is_talk
            + {entry} * is_entry
            + {attempt} * is_attempt
            + CASE WHEN is_attempt = 1 AND outcome = 'answered' THEN {reached} ELSE 0 END
            + CASE WHEN is_talk = 1 AND is_on_line = 1 AND is_attempt = 0 THEN {handled} ELSE 0 END
            + CASE WHEN is_talk = 1 AND is_on_line = 1 AND is_attempt = 0 AND ord <> first_answer THEN {taken_over} ELSE 0 END
            + CASE WHEN is_talk = 1 AND is_on_line = 1 AND goes_on = 1 THEN {handed_on} ELSE 0 END
            + CASE WHEN is_entry = 1 AND is_on_line = 1 THEN CASE came_answered WHEN 1 THEN {transferred_in}
                WHEN 0 THEN {overflow_in} ELSE 0 END ELSE 0 END
            + CASE WHEN is_entry = 1 AND is_on_line = 1 AND goes_on = 1 THEN CASE WHEN outcome = 'answered'
                THEN {transferred_out} ELSE {overflow_out} END ELSE 0 END
            AS tags{local}
    FROM flagged
)
