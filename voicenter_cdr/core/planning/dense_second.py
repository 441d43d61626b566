"""One second that holds more than a page: every way to ask for it, until all answers together are proven to be it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable, Iterable

from attrs import frozen

from voicenter_cdr.core.planning.windows import PageFacts, Trust, Window, is_cut, is_ordered, suffix
from voicenter_cdr.errors import DenseWindowError
from voicenter_cdr.models import CdrType

__all__ = ["Rung", "climb"]


@frozen
class Rung:
    """One more way to ask for the same second."""

    descending: bool = False
    kinds: tuple[int, ...] = ()
    by_id: bool = False


def _meet(up: PageFacts, down: PageFacts) -> bool:
    """Whether two answers, sorted by time and CallID both ways, overlap by more than ties could explain."""

    def keys(page: PageFacts) -> list[tuple[int, str]]:
        return [
            (second or 0, str(getattr(row, "call_id", row)))
            for second, row in zip(page.seconds, page.rows, strict=True)
        ]

    rising, falling = keys(up), keys(down)
    in_order = rising == sorted(rising) and falling == sorted(falling, reverse=True)
    first, last = set(rising), set(falling)
    # Where one order holds for all, what lies between the ends of both is in both. Two answers with the same rows show
    # no order at all: such a service may sort only what it has already chosen.
    between = {key for key in first if key >= falling[-1]}
    return in_order and first != last and len(between) > 1 and between == {key for key in last if key <= rising[-1]}


def climb(
    window: Window,
    first: PageFacts,
    *,
    cap: int,
    ceiling: int,
    kinds: tuple[int, ...],
    honest: bool,
    trust: Trust,
) -> Generator[Rung, PageFacts, list[int | None] | None]:
    """The ladder for a second whose ascending answer ``first`` is cut; yields what to ask, is sent the answers.

    Returns the seconds of all rows once all answers together hold them all, each as often as the answer that has it
    most often; ``None`` if a record changed meanwhile, so that nothing is sure; else raises :class:`DenseWindowError`.
    ``ceiling`` is what a capped total says at most, ``kinds`` are the call types the query is limited to. A union of
    types is believed only if the counts add up or the query names its types, since a type that nobody knows may exist.
    """
    seen: dict[Hashable, int | None] = {}
    often: Counter[Hashable] = Counter()
    keys: Counter[Hashable] = Counter()

    def note(page: PageFacts) -> PageFacts:
        seen.update(zip(page.rows, page.seconds, strict=True))
        often.update(Counter(page.rows) - often)
        keys.update(Counter(getattr(row, "key", row) for row in page.rows) - keys)
        return page

    def everything() -> list[int | None] | None:
        if often.total() != keys.total():  # two versions of one record, which no answer has both of
            return None
        return [second for row, second in seen.items() for _ in range(often[row])]

    note(first)
    down = note((yield Rung(descending=True, by_id=True)))
    if trust is Trust.EARNED and is_ordered(down, descending=True) and not suffix(window, down)[1]:
        return everything()
    up = note((yield Rung(by_id=True)))
    told = max((page.total for page in (first, down, up) if page.total is not None), default=None)
    total = told if told is not None and (honest or told > ceiling) else None
    if often.total() == total or (trust is Trust.EARNED and _meet(up, down)):
        return everything()
    sure = total is not None or bool(kinds)
    parts = [kinds or tuple(sorted({*map(int, CdrType), *_kinds_of(seen)}))] if sure else []
    while parts:
        part = parts.pop()
        page = note((yield Rung(kinds=part, by_id=True)))
        if not is_cut(page, cap=cap, honest=total is not None):
            continue
        if len(part) > 1:
            parts += (part[len(part) // 2 :], part[: len(part) // 2])
            continue
        other = note((yield Rung(kinds=part, descending=True, by_id=True)))
        sure = page.total is not None and page.total == (Counter(page.rows) | Counter(other.rows)).total() > ceiling
        if not sure:
            break
    if not sure or often.total() < (total or 0):
        known = Counter(second for second in seen.values() if second is not None)
        at = max(known, key=known.__getitem__, default=window.start)  # the rows of a neighbour may be what is too much
        raise DenseWindowError(window=Window(at, at + 1).times, hits=told, reached=often.total(), cap=cap)
    return everything()


def _kinds_of(rows: Iterable[object]) -> set[int]:
    kinds = (getattr(row, "cdr_type", None) for row in rows)
    return {int(kind) for kind in kinds if kind is not None}
