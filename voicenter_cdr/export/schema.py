"""The columns of a record outside of Python: one definition for every file and table that is written.

Pure. Names of columns, kinds of values, and their forms in JSON and in tables are defined here alone. The columns
do not depend on the data: a column without a value is null, never missing.

Tables (Arrow, Parquet, SQLite, DuckDB) have types, and a type has limits: a number that does not fit its column is
refused with the name of the column (:class:`DecodeError`), never truncated, rounded or made null; only the noise of a
float is removed from a price (0.30000000000000004). JSON Lines and CSV hold any number. Text that UTF-8 has no bytes
for (half of a surrogate pair) is written as its escape in JSON.
"""

from __future__ import annotations

import difflib
import enum
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import field, frozen

from voicenter_cdr.core.protocol.fields import API_NAMES
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export import derived
from voicenter_cdr.models import Cdr, CdrField
from voicenter_cdr.models.columns import RecordBatch

__all__ = [
    "COLUMNS",
    "STEP_NAMES",
    "TABLE",
    "Column",
    "Kind",
    "column_names",
    "select",
    "step_names",
]

TABLE: Final = "cdr"
"""Name of the table of records in a database."""


class Kind(enum.StrEnum):
    """Kind of a column's values, from which its types in Arrow, SQLite and DuckDB follow."""

    TEXT = "text"
    """Text; numbers and ids are text too, since their leading zeros count."""
    CATEGORY = "category"
    """Text with few different values, worth a dictionary where the format has one."""
    INT16 = "int16"
    """A whole number of 16 bits."""
    INT32 = "int32"
    """A whole number of 32 bits."""
    INT64 = "int64"
    """A whole number of 64 bits."""
    TIMESTAMP = "timestamp"
    """An instant, in UTC; microseconds at the finest."""
    BOOL = "bool"
    """True or false."""
    DECIMAL = "decimal"
    """An exact number; up to 18 digits, 4 of them behind the point, are enough for a price in agorot."""
    STEPS = "steps"
    """A list of steps through the voice menu, each of three texts."""
    JSON = "json"
    """A JSON object with keys that are not known beforehand."""


_NUMBERS: Final = frozenset({Kind.INT16, Kind.INT32, Kind.INT64, Kind.DECIMAL})
"""Kinds of numbers."""


@frozen
class Column:
    """One column: its name here, the API's name for it, the kind of value and what it means."""

    name: str
    """As in :class:`~voicenter_cdr.Cdr`."""
    api_name: str
    """As the API spells it; the same as ``name`` where the API has no such field."""
    kind: Kind
    """Kind of its values."""
    doc: str
    """Meaning, in one line."""
    required: bool = False
    """``True`` if every record has it."""
    derive: Callable[[Cdr], Any] | None = field(default=None, kw_only=True)
    """Function that makes its value from a record; by default it is the record's field of this name."""
    derive_batch: Callable[[RecordBatch], Sequence[Any]] | None = field(default=None, kw_only=True)
    """Function that makes its values, as atoms, from a batch of records; faster than ``derive``, in place of it."""

    def values(self, batch: RecordBatch) -> Sequence[Any]:
        """Return the values of a batch, as atoms (see :mod:`voicenter_cdr.models.columns`)."""
        if self.derive_batch is not None:
            made = batch.derive(self.derive_batch)
            if self.kind in _NUMBERS:
                return [_to_atoms(self.kind, value) for value in made]
            return made if isinstance(made, list | tuple) else list(made)  # of one's own, which may be of any library
        if self.derive is not None:
            return [_to_atoms(self.kind, self.derive(cdr)) for cdr in batch]
        return batch.column(self.name)

    @property
    def is_derived(self) -> bool:
        """Return ``True`` if it is derived from others, and not a field of a record."""
        return self.derive is not None or self.derive_batch is not None


def _to_atoms(kind: Kind, value: Any) -> Any:
    """Return the value of a user's function of a record, in the form of batches."""
    if isinstance(value, enum.Enum):
        return value.value
    if kind in _NUMBERS and hasattr(value, "__index__"):  # a whole number, which may be of any library
        return value if isinstance(value, bool) else operator.index(value)
    if kind is Kind.CATEGORY and value is not None:
        return str(value)
    if kind is Kind.JSON and isinstance(value, Mapping):
        return (*value, *value.values())
    if kind is Kind.STEPS and value is not None:
        return tuple([(step.layer_name, step.dtmf, step.layer_number) for step in value])
    return value


def _derived(name: str, kind: Kind, doc: str, derive_batch: Callable[[RecordBatch], Sequence[Any]]) -> Column:
    return Column(name, name, kind, doc, derive_batch=derive_batch)


def _column(source: CdrField, kind: Kind, doc: str, *, required: bool = False) -> Column:
    return Column(str(source), API_NAMES[source], kind, doc, required)


