"""A synthetic Israeli call centre: its week, its queues, agents and dialers, the same for one seed everywhere.

Every day is made from the seed and its date alone, so that two periods agree on the days they share.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from attrs import define, field, frozen

from voicenter_cdr.sandbox.population import EPOCH, call_id_time

__all__ = ["CallCentre", "CallFact"]

_ZONE: Final = ZoneInfo("Asia/Jerusalem")

_WEEK: Final = {6: 1.2, 0: 1.05, 1: 1.0, 2: 0.95, 3: 1.0, 4: 0.4, 5: 0.0}
"""Load by weekday (Monday is 0): Sunday to Thursday, a short Friday, no Saturday."""

_HOURS: Final = {
    8: 6,
    9: 10,
    10: 12,
    11: 11,
    12: 9,
    13: 8,
    14: 8,
    15: 9,
    16: 9,
    17: 7,
    18: 5,
    19: 4,
    7: 2,
    20: 2,
    21: 1,
}

_FRIDAY: Final = {8: 8, 9: 12, 10: 12, 11: 10, 12: 6}

_QUEUES: Final = (
    ("שירות לקוחות", 101, "Service", 8),
    ("Sales", 102, "מכירות", 5),
    ("תמיכה טכנית", 103, "Service", 4),
    ("Billing", 104, "Service", 2),
    ("חידוש מנויים", 105, "מכירות", 2),
    ("Technical Support", 106, "Service", 2),
    ("הנהלת חשבונות", 107, "Service", 1),
    ("VIP", 108, "Service", 1),
)
"""Name, id, department, weight."""

_FIRST: Final = ("Dana", "יעל", "Omer", "נועה", "Eitan", "שירה", "Lior", "מיכל", "Amir", "רוני", "Tamar", "יואב")

_LAST: Final = ("Levi", "כהן", "Mizrahi", "פרץ", "Biton", "דהן", "Friedman", "אברהם")

_MAIN: Final = "0722776700"

_KINDS: Final = {
    "queue": 52,
    "menu": 12,
    "direct": 4,
    "voicemail": 2,
    "outgoing": 14,
    "click2call": 6,
    "productive": 4,
    "predictive": 4,
    "other": 2,
}

_TEXTS: Final = {
    1: "Incoming Call",
    2: "CC",
    4: "Extension Outgoing",
    8: "Queue",
    9: "Click2Call leg1",
    10: "Click2Call leg2",
    11: "VoiceMail",
    12: "Callference",
    13: "XferCDR",
    14: "ProductiveCall Leg1",
    15: "ProductiveCall Leg2",
    16: "Scrubber",
    17: "Click 2 IVR",
    18: "Click 2 IVR Incoming",
    19: "Click 2 Queue Incoming",
    20: "FaxCdr",
    21: "Attended CDR leg1",
    22: "Attended CDR leg2",
    23: "Auto forward",
}


@frozen(kw_only=True)
class CallFact:
    """What really happened in one call, for tests of what is made from the records."""

    direction: Literal["inbound", "outbound", "other"]
    """Who began."""
    customer: str = field(repr=False)
    """The customer's number with country code."""
    outcome: str
    """The status that counts for the customer."""
    call_ids: tuple[str, ...]
    """The CallIDs of its records, the first call's first."""
    cdr_types: tuple[int, ...]
    """The types of its records, in order of time."""
    agents: tuple[str, ...]
    """Codes of the representatives who spoke, in order."""
    started_at: datetime
    """When its first record began, UTC."""
    legs: tuple[int, ...]
    """The places of its records in the population, in order of time; those outside of its period have none."""
    returns: str | None = None
    """The first CallID of the missed call that this one returns."""
    returned: bool = False
    """Whether another call of the truth returns this one."""


@frozen
class _Agent:
    name: str
    code: str
    extension: str
    department: str


