"""One second with more rows than a page: ask for it in every way until everything seen is as much as was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable, Sequence

from attrs import evolve

from voicenter_cdr.core.planning.pages import PageInfo, is_complete
from voicenter_cdr.core.planning.windows import Window, WindowRequest
from voicenter_cdr.errors import DenseWindowError, IncompleteError
from voicenter_cdr.models import CdrType

__all__ = ["enumerate_dense_second"]


def enumerate_dense_second(
    request: WindowRequest, page: PageInfo, *, page_cap: int, cdr_types: tuple[int, ...], largest_total: int
) -> Generator[WindowRequest, PageInfo, PageInfo]:
    """Yield requests for a second whose response ``page`` to ``request`` is truncated; be sent the responses (rule 8).

    Returns one page of everything seen, each row as often as the response that has it most often. Raises
    :class:`DenseWindowError` where something may be left unseen, :class:`IncompleteError` where records change faster
    than they can be read. ``cdr_types``: those the query names. A total counts below ``largest_total`` (rule 4).
    """
    for _ in range(4):
        whole = yield from _enumerate(request, page, page_cap, cdr_types, largest_total)
        if whole is not None:
            return whole
        # Something came, went or changed meanwhile: versions and records can't be distinguished: begin again.
        page = yield request
        if is_complete(page, page_cap=page_cap):
            return page
    raise IncompleteError(
        "Records of a crowded second change faster than they can be read",
        window=request.window.times,
        hint="Run it again later, when its calls are over.",
    )


def _enumerate(
    request: WindowRequest, page: PageInfo, page_cap: int, cdr_types: tuple[int, ...], largest_total: int
) -> Generator[WindowRequest, PageInfo, PageInfo | None]:
    """Enumerate once; ``None`` where something changed meanwhile."""
    by_call_id = evolve(request, tie_break_by_call_id=True)
    second_of: dict[Hashable, int | None] = {}
    seen: Counter[Hashable] = Counter()
    keys: Counter[Hashable] = Counter()  # what of a row stays when its record changes
    totals: list[int] = []
    counted = page.counted or 0
    total = counted if counted < largest_total else 0  # it may be a ceiling

    def collect(answer: PageInfo) -> PageInfo:
        totals.append(answer.counted or 0)
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
        answer = collect((yield evolve(by_call_id, descending=descending)))
        if answer.total != page.total or seen.total() > keys.total():
            return None
        ends.append(answer)
        # Two ends that meet leave nothing between. A total that may be a ceiling takes an order that both ends share.
        is_met = 0 < seen.total() == counted < len(page.rows) + len(answer.rows)
        if is_met and (total or (len(ends) == 2 and _share_order(*ends))):
            return merge()
        low, high = max(page.known_seconds, default=1), min(answer.known_seconds, default=0)
        is_beside = low <= high and not low <= request.window.start <= high
        if total and is_beside and None not in second_of.values():
            # What no response reached lies in the neighbour alone, whose own total identifies it.
            rest = merge(range(low, high + 1))
            neighbour = (yield evolve(by_call_id, first=low, last=high)).counted
            if neighbour is not None and len(rest.rows) + neighbour == total:
                return rest
    # A type nobody knows may exist: without a total, parts are the whole only if the query names its types.
    is_sure = bool(total or cdr_types)
    known_types = {int(kind) for row in seen if (kind := getattr(row, "cdr_type", None)) is not None}
    parts = [cdr_types or tuple(sorted({*map(int, CdrType), *known_types}))]
    while parts and is_sure:
        part = parts.pop()
        answer = collect((yield evolve(by_call_id, cdr_types=part)))
        if is_complete(answer, page_cap=page_cap):
            if any(getattr(row, "cdr_type", None) in part for row in seen.keys() - set(answer.rows)):
                return None  # one that was there is gone
            continue
        if len(part) > 1:
            parts += (part[len(part) // 2 :], part[: len(part) // 2])
            continue
        other = collect((yield evolve(by_call_id, cdr_types=part, descending=True)))
        if other.total != answer.total:
            return None  # one came or went meanwhile
        is_sure = answer.total == (Counter(answer.rows) | Counter(other.rows)).total() < largest_total
    again = collect((yield by_call_id)) if total else page
    if again.total != page.total or seen.total() > keys.total() or (total and max(*totals, seen.total()) > total):
        return None  # something came, went or changed meanwhile
    if seen.total() < total if total else not is_sure:
        crowd = Counter(at for at in second_of.values() if at is not None).most_common(1)
        at = crowd[0][0] if crowd else request.window.start  # the rows of a neighbour may be what is too much
        raise DenseWindowError(window=Window(at, at + 1).times, hits=page.total, reached=seen.total(), cap=page_cap)
    return merge()


def _share_order(descending: PageInfo, ascending: PageInfo) -> bool:
    """Return ``True`` if both responses are sorted by time and CallID, and show the same of where they overlap."""
    rising, falling = (
        [(at or 0, str(getattr(row, "call_id", row))) for at, row in zip(page.seconds, page.rows, strict=True)]
        for page in (ascending, descending)
    )
    if not rising or not falling or rising != sorted(rising) or falling != sorted(falling, reverse=True):
        return False
    shared = {key for key in rising if key >= falling[-1]}
    # One shared key is the last of both responses: more rows with it may be cut by both, and lie between.
    return len(shared) > 1 and set(rising) != set(falling) and shared == {key for key in falling if key <= rising[-1]}