COLUMNS: Final[tuple[Column, ...]] = (
    _column(CdrField.CALL_ID, Kind.TEXT, "The service's id of the call; two legs of a call can share it."),
    _column(CdrField.CDR_TYPE, Kind.INT16, "Kind of call, as number."),
    _column(CdrField.CALL_TYPE, Kind.CATEGORY, "Kind of call, as the service words it."),
    _column(CdrField.DIAL_STATUS, Kind.CATEGORY, "End of the call, as the service reports it."),
    _column(CdrField.STARTED_AT, Kind.TIMESTAMP, "Start of the call, in UTC.", required=True),
    _column(CdrField.DATE_EPOCH, Kind.INT64, "The service's epoch number as sent, for checks."),
    _column(CdrField.DURATION, Kind.INT32, "Seconds of conversation, without ringing."),
    _column(CdrField.RING_TIME, Kind.INT32, "Seconds of ringing, without conversation."),
    _column(CdrField.CALLER_NUMBER, Kind.TEXT, "Number shown to the called party."),
    _column(CdrField.TARGET_NUMBER, Kind.TEXT, "Number or extension that is called."),
    _column(CdrField.DID, Kind.TEXT, "Number an incoming caller dialled."),
    _column(CdrField.CALLER_EXTENSION, Kind.TEXT, "Extension the call was made from."),
    _column(CdrField.TARGET_EXTENSION, Kind.TEXT, "Extension that received the call."),
    _column(CdrField.QUEUE_NAME, Kind.CATEGORY, "Queue the call was directed to."),
    _column(CdrField.RECORD_URL, Kind.TEXT, "Link to the recording; may come later than the record."),
    _column(CdrField.RECORD_EXPECT, Kind.BOOL, "True if the call was recorded."),
    _column(CdrField.PRICE_AGOROT, Kind.DECIMAL, "Price of the call in agorot (1/100 ILS)."),
    _column(CdrField.REPRESENTATIVE_NAME, Kind.TEXT, "Representative who was logged in to the extension."),
    _column(CdrField.REPRESENTATIVE_CODE, Kind.TEXT, "That representative's id."),
    _column(CdrField.USER_NAME, Kind.TEXT, "The representative, or else the user of the extension or number."),
    _column(CdrField.USER_ID, Kind.TEXT, "Id of the user; sent on request only."),
    _column(CdrField.DTMF_DATA, Kind.STEPS, "Steps through the voice menu, in order."),
    _column(CdrField.CUSTOM_DATA, Kind.JSON, "Data that came along with the call, keys as sent."),
    _column(CdrField.DEPARTMENT_NAME, Kind.TEXT, "Department or account the call belongs to."),
    _column(CdrField.DEPARTMENT_ID, Kind.INT64, "Id of that department or account."),
    _column(CdrField.TARGET_PREFIX_NAME, Kind.CATEGORY, "Country that was called."),
    _derived(
        "extra",
        Kind.JSON,
        "Fields of the record without a column of their own, keys as sent.",
        derived.extras,
    ),
    _derived(
        "original_call_id",
        Kind.TEXT,
        "CallID of the call this one came from (transfers), from custom_data.",
        derived.original_call_ids,
    ),
    _derived(
        "customer_number",
        Kind.TEXT,
        "The customer's number, Israeli ones in one spelling.",
        derived.customer_numbers,
    ),
    _derived(
        "direction",
        Kind.CATEGORY,
        "Who began: inbound, outbound, internal or other.",
        derived.directions,
    ),
    _derived(
        "outcome",
        Kind.CATEGORY,
        "How this leg ended: answered, abandoned, voicemail, …",
        derived.outcomes,
    ),
)
"""Every column, in the order it is written. Derived columns follow those of the service."""

_BY_NAME: Final[Mapping[str, Column]] = {
    name.lower(): column for column in COLUMNS for name in (column.name, column.api_name)
}

STEP_NAMES: Final = ("layer_name", "dtmf", "layer_number")
"""The parts of a step through the voice menu."""

API_STEP_NAMES: Final = ("LayerName", "DTMF", "LayerNumber")


def select(names: Iterable[str]) -> tuple[Column, ...]:
    """Return the columns of these names (ours or the API's, in any case), in this order, each once.

    Raises :class:`ConfigurationError` for an unknown name and for none at all.
    """
    if isinstance(names, str):
        raise ConfigurationError("Column names are given as a list; put a single name into brackets")
    chosen = dict.fromkeys(_find_column(name) for name in names)
    if not chosen:
        raise ConfigurationError("At least one column is needed; leave the choice out for all of them")
    return tuple(chosen)


def _find_column(name: str) -> Column:
    column = _BY_NAME.get(name.strip().lower())
    if column is not None:
        return column
    close = difflib.get_close_matches(name.strip().lower(), [column.name for column in COLUMNS], n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(column.name for column in COLUMNS)}."
    raise ConfigurationError(f"Unknown column {name!r}", hint=hint)


def column_names(columns: Sequence[Column], *, raw_names: bool = False) -> list[str]:
    """Return the names of the columns, in our spelling or in the API's."""
    return [column.api_name if raw_names else column.name for column in columns]


def step_names(*, raw_names: bool = False) -> Sequence[str]:
    """Return the names of the parts of a step, in our spelling or in the API's."""
    return API_STEP_NAMES if raw_names else STEP_NAMES
