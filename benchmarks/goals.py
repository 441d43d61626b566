"""What the figures of a benchmark are held to."""

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
        """Whether it holds."""
        return self.got >= self.limit if self.at_least else self.got <= self.limit

    def __str__(self) -> str:
        return f"{self.what}: {self.got:g} ({'>=' if self.at_least else '<='} {self.limit:g})"
