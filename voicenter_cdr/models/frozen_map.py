"""An immutable mapping."""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["FrozenMap"]


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:  # noqa: ARG001  # named as a dict's methods name it
    raise TypeError("A FrozenMap can't be changed; change a copy: dict(frozen_map)")


class FrozenMap(dict[str, Any]):
    """Immutable ``dict``, so that JSON writers accept it. ``repr`` shows no content."""

    __slots__ = ()

    @classmethod
    def of(cls, parts: tuple[Any, ...]) -> FrozenMap:
        """Return the map of ``(*names, *values)``; names are all different, values in the same order."""
        return cls(zip(parts, parts[len(parts) // 2 :]))  # noqa: B905  # it ends with the values; strict=False costs a third

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none, since it can be changed
        return hash(frozenset(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)  # pickle would fill a dict after creating it, which is refused

    def __repr__(self) -> str:
        return f"FrozenMap(<{len(self)} keys>)"
