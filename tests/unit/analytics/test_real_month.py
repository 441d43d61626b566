"""Every number of a month of real calls, beside SQL over the raw file that knows nothing of this package.

The archive has calls of one leg, so the three levels differ in which calls they count, not in how legs are joined.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from support.real_month import DATA, bank, with_data

from voicenter_cdr.analytics import DIMENSIONS, KpiOptions, Kpis, kpis

pytestmark = with_data

RAW = """
CREATE TABLE raw AS
WITH read AS (
    SELECT *, "Date"::TIMESTAMPTZ AS moment, epoch("Date"::TIMESTAMPTZ)::BIGINT AS s, CallerNumber AS who,
        CdrType = 8 AS entry, DialStatus = 'ANSWER' AS heard, DialStatus = 'ABANDONE' AS lost,
        CdrType = 8 AND DialStatus IN ('ANSWER', 'ABANDONE', 'TIMEOUT', 'EXIT') AS queued,
        DialStatus IN ('ABANDONE', 'TIMEOUT', 'FULL', 'JOINEMPTY', 'EXIT', 'NOANSWER', 'BUSY', 'CANCEL', 'CONGESTION',
            'CHANUNAVAIL', 'INVALIDARGS', 'SSWPREAUTH') AS missed
    FROM read_json(?, columns = {CallID: 'VARCHAR', CallerNumber: 'VARCHAR', "Date": 'VARCHAR', Duration: 'INT',
        CdrType: 'INT', DialStatus: 'VARCHAR', QueueName: 'VARCHAR', RingTime: 'INT', DID: 'VARCHAR',
        RepresentativeCode: 'VARCHAR', RepresentativeName: 'VARCHAR', UserName: 'VARCHAR', TargetExtension: 'VARCHAR',
        RecordURL: 'VARCHAR', RecordExpect: 'BOOL', Price: 'INT', DepartmentId: 'BIGINT', TargetPrefixName: 'VARCHAR'})
    LIMIT ?
)
SELECT *, max(CASE WHEN heard THEN s + RingTime END) OVER story AS last_talk,
    (SELECT max(s) FROM read) AS until_s,
    min(s) OVER (PARTITION BY who ORDER BY s RANGE BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS next_s
FROM read WINDOW story AS (PARTITION BY who)
"""

DUE = """
CREATE TABLE due AS
WITH event AS (
    SELECT *, s AS point, 0 AS kind FROM raw WHERE missed UNION ALL SELECT *, s + RingTime, 1 FROM raw WHERE heard
), counted AS (
    SELECT *, coalesce(sum(kind) OVER (PARTITION BY who ORDER BY point, kind ROWS BETWEEN UNBOUNDED PRECEDING
        AND 1 PRECEDING), 0) AS episode FROM event
), first AS (
    SELECT *, row_number() OVER (PARTITION BY who, episode, kind ORDER BY point, CallID) AS place,
        max(CASE WHEN kind = 1 THEN point END) OVER (PARTITION BY who, episode) AS talked
    FROM counted
)
SELECT * FROM first WHERE kind = 0 AND place = 1 AND s + 86400 <= until_s AND coalesce(talked - s > 86400, TRUE)
"""

CALL = """
count(*) AS inbound_calls,
count(*) FILTER (WHERE heard) AS answered_calls,
0 AS outbound_calls,
0 AS reached_calls,
count(*) FILTER (WHERE heard) / count(*) FILTER (WHERE DialStatus NOT IN ('VOEND', 'TE')) AS answer_rate,
count(*) FILTER (WHERE heard) / count(*) AS answer_rate_of_all,
count(*) FILTER (WHERE queued AND lost) / count(*) FILTER (WHERE queued) AS lost_before_agent,
count(*) FILTER (WHERE queued AND lost) / count(*) FILTER (WHERE queued) AS lost_customer_left,
0 / count(*) FILTER (WHERE queued) AS lost_we_refused,
avg(RingTime) FILTER (WHERE heard) AS wait_of_answered_calls,
avg(Duration) FILTER (WHERE heard) AS handle_time,
avg(Duration) FILTER (WHERE heard) AS handle_time_inbound,
0 / count(*) AS voicemail_rate,
count(*) FILTER (WHERE DialStatus IN ('VOEND', 'TE')) / count(*) AS menu_rate,
sum(Price) / 100 / count(*) FILTER (WHERE heard) AS cost_per_answered_call
"""
ENTRY = """
count(*) FILTER (WHERE queued AND lost) / count(*) FILTER (WHERE queued) AS abandonment_rate,
0 / count(*) FILTER (WHERE queued) AS exit_rate,
count(*) FILTER (WHERE queued AND heard AND RingTime <= 20) / count(*) FILTER (WHERE queued) AS service_level_negative,
count(*) FILTER (WHERE queued AND heard AND RingTime <= 20)
    / count(*) FILTER (WHERE queued AND NOT (lost AND RingTime <= 20)) AS service_level_ignored,
count(*) FILTER (WHERE queued AND (heard OR lost) AND RingTime <= 20) / count(*) FILTER (WHERE queued)
    AS service_level_positive,
avg(RingTime) FILTER (WHERE queued AND heard) AS speed_of_answer,
avg(RingTime) FILTER (WHERE queued AND lost) AS abandon_time,
quantile_disc(RingTime, 0.5) FILTER (WHERE queued AND heard) AS speed_of_answer_p50,
quantile_disc(RingTime, 0.9) FILTER (WHERE queued AND heard) AS speed_of_answer_p90,
max(RingTime) FILTER (WHERE queued AND heard) AS speed_of_answer_max,
count(*) FILTER (WHERE entry) AS queue_entries,
count(*) FILTER (WHERE entry AND heard) AS entries_answered,
count(*) FILTER (WHERE entry AND lost) AS entries_abandoned,
0 AS overflow_in, 0 AS overflow_out, 0 AS transferred_in, 0 AS transferred_out
"""
HANDLING = """
count(*) AS records,
coalesce(sum(Duration) FILTER (WHERE heard), 0) AS talk_time,
count(*) FILTER (WHERE heard) AS handled,
0 AS taken_over, 0 AS outgoing_attempts,
0 / count(*) FILTER (WHERE heard) AS handed_on_rate,
count(*) FILTER (WHERE heard AND Duration < 10) / count(*) FILTER (WHERE heard) AS short_talk_rate,
sum(Price) / 100 AS cost,
sum(Price) / 100 / (sum(Duration) FILTER (WHERE heard) / 60) AS cost_per_talk_minute,
count(*) FILTER (WHERE RecordExpect AND Duration > 0 AND RecordURL = '')
    / nullif(count(*) FILTER (WHERE RecordExpect AND Duration > 0), 0) AS recording_gap,
count(*) FILTER (WHERE heard AND s <= until_s - 604800 AND coalesce(next_s > s + 604800, TRUE))
    / count(*) FILTER (WHERE heard AND s <= until_s - 604800) AS first_call_resolution
"""
QUEUE = """
count(*) FILTER (WHERE entry) AS inbound_calls,
count(*) FILTER (WHERE entry AND heard) AS answered_calls,
count(*) FILTER (WHERE entry AND heard) / count(*) FILTER (WHERE entry) AS answer_rate,
count(*) FILTER (WHERE entry AND heard) / count(*) FILTER (WHERE entry) AS answer_rate_of_all,
count(*) FILTER (WHERE queued AND lost) / count(*) FILTER (WHERE queued) AS lost_before_agent
"""
AGENT = """
count(*) FILTER (WHERE heard) AS answered_calls,
0 AS outbound_calls,
avg(Duration) FILTER (WHERE heard) AS handle_time,
avg(RingTime) FILTER (WHERE queued AND heard) AS speed_of_answer
"""
WHOLE = """
(SELECT count(*) FROM (SELECT who FROM raw GROUP BY who HAVING count(*) FILTER (WHERE missed AND (last_talk IS NULL
    OR s > last_talk)) > 0)) / count(DISTINCT who) FILTER (WHERE missed) AS unreturned_callers,
count(DISTINCT who) FILTER (WHERE heard AND s <= until_s - 604800 AND next_s <= s + 604800)
    / count(DISTINCT who) FILTER (WHERE heard AND s <= until_s - 604800) AS repeat_callers,
(SELECT max(n) FROM (SELECT sum(d) OVER (ORDER BY t, d ROWS UNBOUNDED PRECEDING) AS n FROM (
    SELECT s AS t, 1 AS d FROM raw WHERE RingTime + Duration > 0
    UNION ALL SELECT s + RingTime + Duration, -1 FROM raw WHERE RingTime + Duration > 0))) AS peak_concurrency
"""
NEVER = ("reach_rate", "dialer_reach", "dialer_abandonment", "handle_time_outbound")
"""Numbers of calls to customers, of which the archive has none."""
CALLBACKS = ("time_to_callback", "time_to_callback_p50", "time_to_attempt_p50")
DUE_RATES = tuple(f"{what}_{when}" for what in ("tried", "returned") for when in ("within_1h", "within_3h", "same_day"))
LOCAL = "moment AT TIME ZONE 'Asia/Jerusalem'"
GROUPS = {
    "queue": "nullif(QueueName, '')",
    "representative": "coalesce(nullif(RepresentativeCode, ''), nullif(UserName, ''), nullif(TargetExtension, ''))",
    "extension": "nullif(TargetExtension, '')",
    "department": "DepartmentId",
    "country": "nullif(TargetPrefixName, '')",
    "did": "nullif(DID, '')",
    "day": f"strftime({LOCAL}, '%Y-%m-%d')",
    "week": f"strftime({LOCAL} - INTERVAL 1 DAY * dayofweek({LOCAL}), '%Y-%m-%d')",
    "month": f"strftime({LOCAL}, '%Y-%m')",
    "weekday": f"dayofweek({LOCAL})",
    "hour": f"hour({LOCAL})",
    "weekday_hour": f"dayofweek({LOCAL}) * 24 + hour({LOCAL})",
}


@pytest.fixture(scope="module", params=[8_000, pytest.param(None, marks=pytest.mark.exhaustive)])
def count(request: pytest.FixtureRequest) -> int | None:
    """The number of calls that are compared: those of a week, or all."""
    number: int | None = request.param
    return number


@pytest.fixture(scope="module")
def made(count: int | None) -> Kpis:
    return kpis(bank(count), options=KpiOptions(interval=30))


@pytest.fixture(scope="module")
def raw(count: int | None) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(RAW, [str(DATA), count])
        connection.execute(DUE)
        yield connection


def lines(raw: duckdb.DuckDBPyConnection, query: str) -> Iterator[dict[str, Any]]:
    """Yield rows by name; a division by nothing is None (0 / 0 is no number, 1 / 0 is infinite)."""
    cursor = raw.execute(query)
    names = [column[0] for column in cursor.description]
    for line in cursor.fetchall():
        plain = [None if isinstance(one, float) and not math.isfinite(one) else one for one in line]
        yield dict(zip(names, plain, strict=True))


def test_numbers_of_the_whole_equal_sql(made: Kpis, raw: duckdb.DuckDBPyConnection) -> None:
    """Every number of the whole is compared."""
    (found,) = lines(raw, f"SELECT {CALL}, {ENTRY}, {HANDLING}, {WHOLE} FROM raw")
    found |= dict.fromkeys((*NEVER, *CALLBACKS)) | dict.fromkeys(DUE_RATES, 0.0)
    assert set(found) == set(made.overall)
    assert {name: made[name].value for name in found} == pytest.approx(found)
    (due,) = lines(raw, "SELECT count(*) AS number FROM due")
    assert made["returned_within_1h"].denominator == due["number"]


@pytest.mark.parametrize("dimension", list(GROUPS))
def test_numbers_of_groups_equal_sql(dimension: str, made: Kpis, raw: duckdb.DuckDBPyConnection) -> None:
    """Every number of every group is compared; by queue and by agent those of their own level."""
    numbers = {"queue": f"{ENTRY}, {HANDLING}, {QUEUE}", "representative": f"{HANDLING}, {AGENT}"}
    numbers["extension"] = numbers["representative"]
    chosen = numbers.get(dimension, f"{CALL}, {ENTRY}, {HANDLING}")
    groups = {group.key: group for group in made.groups[dimension]}
    found = {
        line.pop("key"): line for line in lines(raw, f"SELECT {GROUPS[dimension]} AS key, {chosen} FROM raw GROUP BY 1")
    }
    assert set(found) == set(groups)
    for key, line in found.items():
        shown = {name: value for name, value in line.items() if name in groups[key].kpis}
        assert {name: groups[key][name].value for name in shown} == pytest.approx(shown), key
    due = {
        line["key"]: line["number"]
        for line in lines(raw, f"SELECT {GROUPS[dimension]} AS key, count(*) AS number FROM due GROUP BY 1")
    }
    if "returned_within_1h" in next(iter(groups.values())).kpis:
        assert {key: group["returned_within_1h"].denominator for key, group in groups.items()} == {
            key: due.get(key, 0) for key in groups
        }


def test_dimensions_are_all_compared() -> None:
    """The archive has no campaign, and its outcomes are its statuses."""
    assert set(DIMENSIONS) - set(GROUPS) == {"campaign", "outcome"}


def test_intervals_and_classes_equal_sql(made: Kpis, raw: duckdb.DuckDBPyConnection) -> None:
    """Half hours by local time, and waits by class."""
    begin = f"time_bucket(INTERVAL 30 MINUTE, {LOCAL})"
    query = f"SELECT strftime({begin}, '%Y-%m-%dT%H:%M:00+02:00') AS key, {CALL} FROM raw GROUP BY 1"
    found = {line["key"]: line for line in lines(raw, query)}
    groups = {group.key: group for group in made.groups["interval"]}
    assert set(found) == set(groups)
    for key, line in found.items():
        for name in ("inbound_calls", "answered_calls", "answer_rate", "handle_time"):
            assert groups[key][name].value == pytest.approx(line[name]), (key, name)
    for one in made.waits:
        upper = "TRUE" if one.up_to is None else f"RingTime <= {one.up_to}"
        inside = f"queued AND {upper} AND (RingTime > {one.above} OR {one.above} = 0)"
        query = f"SELECT count(*) FILTER (WHERE heard), count(*) FILTER (WHERE lost) FROM raw WHERE {inside}"
        assert raw.execute(query).fetchone() == (one.answered, one.abandoned)