@define
class _Call:
    """A call while it is made up."""

    at: datetime
    customer: str
    direction: Literal["inbound", "outbound", "other"]
    outcome: str = ""
    returns: str | None = None
    rows: list[tuple[datetime, float, dict[str, Any]]] = field(factory=list)
    agents: list[str] = field(factory=list)


class CallCentre:
    """The records of a synthetic call centre between two instants, as a population for a sandbox.

    ``calls_per_day`` is the mean of a full working day; ``agents`` how many people answer, in ``queues`` (1 to 8).
    ``truth`` tells what really happened. Records appear two to seven minutes after their call ended. Waits and agents
    are drawn for each call by itself: there is no line in which calls wait for each other.
    """

    def __init__(
        self,
        start: datetime,
        end: datetime,
        *,
        seed: int = 0,
        calls_per_day: int = 800,
        agents: int = 24,
        queues: int = 4,
    ) -> None:
        if agents < 1 or not 1 <= queues <= len(_QUEUES):
            raise ValueError(f"a call centre takes at least 1 agent, and 1 to {len(_QUEUES)} queues")
        self._seed = seed
        self._per_day = calls_per_day
        self._queues = _QUEUES[:queues]
        rng = random.Random(f"{seed}:staff")
        self._agents = [self._agent(rng, number) for number in range(agents)]
        self._customers = [self._number(rng) for _ in range(max(50, calls_per_day * 6))]
        calls = [call for day in _days(start, end) for call in self._day(day)]
        calls = [call for call in calls if any(start <= row[0] < end for row in call.rows)]
        rows = [(*row, number) for number, call in enumerate(calls) for row in call.rows if start <= row[0] < end]
        rows.sort(key=lambda row: row[0])
        legs: list[list[int]] = [[] for _ in calls]
        for place, row in enumerate(rows):
            legs[row[3]].append(place)
        returned = {call.returns for call in calls if call.returns}
        self.truth: tuple[CallFact, ...] = tuple(
            _fact(call, at, returned) for call, at in zip(calls, legs, strict=True)
        )
        self.times: Sequence[int] = array("q", [(row[0] - EPOCH) // timedelta(milliseconds=1) for row in rows])
        self.appearances: Sequence[float] | None = array("d", [row[1] for row in rows])
        self._records = [row[2] for row in rows]

    def record(self, index: int) -> Mapping[str, Any]:
        """The record in the API's spelling."""
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    # -- people

    def _agent(self, rng: random.Random, number: int) -> _Agent:
        name = f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"
        extension = "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789", k=8))
        return _Agent(name, f"{40_000_100 + number}", extension, self._queues[number % len(self._queues)][2])

    def _number(self, rng: random.Random) -> str:
        return f"9725{rng.choice('023458')}{rng.randrange(10**7):07}"

    # -- a day

    def _day(self, day: date) -> Iterator[_Call]:
        rng = random.Random(f"{self._seed}:{day.isoformat()}")
        weight = _WEEK[day.weekday()]
        hours = _FRIDAY if day.weekday() == 4 else _HOURS
        count = max(0, round(rng.gauss(self._per_day * weight, self._per_day * weight * 0.06)))
        kinds = rng.choices(list(_KINDS), list(_KINDS.values()), k=count)
        for kind in kinds:
            hour = rng.choices(list(hours), list(hours.values()))[0]
            local = datetime.combine(day, time(hour, rng.randrange(60), rng.randrange(60)), _ZONE)
            customer = rng.choice(self._customers)
            call = getattr(self, f"_{kind}")(rng, local.astimezone(UTC), customer)
            yield call
            if call.direction == "inbound" and call.outcome != "ANSWER" and rng.random() < 0.35:
                yield self._return(rng, call)

    def _return(self, rng: random.Random, missed: _Call) -> _Call:
        at = missed.at + timedelta(seconds=rng.randrange(300, 7_200))
        make = self._outgoing if rng.random() < 0.6 else self._click2call
        call = make(rng, at, missed.customer)
        call.returns = str(missed.rows[0][2]["CallID"])
        return call

    # -- kinds of calls

    def _queue(self, rng: random.Random, at: datetime, customer: str) -> _Call:
        call = _Call(at, customer, "inbound")
        name, ident, department, _ = rng.choices(self._queues, [queue[3] for queue in self._queues])[0]
        wait, patience = rng.expovariate(1 / 32), rng.expovariate(1 / 240)
        chance = rng.random()
        ring, status = round(min(wait, patience)), "ANSWER" if wait <= patience else "ABANDONE"
        if chance < 0.006:
            ring, status = 0, "FULL"
        elif chance < 0.010:
            ring, status = 0, "JOINEMPTY"
        elif chance < 0.022:
            ring, status = round(patience), "EXIT"
        elif chance < 0.032:
            ring, status = 300, "TIMEOUT"
        team = [agent for agent in self._agents if agent.department == department] or self._agents
        agent = rng.choice(team) if status == "ANSWER" else None
        first = self._row(
            rng,
            call,
            8,
            status,
            ring,
            agent=agent,
            menu=True,
            QueueName=name,
            DepartmentName=department,
            _queue_id=ident,
        )
        call.outcome = status
        if agent is not None:
            self._hand_on(rng, call, first, agent)
        elif status == "TIMEOUT" and rng.random() < 0.4:
            self._forward(rng, call, first)
        return call

    def _hand_on(self, rng: random.Random, call: _Call, first: dict[str, Any], agent: _Agent) -> None:
        """Some answered calls go on: handed over, handed over with consultation, or forwarded."""
        chance = rng.random()
        ended = call.at + timedelta(seconds=first["RingTime"] + first["Duration"])
        other = self._agents[
            (self._agents.index(agent) + rng.randrange(1, max(2, len(self._agents)))) % len(self._agents)
        ]
        origin = self._origin(rng, first)
        if chance < 0.05:
            status = "ANSWER" if rng.random() < 0.85 else "NOANSWER"
            self._row(rng, call, 13, status, rng.randrange(2, 25), agent=other, at=ended, CustomData=origin)
        elif chance < 0.08:
            shared = self._call_id(rng, ended)
            self._row(rng, call, 21, "ANSWER", 4, agent=agent, at=ended, CallID=shared, CustomData=origin)
            later = ended + timedelta(seconds=rng.randrange(20, 90))
            self._row(rng, call, 22, "ANSWER", 0, agent=other, at=later, CallID=shared, CustomData=origin)
        elif chance < 0.095:
            self._row(rng, call, 23, "ANSWER", rng.randrange(3, 20), at=ended, talk=True, CustomData=origin)

    def _forward(self, rng: random.Random, call: _Call, first: dict[str, Any]) -> None:
        """Somebody outside takes the call that the queue let go. Nothing on this leg says who called."""
        at = call.at + timedelta(seconds=first["RingTime"])
        more: dict[str, Any] = {"DID": "", "CallerNumber": _MAIN, "CustomData": self._origin(rng, first)}
        self._row(rng, call, 23, "ANSWER", rng.randrange(3, 20), at=at, talk=True, **more)
        call.outcome = "ANSWER"

    def _origin(self, rng: random.Random, first: dict[str, Any]) -> dict[str, str]:
        """The id of the original call, in one of the spellings that the API document has."""
        return {rng.choice(("OriginalIvrUniqueID", "OriginallvrUniqueID", "originalIvrUniqueID")): first["CallID"]}

    def _menu(self, rng: random.Random, at: datetime, customer: str) -> _Call:
        call = _Call(at, customer, "inbound", "VOEND" if rng.random() < 0.7 else "TE")
        self._row(rng, call, 1, call.outcome, 0, menu=True)
        return call

    def _direct(self, rng: random.Random, at: datetime, customer: str) -> _Call:
        outcome = rng.choices(["ANSWER", "NOANSWER", "CANCEL", "BUSY", "CHANUNAVAIL"], [60, 20, 10, 7, 3])[0]
        call = _Call(at, customer, "inbound", outcome)
        self._row(rng, call, 1, outcome, rng.randrange(2, 40), agent=rng.choice(self._agents), menu=True)
        return call

    def _voicemail(self, rng: random.Random, at: datetime, customer: str) -> _Call:
        call = _Call(at, customer, "inbound", "VOICEMAIL")
        self._row(rng, call, 11, "VOICEMAIL", rng.randrange(10, 30), menu=True, talk=True)
        return call

    def _outgoing(self, rng: random.Random, at: datetime, customer: str) -> _Call:
        outcome = rng.choices(["ANSWER", "NOANSWER", "BUSY", "CANCEL", "CONGESTION"], [58, 25, 8, 7, 2])[0]
        call = _Call(at, customer, "outbound", outcome)
        self._row(rng, call, 4, outcome, rng.randrange(3, 45), agent=rng.choice(self._agents))
        return call

    def _two_legs(
        self, rng: random.Random, at: datetime, customer: str, types: tuple[int, int], custom: dict[str, str]
    ) -> _Call:
        call, agent, ident = _Call(at, customer, "outbound"), rng.choice(self._agents), self._call_id(rng, at)
        picked_up = rng.random() < 0.93
        reached = picked_up and rng.random() < 0.62
        call.outcome = "ANSWER" if reached else rng.choice(["NOANSWER", "BUSY"]) if picked_up else "NOTCALLED"
        first = "ANSWER" if picked_up else "NOANSWER"
        more: dict[str, Any] = {"CallID": ident, "CustomData": custom, "_campaign_id": 501 if types[0] == 14 else None}
        self._row(rng, call, types[0], first, rng.randrange(1, 8), agent=agent, to_agent=True, talk=picked_up, **more)
        later = at + timedelta(seconds=rng.randrange(5, 15))
        self._row(rng, call, types[1], call.outcome, rng.randrange(4, 30), agent=agent, at=later, **more)
        return call

    def _click2call(self, rng: random.Random, at: datetime, customer: str) -> _Call:
        return self._two_legs(rng, at, customer, (9, 10), {"var_leadID": f"L-{rng.randrange(10_000)}"})

    def _productive(self, rng: random.Random, at: datetime, customer: str) -> _Call:
        return self._two_legs(rng, at, customer, (14, 15), {"var_campaign": "501"})

    def _predictive(self, rng: random.Random, at: datetime, customer: str) -> _Call:
        outcome = rng.choices(["ANSWER", "NOANSWER", "BUSY"], [45, 45, 10])[0]
        call, ident = _Call(at, customer, "outbound", outcome), self._call_id(rng, at)
        more: dict[str, Any] = {"CallID": ident, "_campaign_id": 502}
        self._row(rng, call, 17, outcome, rng.randrange(4, 30), talk=outcome == "ANSWER", **more)
        if outcome == "ANSWER":
            kind = 19 if rng.random() < 0.7 else 18
            agent = rng.choice(self._agents)
            later = at + timedelta(seconds=rng.randrange(8, 40))
            self._row(rng, call, kind, "ANSWER", rng.randrange(1, 15), agent=agent, at=later, to_agent=True, **more)
        return call

    def _other(self, rng: random.Random, at: datetime, customer: str) -> _Call:
        kind = rng.choice([2, 12, 16, 20])
        call = _Call(at, customer, "other", "ANSWER")
        self._row(rng, call, kind, "ANSWER", rng.randrange(0, 12), talk=True)
        return call

    # -- a record

    def _call_id(self, rng: random.Random, at: datetime) -> str:
        made = (at - EPOCH) // timedelta(seconds=1) - rng.randrange(1, 4)
        return f"{call_id_time(made)}{rng.randrange(16**12):012x}"

    def _row(
        self,
        rng: random.Random,
        call: _Call,
        kind: int,
        status: str,
        ring: int,
        *,
        agent: _Agent | None = None,
        at: datetime | None = None,
        menu: bool = False,
        to_agent: bool = False,
        talk: bool | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        at = call.at if at is None else at
        spoken = talk if talk is not None else status == "ANSWER"
        duration = max(1, round(rng.lognormvariate(4.8, 0.9))) if spoken else 0
        inbound = call.direction == "inbound"
        recorded = spoken and kind not in (9, 14, 16, 20) and rng.random() < 0.93
        call_id = more.get("CallID") or self._call_id(rng, at)
        local_number = "0" + call.customer.removeprefix("972") if rng.random() < 0.6 else call.customer
        extension = agent.extension if agent else ""
        outward = extension or _MAIN
        shown = spoken or not (inbound or to_agent)  # who calls is there, whether somebody answers or not
        record: dict[str, Any] = {
            "CallerNumber": local_number if inbound else _MAIN,
            "TargetNumber": outward if inbound or to_agent else call.customer,
            "Date": f"{at.replace(tzinfo=None).isoformat()}Z",
            "DateEpoch": int(at.timestamp()),
            "Duration": duration,
            "CallID": call_id,
            "Type": _TEXTS[kind],
            "CdrType": kind,
            "DialStatus": status,
            "TargetExtension": extension if inbound or to_agent else "",
            "CallerExtension": "" if inbound or to_agent else extension,
            "DID": _MAIN if inbound else "",
            "QueueName": "",
            "RecordURL": f"https://cpanel.voicenter.co.il/CallsHistory/PlayRecord/{call_id}-{kind}-aws.mp3"
            if recorded and rng.random() < 0.985
            else "",
            "RecordExpect": recorded,
            "Price": 0 if inbound or to_agent else round(duration / 60 * 7.2),
            "RingTime": ring,
            "RepresentativeName": agent.name if shown and agent else "",
            "RepresentativeCode": agent.code if shown and agent else "",
            "UserName": agent.name if agent else "",
            "DTMFData": self._steps(rng) if menu else [],
            "CustomData": {},
            "DepartmentName": agent.department if agent else "Service",
            "DepartmentId": 0,
            "TargetPrefixName": "" if inbound or to_agent else "Israel",
        }
        record |= {key: value for key, value in more.items() if value is not None}
        record["DepartmentId"] = 70_000_001 if record["DepartmentName"] == "Service" else 70_000_002
        appears = at.timestamp() + ring + duration + rng.randrange(120, 420)
        call.rows.append((at, appears, record))
        if agent and spoken and agent.code not in call.agents:
            call.agents.append(agent.code)
        return record

    def _steps(self, rng: random.Random) -> list[dict[str, Any]]:
        steps = [{"LayerName": "Main menu", "DTMF": rng.randrange(5), "LayerNumber": "0"}]
        if rng.random() < 0.4:
            steps.append({"LayerName": rng.choice(("Sales", "שירות")), "DTMF": rng.randrange(3), "LayerNumber": "15"})
        return steps


def _days(start: datetime, end: datetime) -> Iterator[date]:
    """The local days whose calls can have records in the period."""
    day = start.astimezone(_ZONE).date() - timedelta(days=1)
    while day <= end.astimezone(_ZONE).date():
        yield day
        day += timedelta(days=1)


def _fact(call: _Call, legs: list[int], returned: set[str]) -> CallFact:
    rows = sorted(call.rows, key=lambda row: row[0])
    ids = tuple(dict.fromkeys(row[2]["CallID"] for row in rows))
    return CallFact(
        direction=call.direction,
        customer=call.customer,
        outcome=call.outcome,
        call_ids=ids,
        cdr_types=tuple(row[2]["CdrType"] for row in rows),
        agents=tuple(call.agents),
        started_at=rows[0][0],
        legs=tuple(legs),
        returns=call.returns,
        returned=ids[0] in returned,
    )
