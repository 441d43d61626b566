"""The public names and signatures: a change of them is seen, and made on purpose.

``python tests/quality/test_public_api.py`` writes the present ones into tests/quality/public_api.txt.
"""

from __future__ import annotations

import enum
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import attrs

SNAPSHOT = Path(__file__).parent / "public_api.txt"
MODULES = (
    "voicenter_cdr",
    "voicenter_cdr.analytics",
    "voicenter_cdr.analytics.report",
    "voicenter_cdr.calls",
    "voicenter_cdr.diagnostics",
    "voicenter_cdr.dlt_source",
    "voicenter_cdr.events",
    "voicenter_cdr.export",
    "voicenter_cdr.handlers",
    "voicenter_cdr.limiters",
    "voicenter_cdr.otel",
    "voicenter_cdr.pseudonyms",
    "voicenter_cdr.recordings",
    "voicenter_cdr.sandbox",
    "voicenter_cdr.sync",
    "voicenter_cdr.testing",
)


def _signature(value: object) -> str:
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    plain = [
        parameter.replace(default="…" if parameter.default is not parameter.empty else parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=plain)).replace("'…'", "…").replace("'", "")


def _members(owner: type) -> Iterator[str]:
    if issubclass(owner, enum.Enum):
        yield from (f"{member.name} = {member.value!r}" for member in owner)
        return
    if attrs.has(owner):
        yield from (f"{field.alias}: {field.type}" for field in attrs.fields(owner) if not field.name.startswith("_"))
    for name, value in sorted(vars(owner).items()):
        if name.startswith("_") or (attrs.has(owner) and name in attrs.fields_dict(owner)):
            continue
        if isinstance(value, property):
            yield f"{name} (property)"
        elif callable(value) or isinstance(value, classmethod | staticmethod):
            yield name + _signature(getattr(owner, name))


def surface() -> str:
    """All public names with their signatures, a line each."""
    lines = []
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, type):
                lines.append(f"{module.__name__}.{name}{'' if issubclass(value, enum.Enum) else _signature(value)}")
                lines += [f"    {line}" for line in _members(value)]
            else:
                lines.append(f"{module.__name__}.{name}{_signature(value)}")
    return "\n".join(lines) + "\n"


def test_public_api_equals_its_snapshot() -> None:
    """A new, changed or vanished public name shows here; write the snapshot again if it is intended."""
    assert surface() == SNAPSHOT.read_text("utf-8")


if __name__ == "__main__":
    SNAPSHOT.write_text(surface(), "utf-8")
