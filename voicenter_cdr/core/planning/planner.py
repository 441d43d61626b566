"""What to ask next, chosen when a request may go out: pieces of the period, from what is open to what is handed out.

Where to cut, how many pages to hold, which end to ask: those are choices, and a guess about density is only a guess.
That nothing is lost or repeated hangs on none of them, but on the proof in :mod:`voicenter_cdr.windows`.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Final

from attrs import define, field, frozen

from voicenter_cdr.core.planning.dense_second import Rung, climb
from voicenter_cdr.core.planning.windows import (
    DAY,
    PageFacts,
    Trust,
    Window,
    check_clock,
    is_cut,
    is_ordered,
    prefix,
    suffix,
)
from voicenter_cdr.errors import CountMismatchError, IncompleteError, OutOfRangeError
from voicenter_cdr.models.results import PAGE_CAP

__all__ = ["Ask", "Plan", "Verdict"]

_ROOM: Final = 0.8
"""Part of a page a split aims to fill, where the total is honest."""

_BLOCK: Final = 2 / 3
"""Part of the pages that may be held that one block takes, when records are handed out in order."""

_SPARE: Final = 0.25
"""Part of a page by which a block stays below whole pages, so that its two ends meet with little left over."""

_GUESS: Final = 1.2
"""Pages that must be left of a window, by a guess, before its other end is worth a request of its own."""


@define(eq=False)
class _Root:
    """One window as it was given, and the counts that are held against it at the end.

    The total counts the neighbouring seconds in: ``front`` and ``back`` are their rows, infinite where unseen.
    """

    window: Window
    total: int | None = None
    got: int = 0
    front: float = 0
    back: float = 0
    recounted: bool = False

    @property
    def short(self) -> bool:
        return self.total is not None and self.got + self.front + self.back < self.total


class _Step(enum.Enum):
    PAGE = enum.auto()
    TWIN = enum.auto()
    REST = enum.auto()
    RECOUNT = enum.auto()
    GONE = enum.auto()


@define(eq=False)
class _Piece:
    """A part of the period that is open, or proven and waiting to be handed out. Pieces tile what is left of it.

    An open piece is worked on from both ends: what answers prove is split off, what remains is still this piece.
    """

    window: Window
    root: _Root
    hits: float | None = None
    counted: bool = False
    rows: int | None = None
    up: bool = False
    down: bool = False
    step: _Step = _Step.PAGE
    doubts: int = 0
    first: PageFacts | None = None
    ladder: Generator[Rung, PageFacts, list[int | None] | None] | None = None
    rung: Rung = field(factory=Rung)

    @property
    def proven(self) -> bool:
        return self.rows is not None

    @property
    def flying(self) -> int:
        return self.up + self.down


@frozen(eq=False)
class Ask:
    """One request to send."""

    window: Window
    """What the answer is asked about; send :attr:`Window.asked`."""
    piece: _Piece = field(repr=False)
    """The plan's own note; also the handle under which answers are held."""
    descending: bool = False
    """Latest first."""
    kinds: tuple[int, ...] = ()
    """Call types to narrow the query to; none for the query's own."""
    by_id: bool = False
    """Sort by CallID within a second, too."""
    whole_rows: bool = False
    """Ask for every field, since rows are compared."""

    @classmethod
    def single(cls, window: Window, *, descending: bool = False) -> Ask:
        """An ask of no plan."""
        return cls(window, _Piece(window, _Root(window)), descending)


@frozen
class Verdict:
    """What to do with an answer's rows."""

    keep: tuple[Window, ...] = ()
    """Rows of these windows are proven."""
    keep_held: tuple[Window, ...] = ()
    """Rows of these windows are proven in the answer that was held for the same piece."""
    hold: bool = False
    """Hold this answer until the next one of its piece."""
    merge: tuple[Window, ...] = ()
    """Every different row of this and all held answers is proven for these windows."""


