"""The records a sandbox serves: any list of them, a file, or millions made as they are asked for."""

from __future__ import annotations

import gzip
import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Bulk", "Population", "Records", "load_jsonl"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Population(Protocol):
    """Records in order of time."""

    @property
    def times(self) -> Sequence[int]:
        """When each record's call was made: milliseconds since 1970, UTC, ascending."""
        ...

    @property
    def appearances(self) -> Sequence[float] | None:
        """When the service begins to show each record: seconds since 1970; ``None`` if all were always there."""
        ...

    def record(self, index: int) -> Mapping[str, Any]:
        """The record in the API's spelling. Keys that begin with ``_`` are never shown, only filtered by."""
        ...


def time_of(record: Mapping[str, Any]) -> int:
    """The stored time of a record, in milliseconds: from Date, else from DateEpoch."""
    folded = {str(key).lower(): value for key, value in record.items()}
    text = folded.get("date")
    if text:
        moment = datetime.fromisoformat(str(text))
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return (moment - EPOCH) // timedelta(milliseconds=1)
    return int(folded["dateepoch"]) * 1000


class Records:
    """Any records in the API's shape, in any order.

    ``appears`` says when each is shown first (seconds since 1970), in the order they are given.
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

    def __len__(self) -> int:
        return len(self._records)


def load_jsonl(path: str | Path) -> Records:
    """The records of a file of JSON Lines, plain or gzip."""
    path = Path(path)
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        return Records(json.loads(line) for line in lines if line.strip())


class Bulk:
    """A record for every time given (milliseconds since 1970): only the times are kept, the rest is made from them."""

    appearances: Sequence[float] | None = None

    def __init__(self, times: Iterable[int], *, seed: int = 0) -> None:
        self.times: Sequence[int] = array("q", sorted(times))
        self._seed = seed

    def record(self, index: int) -> Mapping[str, Any]:
        """A plausible call, the same whenever it is asked for."""
        mixed = (index * 2_654_435_761 + self._seed * 40_503) % 2**32
        stored = self.times[index]
        answered = mixed % 5 > 0
        agent = mixed % 37
        return {
            "CallerNumber": f"9725{mixed % 10**8:08}",
            "TargetNumber": "0722776772",
            "Date": (EPOCH + timedelta(milliseconds=stored)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "DateEpoch": stored // 1000,
            "Duration": mixed % 600 if answered else 0,
            "CallID": f"{stored // 1000:014}{index:010x}{mixed:08x}",
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
        }

    def __len__(self) -> int:
        return len(self.times)
