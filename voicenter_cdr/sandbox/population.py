"""The records a sandbox serves: any list of them, a file, or millions that are made on request."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import operator
from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

__all__ = ["Bulk", "Population", "Records", "load_jsonl"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE: Final = datetime(1970, 1, 1)
_ISRAEL: Final = ZoneInfo("Asia/Jerusalem")


class Population(Protocol):
    """Records in order of time."""

    @property
    def times(self) -> Sequence[int]:
        """Start of each record's call: milliseconds since 1970, UTC, ascending."""
        ...

    @property
    def appearances(self) -> Sequence[float] | None:
        """Time from which the service shows each record: seconds since 1970; ``None`` if all were always there."""
        ...

    def record(self, index: int) -> Mapping[str, Any]:
        """Return the record in the API's spelling. Keys that begin with ``_`` are never shown, only filtered by."""
        ...


def time_of(record: Mapping[str, Any]) -> int:
    """Return the stored time of a record, in milliseconds: from Date, else from DateEpoch."""
    folded = {str(key).lower(): value for key, value in record.items()}
    text = folded.get("date")
    if text:
        moment = datetime.fromisoformat(str(text))
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return (moment - EPOCH) // timedelta(milliseconds=1)
    return int(folded["dateepoch"]) * 1000


class Records:
    """Any records in the API's shape, in any order.

    ``appears`` says when each is shown first (seconds since 1970), in the order they are given. ``_queue_id`` and
    ``_campaign_id`` in a record are used by the filters of that name; they are never sent.
    :meth:`plus`, :meth:`without` and :meth:`changed` give new records for :meth:`Sandbox.replace`.
    """

    def __init__(self, records: Iterable[Mapping[str, Any]], *, appears: Iterable[float] | None = None) -> None:
        given = list(records)
        seen = list(appears) if appears is not None else None
        stored = [time_of(record) for record in given]
        order = sorted(range(len(given)), key=stored.__getitem__)
        self.times: Sequence[int] = array("q", [stored[index] for index in order])
        self.appearances: Sequence[float] | None = None if seen is None else array("d", [seen[i] for i in order])
        self._records = [given[index] for index in order]

    def record(self, index: int) -> Mapping[str, Any]:
        """As it was given."""
        return self._records[index]

    def plus(self, records: Iterable[Mapping[str, Any]], *, appears: float = 0.0) -> Records:
        """Return these and more, shown from ``appears`` on (seconds since 1970; 0 for always)."""
        more = list(records)
        seen = [*(self.appearances or [0.0] * len(self)), *[appears] * len(more)]
        return Records([*self._records, *more], appears=seen)

    def without(self, *indices: int) -> Records:
        """Return these without some."""
        kept = [index for index in range(len(self)) if index not in indices]
        return self._of([(index, self._records[index]) for index in kept])

    def changed(self, index: int, **fields: Any) -> Records:
        """Return the same with other values in one record, which moves if its Date changes."""
        spelled = {key.lower(): key for key in self._records[index]}
        new = {spelled.get(name.lower(), name): value for name, value in fields.items()}
        return self._of([(n, {**old, **new} if n == index else old) for n, old in enumerate(self._records)])

    def _of(self, numbered: list[tuple[int, Mapping[str, Any]]]) -> Records:
        seen = None if self.appearances is None else [self.appearances[index] for index, _ in numbered]
        return Records([record for _, record in numbered], appears=seen)

    def __len__(self) -> int:
        return len(self._records)


def load_jsonl(path: str | Path) -> Records:
    """Read the records of a file of JSON Lines, plain or gzip."""
    path = Path(path)
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        return Records(json.loads(line) for line in lines if line.strip())


def _in_order(times: array[int]) -> bool:
    return all(map(operator.le, times, itertools.islice(times, 1, None)))


def _bare(second: int) -> str:
    """Return a second since 1970 as ISO text without a zone; by far the fastest way to write one."""
    return (_NAIVE + timedelta(seconds=second)).isoformat()


@functools.lru_cache(maxsize=1024)
def _ahead(hour: int) -> int:
    """Seconds by which Israel is ahead of UTC in an hour since 1970; its clock changes on the hour."""
    offset = datetime.fromtimestamp(hour * 3600, _ISRAEL).utcoffset()
    return int(offset.total_seconds()) if offset else 0


def call_id_time(second: int) -> str:
    """Return the 14 digits a CallID begins with: Israel's local time (evidence: the document's own examples)."""
    text = _bare(second + _ahead(second // 3600))
    return f"{text[:4]}{text[5:7]}{text[8:10]}{text[11:13]}{text[14:16]}{text[17:]}"


class Bulk:
    """A record for every time given (milliseconds since 1970): only the times are kept, the rest is made from them.

    Eight bytes a record, so that millions fit into memory. The same times and ``seed`` give the same records.
    """

    appearances: Sequence[float] | None = None

    def __init__(self, times: Iterable[int], *, seed: int = 0) -> None:
        stored = array("q", times)
        self.times: Sequence[int] = stored if _in_order(stored) else array("q", sorted(stored))
        self._seed = seed

    def record(self, index: int) -> Mapping[str, Any]:
        """Return a plausible call, the same at every request."""
        mixed = (index * 2_654_435_761 + self._seed * 40_503) % 2**32
        second = self.times[index] // 1000
        answered = mixed % 5 > 0
        agent = mixed % 37
        return {
            "CallerNumber": f"9725{mixed % 10**8:08}",
            "TargetNumber": "0722776772",
            "Date": f"{_bare(second)}Z",
            "DateEpoch": second,
            "Duration": mixed % 600 if answered else 0,
            "CallID": f"{call_id_time(second - 2)}{index:010x}{mixed:08x}",
            "Type": "Queue",
            "CdrType": 8,
            "DialStatus": "ANSWER" if answered else "ABANDONE",
            "TargetExtension": f"ext{agent:02}" if answered else "",
            "CallerExtension": "",
            "DID": "0722776772",
            "QueueName": f"Queue {mixed % 6}",
            "RecordURL": f"https://cpanel.voicenter.co.il/CallsHistory/PlayRecord/{index:x}.mp3" if answered else "",
            "RecordExpect": answered,
            "Price": mixed % 30,
            "RingTime": mixed % 90,
            "RepresentativeName": f"Agent {agent}" if answered else "",
            "RepresentativeCode": f"{40_000 + agent}" if answered else "",
            "UserName": f"Agent {agent}" if answered else "",
            "DTMFData": [{"LayerName": "Main menu", "DTMF": mixed % 4, "LayerNumber": "0"}],
            "CustomData": {"var_clientID": str(mixed % 100_000)},
            "DepartmentName": f"Department {mixed % 3}",
            "DepartmentId": 100 + mixed % 3,
            "TargetPrefixName": "Israel",
            "_queue_id": 100 + mixed % 6,
        }

    def __len__(self) -> int:
        return len(self.times)
