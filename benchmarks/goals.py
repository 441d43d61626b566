"""Goals of the figures of a benchmark."""

from __future__ import annotations

from attrs import frozen

__all__ = ["Goal"]


@frozen
class Goal:
    """One figure and its bound."""

    what: str
    got: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Return ``True`` if the figure meets the goal."""
        return self.got >= self.limit if self.at_least else self.got <= self.limit

    def __str__(self) -> str:
        return f"{self.what}: {self.got:g} ({'>=' if self.at_least else '<='} {self.limit:g})"
