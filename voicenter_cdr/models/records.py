"""Call detail records."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any, Final

import attrs
from attrs import field, frozen

from voicenter_cdr.errors import Problem
from voicenter_cdr.models.enums import CdrType, DialStatus
from voicenter_cdr.models.frozen_map import FrozenMap
from voicenter_cdr.models.serialization import Serializable

__all__ = ["Cdr", "InvalidRecord", "IvrStep"]


@frozen
class IvrStep:
    """One step of an incoming call through the voice menu. All text, so that no leading zero or key is lost."""

    layer_name: str | None = None
    """Name of the menu layer, as in CPanel."""
    dtmf: str | None = None
    """Keys the caller pressed; the service sends "0" for none."""
    layer_number: str | None = None
    """Id of the menu layer."""


def hash_parts(parts: Iterable[object]) -> str:
    text = "\x1f".join("" if part is None else str(part) for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def fingerprint(text: str, salt: str) -> str:
    """Return four hex digits that distinguish a text from others, and can't be turned back into it.

    Made with scrypt (some 50 ms and 16 MB a guess, other for every salt) and then cut to 16 bits: a search of
    all texts finds many that fit, without showing the right one. Another text fits by chance once in 65,536 times.
    """
    made = hashlib.scrypt(text.encode(), salt=salt.encode(), n=2**14, r=8, p=1, maxmem=2**26, dklen=2)
    return made.hex()


_NO_ID: Final = frozenset({"", "null", "none", "nil", "nan", "undefined", "n/a"})
"""Words that programs write for the id of a call that has none; zeros and dashes around it do not count."""


def is_original_call_id(name: str) -> bool:
    """Return true if a key of ``custom_data`` is that of the original call's id, whatever its spelling."""
    return name.strip().lower() in ("originalivruniqueid", "originallvruniqueid")


def find_original_call_id(items: Iterable[tuple[str, Any]]) -> str | None:
    """Return the CallID of the call that one came from, among the keys and values of its ``custom_data``."""
    for name, value in items:
        if is_original_call_id(name) and type(value) in (str, int):
            text = str(value).strip()
            return None if text.strip("0-").lower() in _NO_ID else text
    return None


