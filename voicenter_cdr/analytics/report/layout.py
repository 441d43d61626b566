"""Parts of the page as values: cells, tables, cards, sections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

__all__ = ["Card", "Cell", "Note", "Part", "Section", "Table"]


@frozen
class Cell:
    """Cell of a table, with a label under it or beside it."""

    text: str
    label: str = ""
    number: bool = False


@frozen
class Table:
    """Table with its heads; ``more`` describes the rows that are not shown."""

    heads: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    more: str = ""


@frozen
class Note:
    """Line under the number of a card; ``kind`` is a class of the style sheet."""

    text: str
    kind: str = ""


@frozen
class Card:
    """One of the key numbers."""

    title: str
    value: str
    notes: Sequence[Note]
    main: bool = False


@frozen
class Part:
    """Chart or table of a section."""

    title: str = ""
    note: str = ""
    svg: Any = None
    table: Table | None = None
    style: str = ""


@frozen
class Section:
    """Section of the page."""

    title: str
    columns: Sequence[Sequence[Part]]
    """Columns that stand side by side where there is room."""
    note: str = ""
    kind: str = ""
