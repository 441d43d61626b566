"""Values as plain JSON types, and as types of pydantic and FastAPI, without a dependency on either.

A class that inherits :class:`Serializable` can be returned from a FastAPI route (``-> list[Cdr]``), be a field of a
pydantic model, and shows in OpenAPI with the description of every field. ``json.dumps`` takes it with
``default=lambda value: value.to_dict()``.
"""

from __future__ import annotations

import ast
import enum
import inspect
import math
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import attrs

__all__ = ["Serializable", "escape_surrogates", "json_number", "json_schema", "to_jsonable"]

_EXACT_DIGITS: Final = 30
"""Whole decimals up to this many digits are written as such; beyond, a short exponent could stand for gigabytes."""


def to_jsonable(value: Any) -> Any:
    """Return a value in types that ``json.dumps`` takes.

    Times become ISO text in UTC, lengths of time become seconds, enum members their values. An amount stays a number
    where JSON holds it exactly, and becomes text elsewhere, as do values that JSON has no type for.
    """
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float | Decimal):
        return json_number(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Serializable):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if attrs.has(type(value)) and not hasattr(value, "__iter__"):
        return {name: to_jsonable(getattr(value, name)) for name in _public_names(type(value))}
    return [to_jsonable(item) for item in value] if isinstance(value, Iterable) else str(value)


def json_number(value: float | Decimal) -> int | float | str:
    """Return the number as JSON can hold it exactly, or else its text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return int(value)
    if not value.is_finite():
        return str(value)
    if value == value.to_integral_value() and value.adjusted() < _EXACT_DIGITS:
        return int(value)
    near = float(value)
    return near if math.isfinite(near) and Decimal(repr(near)) == value else str(value)


def escape_surrogates(value: Any) -> Any:
    """Return plain JSON with half surrogate pairs, which UTF-8 has no bytes for, escaped in its texts."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {escape_surrogates(name): escape_surrogates(item) for name, item in value.items()}
    return [escape_surrogates(item) for item in value] if isinstance(value, list) else value


def _public_names(cls: type) -> list[str]:
    return [attribute.name for attribute in attrs.fields(cls) if not attribute.name.startswith("_")]


class Serializable:
    """Base of values that can be written as plain JSON."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the value in plain JSON types, by the names of its fields."""
        return {name: to_jsonable(getattr(self, name)) for name in _public_names(type(self))}

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return the JSON Schema of :meth:`to_dict`, with the description of every field."""
        return json_schema(cls)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Take an instance as it is, and write it as :meth:`to_dict` does, in texts that UTF-8 has bytes for."""
        from pydantic_core import core_schema  # only pydantic calls this, so it is installed

        writing = core_schema.plain_serializer_function_ser_schema(lambda value: escape_surrogates(value.to_dict()))
        return core_schema.is_instance_schema(cls, serialization=writing)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return cls.json_schema()


# --- JSON Schema, from annotations and the docstrings of attributes

_PLAIN: Final[Mapping[Any, dict[str, Any]]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    datetime: {"type": "string", "format": "date-time"},
    timedelta: {"type": "number"},
    Decimal: {"type": ["number", "string"]},
    type(None): {"type": "null"},
    Any: {},
}

_ROLE: Final = str.maketrans("", "", "`")


def json_schema(cls: type, *, leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """Return the JSON Schema of a class whose instances are written by :func:`to_jsonable`, without some fields."""
    hints = typing.get_type_hints(cls)
    descriptions = _attribute_docs(cls)
    properties = {}
    for name in [name for name in _public_names(cls) if name not in leave_out]:
        text = descriptions.get(name)
        properties[name] = _schema_of(hints[name]) | ({"description": text} if text else {})
    schema: dict[str, Any] = {"title": cls.__name__, "type": "object"}
    if summary := _plain_text((cls.__doc__ or "").partition("\n\n")[0]):
        schema["description"] = summary
    return schema | {"properties": properties, "required": list(properties)}


def _schema_of(hint: Any) -> dict[str, Any]:
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        choices: list[dict[str, Any]] = []
        for argument in arguments:
            choice = _schema_of(argument)
            if choice not in choices:
                choices.append(choice)
        simple = all(choice.keys() == {"type"} and isinstance(choice["type"], str) for choice in choices)
        if len(choices) == 1:
            return choices[0]
        return {"type": [choice["type"] for choice in choices]} if simple else {"anyOf": choices}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema_of(arguments[1])}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return {"type": "array", "items": _schema_of(arguments[0])}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):  # open: the service may send others
        return {"type": "integer" if issubclass(hint, int) else "string"}
    return (
        hint.json_schema()
        if hasattr(hint, "json_schema")
        else json_schema(hint)
        if attrs.has(hint) and not issubclass(hint, Sequence)
        else {}
    )


def _plain_text(text: str) -> str:
    return " ".join(text.split()).replace(":class:", "").replace(":attr:", "").replace(":meth:", "").translate(_ROLE)


def _attribute_docs(cls: type) -> dict[str, str]:
    """Return the docstrings below the attributes of a class; none without its source."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError):
        return {}
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for line, behind in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(behind, ast.Expr):
            docs[line.target.id] = _plain_text(ast.literal_eval(behind.value))
    return docs