@frozen(kw_only=True, weakref_slot=False)
class Cdr(Serializable):
    """One call detail record: one leg of one call.

    ``repr`` shows no number, name or link. Two records are equal if every field is; :attr:`key` shows whether they
    are the same record at different times.
    """

    started_at: datetime
    """Start of the call; aware, UTC. From the service's Date, or from DateEpoch if there is no Date."""
    call_id: str | None = None
    """The service's id of the call. Not unique: two legs of a call can share it (evidence)."""
    cdr_type: CdrType | int | None = None
    """Kind of call; a plain ``int`` where the number is unknown."""
    call_type: str | None = field(default=None, repr=False)
    """Kind of call as the service words it; spacing varies, so compare :attr:`cdr_type` instead."""
    dial_status: DialStatus | str | None = None
    """End of the call; a plain ``str`` where the word is unknown."""
    date_epoch: int | None = field(default=None, repr=False)
    """DateEpoch as sent, in seconds; not proven to be true UTC (evidence), kept for checks."""
    duration: int | None = None
    """Seconds of conversation, without ringing."""
    ring_time: int | None = None
    """Seconds of ringing, without conversation."""
    caller_number: str | None = field(default=None, repr=False)
    """Number shown to the called party."""
    target_number: str | None = field(default=None, repr=False)
    """Number (with country prefix) or SIP extension that is called."""
    did: str | None = field(default=None, repr=False)
    """Number an incoming caller dialled; incoming calls only."""
    caller_extension: str | None = field(default=None, repr=False)
    """SIP extension the call was made from."""
    target_extension: str | None = field(default=None, repr=False)
    """SIP extension that received the call."""
    queue_name: str | None = field(default=None, repr=False)
    """Queue the call was directed to."""
    department_name: str | None = field(default=None, repr=False)
    """Department or account the call belongs to."""
    department_id: int | None = field(default=None, repr=False)
    """Id of that department or account."""
    representative_name: str | None = field(default=None, repr=False)
    """Representative who was logged in to the extension during the call."""
    representative_code: str | None = field(default=None, repr=False)
    """Id of that representative; text, since leading zeros count."""
    user_name: str | None = field(default=None, repr=False)
    """The representative, or else the user the extension or number belongs to."""
    user_id: str | None = field(default=None, repr=False)
    """Id of the user; undocumented (see :attr:`CdrField.USER_ID`)."""
    record_url: str | None = field(default=None, repr=False)
    """Link to the recording; may appear some time after the record, and needs access of its own."""
    record_expect: bool | None = field(default=None, repr=False)
    """True if the call was recorded."""
    price_agorot: int | Decimal | None = field(default=None, repr=False)
    """Price of the call in agorot (1/100 ILS)."""
    target_prefix_name: str | None = field(default=None, repr=False)
    """Country that was called."""
    dtmf_data: tuple[IvrStep, ...] | None = field(default=None, repr=False)
    """Steps through the voice menu, in order."""
    custom_data: Mapping[str, Any] | None = field(default=None, repr=False)
    """Data that came along with the call, such as ``var_…`` keys and the id of an original call; keys as sent."""
    extra: Mapping[str, Any] = field(default=FrozenMap(), repr=False)
    """Fields of the record this package has no name for, keys as sent."""

    @property
    def key(self) -> str:
        """Return the stable identity of this record, 32 hex digits: the same on every machine, in every later response.

        Made from values that do not change after the call (id, type, time, numbers, extensions), so that a record that
        gains a recording keeps its key. Safe to store: no number can be read from it by eye, but it is no pseudonym
        (for those, see :mod:`voicenter_cdr.pseudonyms`).
        """
        return hash_parts(
            (
                self.call_id,
                None if self.cdr_type is None else int(self.cdr_type),
                self.started_at.isoformat(),
                self.caller_number,
                self.target_number,
                self.caller_extension,
                self.target_extension,
            )
        )

    @property
    def version(self) -> str:
        """Return 32 hex digits that identify this version of the record, the same for the same key and content.

        The same on every machine, and whatever the order of keys in ``custom_data``; for noticing changes. No number
        can be read from it by eye.
        """
        values = [(name, _content(value)) for name in _NAMES if (value := getattr(self, name)) is not None]
        return hash_parts((self.key, values))

    @property
    def original_call_id(self) -> str | None:
        """CallID of the call this one came from (transfers), from ``custom_data`` whatever its spelling there."""
        return find_original_call_id((self.custom_data or {}).items())

    def __hash__(self) -> int:
        return hash((self.call_id, self.cdr_type, self.started_at))


REQUIRED_FIELDS: Final[tuple[str, ...]] = (
    "started_at",
    "date_epoch",
    "call_id",
    "cdr_type",
    "caller_number",
    "target_number",
    "caller_extension",
    "target_extension",
)
"""Fields from which the time and the identity (:attr:`Cdr.key`) of a record are computed: always kept."""

_NAMES: Final = tuple(attribute.name for attribute in attrs.fields(Cdr))


def _content(value: Any) -> Any:
    """Return a value in plain types, whose ``repr`` does not change when this package adds a name for it.

    Objects become tuples and lists remain lists, so that no two values look alike. There is one ``repr`` in the end:
    one at each level would double its backslashes, and a record of a kilobyte could take gigabytes.
    """
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return tuple(sorted(((str(name), _content(item)) for name, item in value.items()), key=itemgetter(0)))
    if isinstance(value, IvrStep):
        return attrs.astuple(value)
    return [_content(item) for item in value] if isinstance(value, tuple | list) else value


@frozen
class InvalidRecord:
    """A record that could not be read, with its problems."""

    problems: tuple[Problem, ...]
    """JSON paths and expected values; never the values received."""
    raw: Any = field(repr=False)
    """Row as the service sent it, down to 128 levels. It may hold phone numbers: handle it as you handle records."""
    started_at: datetime | None = None
    """Time of the record, if at least that could be read."""