class Plan:
    """Walks windows to the end: :meth:`take` what to ask, give the :meth:`answer`, hand out what is :meth:`ready`.

    ``cap``: rows an answer can hold. ``kinds``: call types the query is limited to. ``in_order``: hand out in order of
    time; else as windows are proven. ``hold``: pages that may be proven or in flight and not handed out, besides the
    earliest. ``lanes``: requests that are in flight at once.

    Raises :class:`IncompleteError` (and its kinds) where completeness can't be shown, and passes on
    :class:`OutOfRangeError` where a day or less is refused.
    """

    def __init__(
        self,
        windows: Iterable[Window],
        *,
        cap: int = PAGE_CAP,
        kinds: tuple[int, ...] = (),
        in_order: bool = True,
        hold: int = 12,
        lanes: int = 1,
    ) -> None:
        self.cap = cap
        self.trust = Trust.UNKNOWN
        self.honest = False
        self.proven = 0
        self._kinds = kinds
        self._in_order = in_order
        self._hold = hold
        self._lanes = lanes
        self._lowered = False
        self._ceiling = cap
        self._again: set[Window] = set()
        self._max_span: int | None = None
        self._rows = 0
        self._span = 0
        self._pieces = [_Piece(window, _Root(window)) for window in windows]
        self._roots = [piece.root for piece in self._pieces]

    # -- what is left

    @property
    def done(self) -> bool:
        """Whether everything is proven, handed out and counted."""
        return not self._pieces and not any(root.short for root in self._roots)

    @property
    def open(self) -> tuple[Window, ...]:
        """What was not handed out yet, in order."""
        return tuple(piece.window for piece in self._pieces)

    @property
    def expected(self) -> int | None:
        """How many rows the service said there are, if it said so of all."""
        totals = [root.total if root.total is not None else root.got for root in self._roots]
        known = all(root.total is not None or not self._left(root) for root in self._roots)
        return sum(totals) if known else None

    @property
    def remaining(self) -> float | None:
        """How many answers the rest will need, about; ``None`` as long as nothing is known of it."""
        left = [piece for piece in self._pieces if not piece.proven]
        if left and not self._span and any(piece.root.total is None for piece in left):
            return None
        by_root = {id(piece.root): 0.0 for piece in left}
        for piece in left:
            by_root[id(piece.root)] += self._estimate(piece)
        told = {id(piece.root): piece.root.total - piece.root.got for piece in left if piece.root.total is not None}
        return sum(told.get(root, guess) for root, guess in by_root.items()) / self.cap

    def _left(self, root: _Root) -> bool:
        return any(piece.root is root and not piece.proven for piece in self._pieces)

    def ready(self) -> Iterator[Window]:
        """Windows to hand out now; each is forgotten when the next is asked for."""
        at = 0
        while at < len(self._pieces):
            piece = self._pieces[at]
            if piece.proven:
                yield piece.window
                self._pieces.remove(piece)
            elif self._in_order:
                return
            else:
                at += 1

    # -- asking

    def take(self) -> Ask | None:
        """The next request, chosen now; ``None`` while nothing can be asked."""
        piece = self._next()
        if piece is None:
            return self._recount()
        self._shorten(piece)
        if self.trust is Trust.EARNED and self._lanes > 1:
            self._cut_off(piece)
        whole_rows = piece.window.span == 1
        if piece.ladder is not None:
            piece.up, rung = True, piece.rung
            return Ask(piece.window, piece, rung.descending, rung.kinds, rung.by_id, whole_rows)
        if piece.step is _Step.REST and piece.first is not None:
            piece.up = True
            return Ask(prefix(piece.window, piece.first)[1][0], piece)
        if piece.step is _Step.TWIN or piece.up:
            piece.down = True
            return Ask(piece.window, piece, descending=True)
        piece.up = True
        return Ask(piece.window, piece, whole_rows=whole_rows)

    @property
    def has_work(self) -> bool:
        """Whether :meth:`take` would find something to ask."""
        return bool(self._next() or self._short_root())

    def _next(self) -> _Piece | None:
        """The earliest piece that can do with a request, if what it may bring can be held."""
        taken = sum(piece.flying + (piece.rows or 0) / self.cap for piece in self._pieces)
        for place, piece in enumerate(self._pieces):
            if place and taken > self._hold:
                return None
            if not piece.proven and self._wants(piece):
                return piece
        return None

    def _wants(self, piece: _Piece) -> bool:
        if not piece.flying:
            return True
        if piece.window.span == 1:  # a second that is cut climbs a ladder, for which nothing else may be in flight
            return False
        both_ends = self.trust is Trust.EARNED and self._lanes > 1
        if piece.flying > 1 or not both_ends or piece.step is not _Step.PAGE or piece.ladder is not None:
            return False
        return self._estimate(piece) > self.cap * (1.0 if piece.counted else _GUESS)

    def _cut_off(self, piece: _Piece) -> None:
        """Keep a piece to a block that its two ends can finish; what comes after is a piece of its own."""
        pages = self._estimate(piece) / self.cap
        block = max(2, math.floor(self._hold * _BLOCK)) - _SPARE
        if not self._in_order:
            working = sum(not other.proven for other in self._pieces)
            block = pages / 2 if working < math.ceil(self._lanes / 2) else pages
        cut = piece.window.start + int(piece.window.span * block / pages) if pages else piece.window.stop
        if piece.down or pages < max(4.0, 1.5 * block) or not piece.window.start < cut < piece.window.stop:
            return
        rest = _Piece(Window(cut, piece.window.stop), piece.root)
        if piece.hits is not None:
            rest.hits, piece.hits = (pages - block) * self.cap, block * self.cap
        self._pieces.insert(self._pieces.index(piece) + 1, rest)
        piece.window, piece.counted = Window(piece.window.start, cut), False

    @property
    def _density(self) -> float:
        """Rows a second in everything proven so far: a burst misleads it for a while only."""
        return self._rows / self._span if self._span else 0.0

    def _estimate(self, piece: _Piece) -> float:
        guess = piece.hits if piece.hits is not None else self._density * piece.window.span
        total = piece.root.total
        return guess if total is None else min(guess, total - piece.root.got)

    def _shorten(self, piece: _Piece) -> None:
        """Keep to the longest period the service has not refused."""
        if self._max_span is not None and not piece.flying and piece.window.span > self._max_span:
            middle = piece.window.start + self._max_span
            rest = Window(middle, piece.window.stop)
            piece.window = Window(piece.window.start, middle)
            counted = piece.root.total is not None
            self._pieces.insert(
                self._pieces.index(piece) + 1, _Piece(rest, piece.root if counted else self._root(rest))
            )
            piece.root = piece.root if counted else self._root(piece.window)

    def _root(self, window: Window) -> _Root:
        root = _Root(window)
        self._roots.append(root)
        return root

    def _short_root(self) -> _Root | None:
        return next((r for r in self._roots if r.short and not r.recounted and not self._left(r)), None)

    def _recount(self) -> Ask | None:
        """Before rows are called missing, ask for the total once more: some may have vanished since."""
        root = self._short_root()
        if root is None:
            return None
        root.recounted = True
        return Ask(root.window, _Piece(root.window, root, step=_Step.RECOUNT))

    # -- answers

    def refused(self, ask: Ask, error: OutOfRangeError) -> None:
        """The service answered that the period is out of range: it may be too long."""
        if ask.window.span <= DAY:
            raise error
        if ask.piece.step is _Step.RECOUNT:  # what is missing can't be counted again
            root = ask.piece.root
            raise CountMismatchError(root.total or 0, root.got, window=root.window.times)
        span = (ask.window.span + 1) // 2
        self._max_span = min(self._max_span or span, span)
        ask.piece.up = ask.piece.down = False
        ask.piece.step, ask.piece.first = _Step.PAGE, None

    def answer(self, ask: Ask, page: PageFacts) -> Verdict:
        """Judge the answer to ``ask``."""
        piece = ask.piece
        check_clock(ask.window, page)
        piece.up, piece.down = (piece.up, False) if ask.descending and not piece.ladder else (False, piece.down)
        if piece.step is _Step.GONE:
            return Verdict()
        if piece.step is _Step.RECOUNT:
            return self._on_recount(piece, page)
        self.honest |= page.total is not None and page.total > self._ceiling
        if self._doubtful(ask, page):
            piece.doubts += 1
            return Verdict()
        piece.doubts = 0
        if piece.ladder is not None:
            return self._on_ladder(piece, page)
        if not is_cut(page, cap=self.cap, honest=self.honest):
            return self._on_whole(ask, page)
        if self.honest and piece.root.total is None and ask.window == piece.root.window:
            piece.root.total = page.total
        match piece.step:
            case _Step.TWIN:
                return self._on_twin(piece, page)
            case _Step.REST:
                piece.step, piece.first = _Step.PAGE, None
                return self._replace(piece, (ask.window.start,))
        return self._on_cut(ask, page)

    def holds(self, ask: Ask) -> bool:
        """Whether answers held for the ask's piece are still needed."""
        return ask.piece.first is not None

    def _doubtful(self, ask: Ask, page: PageFacts) -> bool:
        """Whether the answer's counts contradict it: then ask once more, and if it stays, say so.

        A service whose cap is lower than thought looks like that, too: its first such answer tells the cap.
        """
        rows = len(page.seconds)
        total = rows if page.total is None else page.total
        returned = rows if page.returned is None else page.returned
        if returned == rows and (total == rows or (total > rows >= self.cap)):
            return False
        if not ask.piece.doubts:
            return True
        if returned == rows and total > rows > 0 and not self._lowered:
            self._lowered = True
            self.cap = rows
            return False
        raise CountMismatchError(total if returned == rows else returned, rows, window=ask.window.times)

    def _on_whole(self, ask: Ask, page: PageFacts) -> Verdict:
        """A complete answer; where it is the rest of a cut one, the counts of both may earn the trust."""
        piece = ask.piece
        first, piece.first = piece.first, None
        if piece.step is not _Step.REST or first is None:
            whole = piece.window
            self._prove(piece, page, keep=(whole,))
            return Verdict(keep=(whole,))
        piece.step = _Step.PAGE
        (before,), (rest,) = prefix(piece.window, first)
        rows = sum(second < rest.start for second in first.known)
        rows += sum(second >= rest.start for second in page.known)
        if rows != first.total:  # too few: a hole; too many: a row came meanwhile, and may hide one
            self.trust = Trust.LOST if rows < (first.total or 0) else self.trust
            self._prove(piece, page, keep=(rest,))
            return Verdict(keep=(rest,))
        self.trust = Trust.EARNED
        self._prove(piece, page, keep=(rest,), held=first, keep_held=(before,))
        return Verdict(keep=(rest,), keep_held=(before,))

    def _on_cut(self, ask: Ask, page: PageFacts) -> Verdict:
        piece = ask.piece
        if not is_ordered(page, descending=ask.descending):
            self.trust = Trust.LOST
        if self.trust is Trust.LOST:
            return self._split(piece, page)
        keep, rest = (suffix if ask.descending else prefix)(piece.window, page)
        if self.trust is Trust.EARNED and keep:
            kept = keep[0].owns(page.known)
            known = self.honest and ask.window == piece.window and page.total is not None
            left = (page.total or 0) - kept if known else None if piece.hits is None else max(0.0, piece.hits - kept)
            self._prove(piece, page, keep=keep)
            piece.hits, piece.counted = left, known
            return Verdict(keep=keep)
        if self.trust is Trust.EARNED or piece.window.span == 1:
            return self._isolate(piece, page)
        behind = (page.total or 0) - len(page.seconds) if self.honest else self.cap
        piece.step = _Step.REST if keep and rest and behind < 0.9 * self.cap else _Step.TWIN
        piece.first = page
        return Verdict(hold=True)

    def _on_twin(self, piece: _Piece, page: PageFacts) -> Verdict:
        first = piece.first or page
        piece.step, piece.first = _Step.PAGE, None
        last, begin = max(first.known, default=0), min(page.known, default=0)
        told = self.honest and first.total is not None and first.total >= len(first.seconds) + len(page.seconds)
        if not is_ordered(page, descending=True) or (last > begin and told):
            self.trust = Trust.LOST
        if last >= begin or first.total != page.total or self.trust is Trust.LOST:
            return self._split(piece, first)
        self.trust = Trust.EARNED
        before, rest = prefix(piece.window, first)
        behind, _ = suffix(rest[0], page)
        left = float(first.total - len(first.seconds) - len(page.seconds)) if self.honest and first.total else None
        seen = len(first.seconds) / max(1, last - piece.window.start)
        far = seen * (begin - last) if left is None else left
        if self._in_order and far > (self._hold - 3) * self.cap:
            behind, left = (), left and left + len(page.seconds)
        self._prove(piece, page, keep=behind, held=first, keep_held=before)
        piece.hits, piece.counted = left, left is not None
        return Verdict(keep=behind, keep_held=before)

    def _isolate(self, piece: _Piece, page: PageFacts) -> Verdict:
        """A page that ends within its window's first second: set that second apart, or climb the ladder."""
        if piece.window.span > 1:
            return self._replace(piece, (piece.window.start + 1,))
        if piece.flying or len(page.rows) < len(page.seconds):  # what came or is to come for it is no rung
            return self._replace(piece, ())
        piece.first = page
        piece.ladder = climb(
            piece.window,
            page,
            cap=self.cap,
            ceiling=self._ceiling,
            kinds=self._kinds,
            honest=self.honest,
            trust=self.trust,
        )
        piece.rung = next(piece.ladder)
        return Verdict(hold=True)

    def _on_ladder(self, piece: _Piece, page: PageFacts) -> Verdict:
        assert piece.ladder is not None
        try:
            piece.rung = piece.ladder.send(page)
        except StopIteration as done:
            piece.first = None
            window = piece.window
            if done.value is None:
                return self._climb_again(piece)
            self._prove(piece, PageFacts(done.value), keep=(window,))
            self._unsure(piece.root, window)
            return Verdict(merge=(window,))
        return Verdict(hold=True)

    def _climb_again(self, piece: _Piece) -> Verdict:
        """Records changed between two answers, so that versions can't be told from records: once more, from below."""
        if piece.window in self._again:
            raise IncompleteError(
                "Records of a crowded second change faster than they can be read",
                window=piece.window.times,
                hint="Run it again later, when its calls are over.",
            )
        self._again.add(piece.window)
        return self._replace(piece, ())

    def _unsure(self, root: _Root, window: Window) -> None:
        """A ladder need not have seen the whole of the neighbouring seconds."""
        root.front = math.inf if window.start == root.window.start else root.front
        root.back = math.inf if window.stop == root.window.stop else root.back

    def _on_recount(self, piece: _Piece, page: PageFacts) -> Verdict:
        root = piece.root
        cut = is_cut(page, cap=self.cap, honest=self.honest)
        total = page.total if cut else len(page.seconds)
        if total is not None:  # a cut answer without a total counts nothing
            root.total = min(total, root.total or total)
        if root.short:
            missed = (root.total or 0) - int(root.front + root.back)
            raise CountMismatchError(missed, root.got, window=root.window.times)
        return Verdict()

    # -- the pieces

    def _split(self, piece: _Piece, page: PageFacts) -> Verdict:
        """Ask in parts. A second that fills the page alone is set apart, with its neighbours, whose asks take it in."""
        if piece.window.span == 1:
            return self._isolate(piece, page)
        if len(set(page.known)) == 1:
            hot = page.known[0]
            return self._replace(
                piece, [s for s in range(hot - 1, hot + 3) if piece.window.start < s < piece.window.stop]
            )
        parts = math.ceil((page.total or 0) / (_ROOM * self.cap)) if self.honest else 2
        windows = piece.window.split(max(2, parts))
        return self._replace(piece, [window.start for window in windows[1:]])

    def _replace(self, piece: _Piece, edges: Sequence[int]) -> Verdict:
        """Open the piece again, in parts that begin at ``edges``."""
        window = piece.window
        bounds = [window.start, *edges, window.stop]
        self._swap(piece, [_Piece(Window(a, b), piece.root) for a, b in itertools.pairwise(bounds)])
        piece.step = _Step.GONE
        return Verdict()

    def _prove(
        self,
        piece: _Piece,
        page: PageFacts,
        *,
        keep: tuple[Window, ...],
        held: PageFacts | None = None,
        keep_held: tuple[Window, ...] = (),
    ) -> None:
        """Split off what is proven, at either end of the piece; without a rest the piece is gone."""
        parts = [self._proven(piece, page, window) for window in keep]
        parts += [self._proven(piece, held, window) for window in keep_held if held is not None]
        start, stop = piece.window.start, piece.window.stop
        for part in sorted(parts, key=lambda part: part.window):
            start, stop = (part.window.stop, stop) if part.window.start == start else (start, part.window.start)
        piece.window = Window(start, stop)
        if start < stop:
            parts.append(piece)
        else:
            piece.step = _Step.GONE
        self._swap(piece, sorted(parts, key=lambda part: part.window))

    def _proven(self, piece: _Piece, page: PageFacts, window: Window) -> _Piece:
        root, known = piece.root, page.known
        rows = window.owns(known)
        root.got += rows + len(page.seconds) - len(known)
        broke_off = known[-1] if known and is_cut(page, cap=self.cap, honest=self.honest) else None
        if window.start == root.window.start:
            unseen = broke_off is not None and broke_off < window.start
            root.front = math.inf if unseen else len([second for second in known if second < window.start])
        if window.stop == root.window.stop:
            unseen = broke_off is not None and broke_off >= window.stop
            root.back = math.inf if unseen else len([second for second in known if second >= window.stop])
        self.proven += 1
        self._rows, self._span = self._rows + rows, self._span + window.span
        return _Piece(window, root, rows=rows)

    def _swap(self, piece: _Piece, parts: list[_Piece]) -> None:
        at = self._pieces.index(piece)
        self._pieces[at : at + 1] = parts
