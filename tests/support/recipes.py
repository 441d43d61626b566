"""Blocks of the pages in ``.docs/``, and stand-ins for engines that are not installed."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / ".docs" / "how-to"


def blocks(page: str, heading: str, language: str) -> list[str]:
    """The fenced blocks of a language below a heading; before the first heading of the second level for ``""``."""
    text = (DOCS / page).read_text("utf-8")
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", text, flags=re.M)[1:]}
    section = sections[heading] if heading else text.partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.M | re.S)


def block(page: str, heading: str, language: str = "python") -> str:
    """The first of them."""
    return blocks(page, heading, language)[0]


def run(code: str, name: str = "__main__") -> dict[str, Any]:
    """Run a block as a program; what it has defined."""
    found: dict[str, Any] = {"__name__": name}
    exec(compile(code, "recipe", "exec"), found)
    return found


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> bool:
    """Put a module in the place of an engine that is not installed; whether it was."""
    if find_spec(name.partition(".")[0]) is not None:
        return False
    package = ""
    for part in name.split("."):
        package = f"{package}.{part}".strip(".")
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    for key, value in content.items():
        setattr(sys.modules[name], key, value)
    return True


class Task:
    """A task of Airflow's, as far as a recipe uses one: it runs at once, mapped over what it is given."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.results: list[Any] = []

    def __call__(self, *args: Any) -> Any:
        self.results.append(self.function(*args))
        return self.results[-1]

    def expand(self, **values: Iterable[Any]) -> Task:
        ((name, items),) = values.items()
        self.results += [self.function(**{name: item}) for item in items]
        return self

    def __rshift__(self, other: Any) -> Any:
        return other


def airflow(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Stand in for Airflow's decorators; the tasks that were made."""
    made: list[Task] = []

    def task(function: Callable[..., Any] | None = None, **_: Any) -> Any:
        if function is None:
            return task
        made.append(Task(function))
        return made[-1]

    def dag(**_: Any) -> Any:
        return lambda function: function

    if not stand_in(monkeypatch, "airflow.sdk", dag=dag, task=task):
        monkeypatch.setattr("airflow.sdk.dag", dag)
        monkeypatch.setattr("airflow.sdk.task", task)
    return made


class Spark:
    """A session of Spark's, as far as a recipe uses one."""

    def __init__(self) -> None:
        self.builder = self.sparkContext = self

    def appName(self, _: str) -> Spark:  # noqa: N802  # Spark's name for it
        return self

    def getOrCreate(self) -> Spark:  # noqa: N802
        return self

    def parallelize(self, items: Iterable[Any], number: int) -> Spark:
        self.items = list(items)
        assert len(self.items) == number
        return self

    def map(self, function: Callable[[Any], Any]) -> Spark:
        self.items = [function(item) for item in self.items]
        return self

    def collect(self) -> list[Any]:
        return self.items
