"""Targets of queues: a service level and an abandonment rate to hold the numbers against."""

from __future__ import annotations

import difflib
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from attrs import field, frozen

from voicenter_cdr.calls import Outcome
from voicenter_cdr.calls.names import match_name
from voicenter_cdr.errors import ConfigurationError

__all__ = ["QueueEntry", "Target", "TargetResult", "evaluate_target", "read_targets"]


@frozen(kw_only=True)
class Target:
    """Target of a queue, or of all calls: 80 % answered within 20 seconds, or less than 5 % abandoned."""

    queue: str | None = field(default=None, repr=False)
    """Name of the queue; ``None`` for all of them together. Case and spaces around it don't matter."""
    service_level: float | None = None
    """Share, from 0 to 1, of queue entries to be answered within ``answer_within``."""
    answer_within: int = 20
    """Seconds of wait."""
    abandonment_rate: float | None = None
    """Largest share, from 0 to 1, of queue entries that may be abandoned."""

    def __attrs_post_init__(self) -> None:
        shares = [share for share in (self.service_level, self.abandonment_rate) if share is not None]
        if not shares:
            raise ConfigurationError("A target needs a service_level or an abandonment_rate")
        if not all(0 <= share <= 1 for share in shares):
            raise ConfigurationError("The share of a target is from 0 to 1", hint="Write 0.8 for 80 %.")
        if self.answer_within < 0:
            raise ConfigurationError("answer_within can't be negative")


