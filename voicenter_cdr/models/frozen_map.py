"""An immutable mapping."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from typing import Any

__all__ = ["FrozenMap"]


class FrozenMap(Mapping[str, Any]):
    """Immutable mapping that compares like a ``dict`` and takes little memory."""

    __slots__ = ("_parts",)

    def __init__(self, items: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        made = dict(items)
        self._parts: tuple[Any, ...] = (*made, *made.values())

    @classmethod
    def of(cls, parts: tuple[Any, ...]) -> FrozenMap:
        """Return the map of ``(*names, *values)``; names are all different, values in the same order."""
        made = cls.__new__(cls)
        made._parts = parts
        return made

    def __getitem__(self, key: str) -> Any:
        try:
            return self._parts[self._parts.index(key, 0, len(self)) + len(self)]
        except ValueError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts[: len(self)])

    def __len__(self) -> int:
        return len(self._parts) // 2

    def items(self) -> ItemsView[str, Any]:
        """Return names and values, without a search for each name."""
        return dict(zip(self, self._parts[len(self) :], strict=True)).items()

    def values(self) -> ValuesView[Any]:
        """Return the values, in the order of the names."""
        return dict(self.items()).values()

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __repr__(self) -> str:
        return f"FrozenMap(<{len(self)} keys>)"
