-- One row for every call: what its legs say together (calls.summarize).
own(customer) AS (
    {own}
),
places AS (
    SELECT call_id AS linked_id,
        min(CASE WHEN is_missed = 1 THEN ord END) AS missed_ord,
        coalesce(
            min(CASE WHEN ord = first_ord AND customer IS NOT NULL {not_own} THEN ord END),
            min(CASE WHEN customer IS NOT NULL {not_own} THEN ord END)
        ) AS customer_ord
    FROM leg WHERE is_linked = 1 GROUP BY call_id
),
whole AS (
    SELECT call_id, kind, side, last_ord, first_ord, has_beginning, spoken_us, start_us AS first_us, leg_id AS first_leg,
        CASE WHEN last_ord IS NULL THEN 'unknown' ELSE outcome END AS outcome,
        CASE WHEN kind = 8 AND direction <> 'internal' AND outcome IN ({tried}) THEN 1 ELSE 0 END AS tried,
        CASE WHEN is_talk = 1 THEN duration ELSE 0 END AS talk,
        CASE WHEN is_on_line = 1 THEN wait END AS wait,
        price,
        CASE WHEN is_missed = 1 THEN leg_id END AS missed_leg,
        CASE WHEN is_missed = 1 THEN start_us END AS missed_us,
        CASE WHEN is_answered = 1 THEN leg_id END AS last_answer_leg,
        CASE WHEN is_answered = 1 THEN start_us END AS answer_us,
        customer{attributes}
    FROM leg WHERE is_linked = 0
    UNION ALL
    SELECT call_id,
        max(CASE WHEN ord = first_ord THEN kind END),
        max(side),
        max(last_ord),
        max(first_ord),
        max(has_beginning),
        max(spoken_us),
        max(CASE WHEN ord = first_ord THEN start_us END),
        max(CASE WHEN ord = first_ord THEN leg_id END),
        CASE WHEN max(first_answer) IS NOT NULL THEN 'answered'
            ELSE coalesce(max(CASE WHEN ord = last_ord THEN outcome END), CASE WHEN count(*) = 1 AND max(is_apart) = 1
                THEN max(outcome) END, 'unknown') END,
        max(CASE WHEN kind = 8 AND direction <> 'internal' AND outcome IN ({tried}) THEN 1 ELSE 0 END),
        CASE WHEN sum(CASE WHEN is_talk = 1 AND duration IS NULL THEN 1 ELSE 0 END) = 0
            THEN sum(CASE WHEN is_talk = 1 THEN duration ELSE 0 END) END,
        CASE WHEN sum(CASE WHEN is_on_line = 1 AND ord <= coalesce(first_answer, ord) AND wait IS NULL THEN 1 ELSE 0 END) = 0
            THEN sum(CASE WHEN is_on_line = 1 AND ord <= coalesce(first_answer, ord) THEN wait END) END,
        sum(price),
        max(CASE WHEN ord = missed_ord THEN leg_id END),
        min(CASE WHEN is_missed = 1 THEN start_us END),
        max(CASE WHEN ord = last_answer THEN leg_id END),
        max(CASE WHEN ord = first_answer THEN start_us END),
        max(CASE WHEN ord = customer_ord THEN customer END){first_attributes}
    FROM (
        SELECT leg.*, missed_ord, customer_ord FROM leg JOIN places ON places.linked_id = leg.call_id WHERE is_linked = 1
    ) AS legs
    GROUP BY call_id
),
calls AS {once} (
    SELECT call_id, kind, side AS direction, outcome, wait, talk, price, first_us, first_leg, spoken_us, missed_leg,
        missed_us, last_answer_leg, answer_us,
        CASE WHEN customer IN (SELECT customer FROM own WHERE customer IS NOT NULL) THEN NULL ELSE customer END AS customer,
        CASE WHEN has_beginning = 1 AND NOT (side = 'outbound' AND outcome = 'not_dialed') THEN {counted} ELSE 0 END
            + CASE WHEN outcome = 'answered' THEN {talks} ELSE 0 END + {tried_queue} * tried AS tags{attributes}
    FROM whole
)
