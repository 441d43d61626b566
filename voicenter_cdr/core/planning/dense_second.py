"""One second with more rows than a page: ask for it in every way until everything seen is as much as was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable, Sequence

from attrs import frozen

from voicenter_cdr.core.planning.windows import PageInfo, Window, is_complete
from voicenter_cdr.errors import DenseWindowError
from voicenter_cdr.models import CdrType

__all__ = ["DenseSecondRequest", "enumerate_dense_second"]


@frozen(kw_only=True)
class DenseSecondRequest:
    """One more way to ask for the same second, or (``first`` to ``last``) for its neighbour alone."""

    descending: bool = False
    tie_break_by_call_id: bool = True
    cdr_types: tuple[int, ...] = ()
    first: int | None = None
    last: int | None = None


def enumerate_dense_second(
    second: int, page: PageInfo, *, page_cap: int, cdr_types: tuple[int, ...], least_total: int, largest_total: int
) -> Generator[DenseSecondRequest, PageInfo, PageInfo | None]:
    """Yield requests for a second whose answer ``page`` is truncated, and be sent the answers (rule 8).

    Returns one page of everything seen, each row as often as the answer that has it most often; ``None`` if a record
    changed meanwhile, so that versions and records can't be distinguished. Raises :class:`DenseWindowError` where
    something may be left unseen. ``cdr_types``: those the query names. A total counts below ``largest_total`` (rule 4)
    and from ``least_total`` on, the largest total seen for this second.
    """
    second_of: dict[Hashable, int | None] = {}
    seen: Counter[Hashable] = Counter()
    keys: Counter[Hashable] = Counter()  # what of a row stays when its record changes
    most_counted = least_total
    total = page.counted if page.counted and page.counted >= least_total else None
    is_below = total is not None and total < largest_total

    def collect(answer: PageInfo) -> PageInfo:
        nonlocal most_counted
        most_counted = max(most_counted, answer.counted or 0)
        second_of.update(zip(answer.rows, answer.seconds, strict=True))
        seen.update(Counter(answer.rows) - seen)
        keys.update(Counter(getattr(row, "key", row) for row in answer.rows) - keys)
        return answer

    def merge(without: Sequence[int] = ()) -> PageInfo:
        rows = [row for row in seen.elements() if second_of[row] not in without]
        return PageInfo([second_of[row] for row in rows], rows=rows)

    collect(page)
    ends: list[PageInfo] = []
    for descending in (True, False):  # by CallID within the second, so that the two orders show two ends of it
        answer = collect((yield DenseSecondRequest(descending=descending)))
        if answer.total != page.total or seen.total() > keys.total():
            return None
        ends.append(answer)
        # Two ends that meet leave nothing between. A total that may be a ceiling takes an order that both ends share.
        is_met = total is not None and seen.total() == total < len(page.rows) + len(answer.rows)
        if is_met and (is_below or (len(ends) == 2 and _share_order(*ends))):
            return merge()
        low, high = max(page.known_seconds, default=1), min(answer.known_seconds, default=0)
        if total and is_below and None not in second_of.values() and low <= high and not low <= second <= high:
            # What no answer reached lies in the neighbour alone, whose own total identifies it.
            rest = merge(range(low, high + 1))
            neighbour = (yield DenseSecondRequest(first=low, last=high)).counted
            if neighbour is not None and len(rest.rows) + neighbour == total:
                return rest
    if not is_below:
        total = None  # it may be a ceiling
    # A type nobody knows may exist: without a total, parts are the whole only if the query names its types.
    is_sure = bool(total or cdr_types)
    known_types = {int(kind) for row in seen if (kind := getattr(row, "cdr_type", None)) is not None}
    parts = [cdr_types or tuple(sorted({*map(int, CdrType), *known_types}))] if is_sure else []
    parts_total, leaves_total = None, 0
    while parts:
        part = parts.pop()
        answer = collect((yield DenseSecondRequest(cdr_types=part)))
        if is_complete(answer, page_cap=page_cap):
            leaves_total += len(answer.rows)
            if any(getattr(row, "cdr_type", None) in part for row in seen.keys() - set(answer.rows)):
                return None  # one that was there is gone
            continue
        parts_total = answer.total if parts_total is None else parts_total
        if len(part) > 1:
            parts += (part[len(part) // 2 :], part[: len(part) // 2])
            continue
        other = collect((yield DenseSecondRequest(cdr_types=part, descending=True)))
        leaves_total += answer.total or 0
        is_sure = answer.total == (Counter(answer.rows) | Counter(other.rows)).total() < largest_total
        if not is_sure:
            break
    again = collect((yield DenseSecondRequest())) if total else page
    if total and is_sure and parts_total not in (None, leaves_total):
        return None
    if again.total != page.total or seen.total() > keys.total() or (total and max(most_counted, seen.total()) > total):
        return None  # something came, went or changed meanwhile
    if seen.total() < total if total else not is_sure:
        crowd = Counter(at for at in second_of.values() if at is not None)
        at = max(crowd, key=crowd.__getitem__, default=second)  # the rows of a neighbour may be what is too much
        window, reached = Window(at, at + 1).times, seen.total()
        raise DenseWindowError(window=window, hits=page.total, reached=reached, cap=page_cap)
    return merge()


def _share_order(descending: PageInfo, ascending: PageInfo) -> bool:
    """Tell if both answers are sorted by time and CallID, and show the same of where they overlap."""

    def keys(page: PageInfo) -> list[tuple[int, str]]:
        return [(at or 0, str(getattr(row, "call_id", row))) for at, row in zip(page.seconds, page.rows, strict=True)]

    rising, falling = keys(ascending), keys(descending)
    if not rising or not falling or rising != sorted(rising) or falling != sorted(falling, reverse=True):
        return False
    between = {key for key in rising if key >= falling[-1]}
    # Rows that share the only key in the overlap may be cut by both answers, and then some lie between.
    is_key_unique = len({*rising}) == len(rising) and len({*falling}) == len(falling)
    return (
        len(between) > (0 if is_key_unique else 1)
        and set(rising) != set(falling)
        and between == {key for key in falling if key <= rising[-1]}
    )
