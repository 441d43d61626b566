"""A synthetic Israeli call centre: its week, its queues, agents and dialers, the same for one seed everywhere.

Every day is made from the seed and its date alone, so that two periods agree on the days they share.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from attrs import frozen

from voicenter_cdr.sandbox.call_facts import CallFact, GeneratedCall, make_fact
from voicenter_cdr.sandbox.population import EPOCH, call_id_time

__all__ = ["CallCentre"]

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

_VARIED_KINDS: Final = {
    "overflow": 6,
    "requeued": 5,
    "message": 3,
    "exit": 3,
    "silent": 3,
    "withheld": 4,
    "toll_free": 3,
    "unlogged": 4,
}
"""Share of the calls that ``varied`` adds."""

_WITHHELD: Final = ("0", "anonymous", "0000000000", "חסוי", "+972", "266696687")

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


@frozen
class _Agent:
    name: str
    code: str
    extension: str
    department: str


class CallCentre:
    """The records of a synthetic call centre between two instants, as a population for a sandbox.

    ``calls_per_day`` is the mean of a full working day; ``agents`` how many people answer, in ``queues`` (1 to 8).
    ``truth`` holds the facts of every call. Records appear two to seven minutes after their call ended. Waits and
    agents are drawn for each call by itself: there is no queue in which calls wait for each other. ``varied`` adds
    rarer calls: some that continue in a second queue, at an extension or at voicemail, a predictive dialer without an
    agent, withheld and toll-free numbers, and agents who are not logged in.
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
        varied: bool = False,
    ) -> None:
        if agents < 1 or not 1 <= queues <= len(_QUEUES):
            raise ValueError(f"a call centre takes at least 1 agent, and 1 to {len(_QUEUES)} queues")
        self._seed = seed
        self._per_day = calls_per_day
        self._kinds = _KINDS | _VARIED_KINDS if varied else _KINDS
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
            make_fact(call, at, returned) for call, at in zip(calls, legs, strict=True)
        )
        self.times: Sequence[int] = array("q", [(row[0] - EPOCH) // timedelta(milliseconds=1) for row in rows])
        self.appearances: Sequence[float] | None = array("d", [row[1] for row in rows])
        self._records = [row[2] for row in rows]

    def record(self, index: int) -> Mapping[str, Any]:
        """Return the record in the API's spelling."""
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

    def _day(self, day: date) -> Iterator[GeneratedCall]:
        rng = random.Random(f"{self._seed}:{day.isoformat()}")
        weight = _WEEK[day.weekday()]
        hours = _FRIDAY if day.weekday() == 4 else _HOURS
        count = max(0, round(rng.gauss(self._per_day * weight, self._per_day * weight * 0.06)))
        kinds = rng.choices(list(self._kinds), list(self._kinds.values()), k=count)
        for kind in kinds:
            hour = rng.choices(list(hours), list(hours.values()))[0]
            local = datetime.combine(day, time(hour, rng.randrange(60), rng.randrange(60)), _ZONE)
            customer = rng.choice(self._customers)
            call = getattr(self, f"_{kind}")(rng, local.astimezone(UTC), customer)
            yield call
            missed = call.direction == "inbound" and call.outcome != "ANSWER"
            if missed and call.customer is not None and rng.random() < 0.35:
                yield self._return(rng, call, call.customer)

    def _return(self, rng: random.Random, missed: GeneratedCall, customer: str) -> GeneratedCall:
        at = missed.at + timedelta(seconds=rng.randrange(300, 7_200))
        make = self._outgoing if rng.random() < 0.6 else self._click2call
        call: GeneratedCall = make(rng, at, customer)
        call.returns = str(missed.rows[0][2]["CallID"])
        return call

    # -- kinds of calls

    def _queue(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        call = GeneratedCall(at, customer, "inbound")
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

    def _hand_on(self, rng: random.Random, call: GeneratedCall, first: dict[str, Any], agent: _Agent) -> None:
        """Let some answered calls continue: transferred, transferred with consultation, or forwarded."""
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

    def _forward(self, rng: random.Random, call: GeneratedCall, first: dict[str, Any]) -> None:
        """Let an outside number answer the call that left the queue. This leg does not show the caller."""
        at = call.at + timedelta(seconds=first["RingTime"])
        more: dict[str, Any] = {"DID": "", "CallerNumber": _MAIN, "CustomData": self._origin(rng, first)}
        self._row(rng, call, 23, "ANSWER", rng.randrange(3, 20), at=at, talk=True, **more)
        call.outcome = "ANSWER"

    def _origin(self, rng: random.Random, first: dict[str, Any]) -> dict[str, str]:
        """Return the id of the original call, in one of the spellings of the API document."""
        return {rng.choice(("OriginalIvrUniqueID", "OriginallvrUniqueID", "originalIvrUniqueID")): first["CallID"]}

    def _menu(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        call = GeneratedCall(at, customer, "inbound", "VOEND" if rng.random() < 0.7 else "TE")
        self._row(rng, call, 1, call.outcome, 0, menu=True)
        return call

    def _direct(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        outcome = rng.choices(["ANSWER", "NOANSWER", "CANCEL", "BUSY", "CHANUNAVAIL"], [60, 20, 10, 7, 3])[0]
        call = GeneratedCall(at, customer, "inbound", outcome)
        self._row(rng, call, 1, outcome, rng.randrange(2, 40), agent=rng.choice(self._agents), menu=True)
        return call

    def _voicemail(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        call = GeneratedCall(at, customer, "inbound", "VOICEMAIL")
        self._row(rng, call, 11, "VOICEMAIL", rng.randrange(10, 30), menu=True, talk=True)
        return call

    def _outgoing(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        outcome = rng.choices(["ANSWER", "NOANSWER", "BUSY", "CANCEL", "CONGESTION"], [58, 25, 8, 7, 2])[0]
        call = GeneratedCall(at, customer, "outbound", outcome)
        self._row(rng, call, 4, outcome, rng.randrange(3, 45), agent=rng.choice(self._agents))
        return call

    def _two_legs(
        self, rng: random.Random, at: datetime, customer: str, types: tuple[int, int], custom: dict[str, str]
    ) -> GeneratedCall:
        call, agent, ident = GeneratedCall(at, customer, "outbound"), rng.choice(self._agents), self._call_id(rng, at)
        picked_up = rng.random() < 0.93
        reached = picked_up and rng.random() < 0.62
        call.outcome = "ANSWER" if reached else rng.choice(["NOANSWER", "BUSY"]) if picked_up else "NOTCALLED"
        first = "ANSWER" if picked_up else "NOANSWER"
        more: dict[str, Any] = {"CallID": ident, "CustomData": custom, "_campaign_id": 501 if types[0] == 14 else None}
        self._row(rng, call, types[0], first, rng.randrange(1, 8), agent=agent, to_agent=True, talk=picked_up, **more)
        later = at + timedelta(seconds=rng.randrange(5, 15))
        self._row(rng, call, types[1], call.outcome, rng.randrange(4, 30), agent=agent, at=later, **more)
        return call

    def _click2call(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        return self._two_legs(rng, at, customer, (9, 10), {"var_leadID": f"L-{rng.randrange(10_000)}"})

    def _productive(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        return self._two_legs(rng, at, customer, (14, 15), {"var_campaign": "501"})

    def _predictive(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        outcome = rng.choices(["ANSWER", "NOANSWER", "BUSY"], [45, 45, 10])[0]
        call, ident = GeneratedCall(at, customer, "outbound", outcome), self._call_id(rng, at)
        more: dict[str, Any] = {"CallID": ident, "_campaign_id": 502}
        self._row(rng, call, 17, outcome, rng.randrange(4, 30), talk=outcome == "ANSWER", **more)
        if outcome == "ANSWER":
            kind = 19 if rng.random() < 0.7 else 18
            agent = rng.choice(self._agents)
            later = at + timedelta(seconds=rng.randrange(8, 40))
            self._row(rng, call, kind, "ANSWER", rng.randrange(1, 15), agent=agent, at=later, to_agent=True, **more)
        return call

    def _other(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        kind = rng.choice([2, 12, 16, 20])
        call = GeneratedCall(at, customer, "other", "ANSWER")
        self._row(rng, call, kind, "ANSWER", rng.randrange(0, 12), talk=True)
        return call

    # -- kinds of calls that are rarer

    def _overflow(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        """Make a call that times out in one queue, and is answered or lost in another."""
        call = GeneratedCall(at, customer, "inbound")
        first = self._entry(rng, call, "TIMEOUT", rng.randrange(30, 120))
        self._second(rng, call, first, rng.choices(["ANSWER", "ABANDONE"], [70, 30])[0])
        return call

    def _requeued(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        """Make a call that an agent transfers to a second queue."""
        call = GeneratedCall(at, customer, "inbound")
        first = self._entry(rng, call, "ANSWER", rng.randrange(1, 60))
        self._second(rng, call, first, rng.choices(["ANSWER", "ABANDONE", "TIMEOUT"], [60, 30, 10])[0])
        call.outcome = "ANSWER"
        return call

    def _message(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        """Make a call that ends with a message after the queue."""
        call = GeneratedCall(at, customer, "inbound", "VOICEMAIL")
        first = self._entry(rng, call, rng.choice(["TIMEOUT", "EXIT"]), rng.randrange(20, 90))
        later = at + timedelta(seconds=first["RingTime"])
        self._row(rng, call, 11, "VOICEMAIL", 0, at=later, talk=True, CustomData=self._origin(rng, first))
        return call

    def _exit(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        """Make a call that leaves the queue by a key, for an extension."""
        call = GeneratedCall(at, customer, "inbound", rng.choices(["ANSWER", "NOANSWER"], [70, 30])[0])
        first = self._entry(rng, call, "EXIT", rng.randrange(20, 90))
        later = at + timedelta(seconds=first["RingTime"])
        origin, agent = self._origin(rng, first), rng.choice(self._agents)
        self._row(rng, call, 1, call.outcome, rng.randrange(2, 25), agent=agent, at=later, CustomData=origin)
        return call

    def _silent(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        """Make a call of the predictive dialer that the customer picks up and no agent takes."""
        call, ident = GeneratedCall(at, customer, "outbound", "ABANDONE"), self._call_id(rng, at)
        more: dict[str, Any] = {"CallID": ident, "_campaign_id": 502}
        self._row(rng, call, 17, "ANSWER", rng.randrange(4, 30), talk=True, **more)
        later = at + timedelta(seconds=rng.randrange(8, 40))
        self._row(rng, call, 19, "ABANDONE", rng.randrange(5, 40), at=later, to_agent=True, **more)
        return call

    def _withheld(self, rng: random.Random, at: datetime, _: str) -> GeneratedCall:
        """Make a call with a withheld number, in one of its spellings."""
        call = GeneratedCall(at, None, "inbound", rng.choices(["ANSWER", "ABANDONE"], [70, 30])[0])
        self._entry(rng, call, call.outcome, rng.randrange(1, 90), CallerNumber=rng.choice(_WITHHELD))
        return call

    def _toll_free(self, rng: random.Random, at: datetime, _: str) -> GeneratedCall:
        """Make a call to a toll-free number of another company, in one of its spellings."""
        short = f"1800{rng.randrange(10**6):06}"
        call = GeneratedCall(at, f"972{short}", "outbound", rng.choices(["ANSWER", "BUSY"], [80, 20])[0])
        number = rng.choice([short, f"972{short}", f"+972-1-800-{short[4:]}"])
        self._row(rng, call, 4, call.outcome, rng.randrange(3, 20), agent=rng.choice(self._agents), TargetNumber=number)
        return call

    def _unlogged(self, rng: random.Random, at: datetime, customer: str) -> GeneratedCall:
        """Make a call that an agent answers without being logged in: UserName names the user of the extension."""
        call = GeneratedCall(at, customer, "inbound", "ANSWER")
        self._entry(rng, call, "ANSWER", rng.randrange(1, 60), RepresentativeName="", RepresentativeCode="")
        call.agents.clear()
        return call

    def _entry(self, rng: random.Random, call: GeneratedCall, status: str, ring: int, **more: Any) -> dict[str, Any]:
        name, ident, department, _ = rng.choices(self._queues, [queue[3] for queue in self._queues])[0]
        agent = rng.choice(self._agents) if status == "ANSWER" else None
        return self._row(
            rng, call, 8, status, ring, agent=agent, QueueName=name, DepartmentName=department, _queue_id=ident, **more
        )

    def _second(self, rng: random.Random, call: GeneratedCall, first: dict[str, Any], status: str) -> None:
        """Let the call enter another queue; some calls keep their CallID, others name it."""
        at = call.at + timedelta(seconds=first["RingTime"] + first["Duration"])
        shared = rng.random() < 0.3
        link: dict[str, Any] = {"CallID": first["CallID"]} if shared else {"CustomData": self._origin(rng, first)}
        self._entry(rng, call, status, rng.randrange(5, 200), at=at, **link)
        call.outcome = status

    # -- a record

    def _call_id(self, rng: random.Random, at: datetime) -> str:
        made = (at - EPOCH) // timedelta(seconds=1) - rng.randrange(1, 4)
        return f"{call_id_time(made)}{rng.randrange(16**12):012x}"

    def _row(
        self,
        rng: random.Random,
        call: GeneratedCall,
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
        customer = call.customer or ""
        local_number = "0" + customer.removeprefix("972") if rng.random() < 0.6 else customer
        extension = agent.extension if agent else ""
        outward = extension or _MAIN
        shown = spoken or not (inbound or to_agent)  # the caller's side is there, answered or not
        record: dict[str, Any] = {
            "CallerNumber": local_number if inbound else _MAIN,
            "TargetNumber": outward if inbound or to_agent else customer,
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
    """Yield the local days whose calls can have records in the period."""
    day = start.astimezone(_ZONE).date() - timedelta(days=1)
    while day <= end.astimezone(_ZONE).date():
        yield day
        day += timedelta(days=1)