@frozen(kw_only=True)
class TargetResult:
    """Result of one target: the value of the period, and the intervals that met it."""

    queue: str | None = field(repr=False)
    """Name of the queue; ``None`` for all of them together."""
    name: str
    """``service_level`` or ``abandonment_rate``."""
    answer_within: int | None
    """Seconds of the service level; ``None`` for an abandonment rate."""
    target: float
    """Share to be met."""
    value: float | None
    """Share of the period; ``None`` if nothing was counted."""
    met: bool | None
    """``True`` if the period met it; ``None`` if nothing was counted."""
    intervals_met: int
    """Number of intervals that met it."""
    intervals: int
    """Number of intervals with queue entries."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "queue": self.queue,
            "name": self.name,
            "answer_within": self.answer_within,
            "target": self.target,
            "value": self.value,
            "met": self.met,
            "intervals_met": self.intervals_met,
            "intervals": self.intervals,
        }


class QueueEntry(NamedTuple):
    """One leg on which a customer entered a queue."""

    queue: str | None
    interval: str
    """The local interval in which it began."""
    outcome: Outcome
    wait: float | None
    """Seconds; ``None`` if unknown."""


_QUEUED: Final = (Outcome.ANSWERED, Outcome.ABANDONED, Outcome.TIMED_OUT, Outcome.LEFT_QUEUE)


def evaluate_target(
    target: Target, entries: Mapping[QueueEntry, int], *, short_abandon: int = 0, lost_waits_unknown: bool = False
) -> list[TargetResult]:
    """Hold the queue entries of a period, and of each of its intervals, against a target.

    ``entries`` are given with their number. The shares are those of the report: of the service level the negative
    variant, in which entries that were abandoned count against it and answered ones of an unknown wait are left out;
    of the abandonment rate without waits below ``short_abandon``, which is unknown if those waits are.
    """
    meant = None
    if target.queue is not None:
        meant = match_name(target.queue, {entry.queue for entry in entries if entry.queue is not None})
    levels: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    losses: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for entry, number in entries.items():
        if (meant is not None and entry.queue not in meant) or entry.outcome not in _QUEUED:
            continue
        answered, lost = entry.outcome is Outcome.ANSWERED, entry.outcome is Outcome.ABANDONED
        if not answered or entry.wait is not None:
            in_time = answered and entry.wait is not None and entry.wait <= target.answer_within
            _count(levels[entry.interval], number, is_part=in_time)
        if not (lost and short_abandon and (lost_waits_unknown or entry.wait is None or entry.wait < short_abandon)):
            _count(losses[entry.interval], number, is_part=lost)
    if short_abandon and lost_waits_unknown:
        losses.clear()
    found = []
    if target.service_level is not None:
        found.append(_make_result(target, "service_level", target.service_level, levels))
    if target.abandonment_rate is not None:
        found.append(_make_result(target, "abandonment_rate", target.abandonment_rate, losses))
    return found


def _count(pair: list[int], number: int, *, is_part: bool) -> None:
    """Add to the number of all, and to that of those that the share is of."""
    pair[0] += number
    pair[1] += number if is_part else 0


def _make_result(target: Target, name: str, share: float, counts: Mapping[str, list[int]]) -> TargetResult:
    is_level = name == "service_level"
    values = [part / whole for whole, part in counts.values()]
    whole, part = (sum(pair[place] for pair in counts.values()) for place in (0, 1))
    value = part / whole if whole else None
    return TargetResult(
        queue=target.queue,
        name=name,
        answer_within=target.answer_within if is_level else None,
        target=share,
        value=value,
        met=None if value is None else value >= share if is_level else value <= share,
        intervals_met=sum(one >= share if is_level else one <= share for one in values),
        intervals=len(values),
    )


_KEYS: Final = frozenset({"service_level", "answer_within", "abandonment_rate"})


def read_targets(path: str | Path) -> tuple[Target, ...]:
    """Read targets from a TOML file: a table ``[all]`` for all queues together, a table ``[queues."Name"]`` for each.

    Each table may hold ``service_level`` and ``abandonment_rate``, shares from 0 to 1, and ``answer_within`` in
    seconds. Raises :class:`ConfigurationError` for a file that can't be read, and for anything else in it.
    """
    try:
        content = tomllib.loads(Path(path).read_text("utf-8-sig"))  # Windows' editor begins files with a mark
    except OSError as error:
        raise ConfigurationError(
            f"The targets can't be read: {error.strerror}", hint=f"Check the file {path}."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The targets in {path} are no TOML: {error}") from None
    if unknown := set(content) - {"all", "queues"}:
        raise ConfigurationError(
            f"Unknown in {path}: {', '.join(sorted(unknown))}",
            hint=_closest(unknown, ("all", "queues")) or 'Known: [all], [queues."Name"].',
        )
    queues = content.get("queues", {})
    if not isinstance(queues, dict):
        raise ConfigurationError(
            f"queues in {path} is no table", hint='Write [queues."Name"] above the targets of one.'
        )
    named = [(None, content["all"])] if "all" in content else []
    if not named and not queues:
        raise ConfigurationError(f"{path} holds no targets", hint='Write [all], or [queues."Name"] for one queue.')
    return tuple(_make_target(queue, table, path) for queue, table in [*named, *queues.items()])


def _closest(unknown: Iterable[object], known: Iterable[str]) -> str:
    """Return a "did you mean" question; empty if nothing is close."""
    close = [
        found for name in sorted(map(str, unknown)) for found in difflib.get_close_matches(name.lower(), known, n=1)
    ]
    return f"Did you mean {', '.join(close)}?" if close else ""


def _make_target(queue: str | None, table: object, path: str | Path) -> Target:
    name = "[all]" if queue is None else f'[queues."{queue}"]'
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{name} in {path} is no table")
    if unknown := set(table) - _KEYS:
        raise ConfigurationError(
            f"Unknown in {name} of {path}: {', '.join(sorted(map(str, unknown)))}",
            hint=_closest(unknown, _KEYS) or f"Known: {', '.join(sorted(_KEYS))}.",
        )
    for key, value in table.items():
        is_whole = key == "answer_within"
        if isinstance(value, bool) or not isinstance(value, int if is_whole else int | float):
            raise ConfigurationError(f"{key} in {name} of {path} is no {'whole ' if is_whole else ''}number")
    try:
        return Target(queue=queue, **table)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name} in {path}: {error.args[0]}", hint=error.hint) from None
