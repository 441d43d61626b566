"""Enumerations of the Call Log API: call types, statuses, errors, fields."""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["CdrField", "CdrType", "DialStatus", "ErrorNumber", "IdentityCriteria", "SortOrder"]


class CdrType(enum.IntEnum):
    """Kind of call that a record is about, by its number. Open: a number that is not here stays a plain ``int``.

    Source: the API document's table of call types; the numbers 3 and 5 to 7 do not exist in it.
    """

    INCOMING = 1
    """A caller dialled in and ended in a voice menu or at an extension, not in a queue."""
    CALLING_CARD = 2
    """Made through the calling-card (access number) service; the document calls it CC."""
    EXTENSION_OUTGOING = 4
    """Dialled by hand from a phone."""
    QUEUE = 8
    """A caller dialled in and was received by a queue."""
    CLICK2CALL_LEG1 = 9
    """Click2Call: the first leg, which rings the user's own extension."""
    CLICK2CALL_LEG2 = 10
    """Click2Call: the second leg, which calls the destination. Shares its CallID with the first (evidence)."""
    VOICEMAIL = 11
    """Answered by Voicenter's voicemail."""
    CALLFERENCE = 12
    """Made through the Callference conference service."""
    TRANSFER = 13
    """Transferred by hand from an extension to a number or another extension; the document calls it XferCDR."""
    PRODUCTIVE_CALL_LEG1 = 14
    """Productive (agents') dialer: the first leg, which rings the agent's extension."""
    PRODUCTIVE_CALL_LEG2 = 15
    """Productive (agents') dialer: the second leg, which calls the destination."""
    SCRUBBER = 16
    """Made through the Scrubber service."""
    CLICK2IVR = 17
    """Predictive dialer: the first leg, which calls the customer."""
    CLICK2IVR_INCOMING = 18
    """Predictive dialer: the second leg, into a voice menu that led to no queue."""
    CLICK2QUEUE_INCOMING = 19
    """Predictive dialer: the second leg, where it entered a queue."""
    FAX = 20
    """Sent through the internal fax service (the document: not released yet)."""
    ATTENDED_TRANSFER_LEG1 = 21
    """A transfer with consultation: the part in which the agent who transfers takes part."""
    ATTENDED_TRANSFER_LEG2 = 22
    """A transfer with consultation: the part between the caller and the agent who took over."""
    AUTO_FORWARD = 23
    """Forwarded by an extension by itself to a number, usually while its user is away."""


class DialStatus(enum.StrEnum):
    """End of a call. Open: a word that is not here stays a plain ``str``.

    On calls of two legs it is that of the first. The last four are the document's call error types: the destination
    could not be connected at all.
    """

    NOT_DIALED = "NOTDIALED"
    """Hung up before the call was made."""
    ANSWER = "ANSWER"
    """Answered by the other side, which may also be its own answering machine."""
    BUSY = "BUSY"
    """The number was reached and was busy."""
    NO_ANSWER = "NOANSWER"
    """The number rang until the dialling ran out of time."""
    CANCEL = "CANCEL"
    """The caller hung up while it was ringing."""
    ABANDONED = "ABANDONE"
    """The caller hung up while waiting in a queue. (The service spells it so.)"""
    TIMEOUT = "TIMEOUT"
    """The longest time a queue lets a caller wait ran out."""
    FULL = "FULL"
    """The queue held as many waiting callers as it may."""
    EXIT = "EXIT"
    """The caller chose to leave the queue by a key."""
    JOIN_EMPTY = "JOINEMPTY"
    """Nobody was logged in to the queue."""
    VO_END = "VOEND"
    """The caller hung up in the voice menu, before any extension rang."""
    TE = "TE"
    """The voice menu played its message and ended the call, as configured."""
    NOT_CALLED = "NOTCALLED"
    """The second leg of a Click2Call was never dialled, since the first failed."""
    VOICEMAIL = "VOICEMAIL"
    """The call entered Voicenter's voicemail."""
    CONGESTION = "CONGESTION"
    """Call error: usually a number that does not exist."""
    CHANNEL_UNAVAILABLE = "CHANUNAVAIL"
    """Call error: no channel, for instance a phone that is not registered."""
    INVALID_ARGS = "INVALIDARGS"
    """Call error: the dial command could not be understood."""
    SSW_PREAUTH = "SSWPREAUTH"
    """Call error: the switch cancelled an outgoing call before dialling."""

    @property
    def is_call_error(self) -> bool:
        """``True`` for the document's four call error types: the destination could not be connected at all."""
        return self in _CALL_ERRORS


_CALL_ERRORS: Final = frozenset(
    {
        DialStatus.CONGESTION,
        DialStatus.CHANNEL_UNAVAILABLE,
        DialStatus.INVALID_ARGS,
        DialStatus.SSW_PREAUTH,
    }
)


class ErrorNumber(enum.IntEnum):
    """The service's ERROR_NUMBER. Open: other numbers reach you as ``ApiError.number``."""

    OK = 0
    """The request was understood."""
    RATE_LIMIT = 1
    """Too many requests in the period."""
    AUTHORIZATION_FAILED = 2
    """The code is not valid."""
    UNTRUSTED_ADDRESS = 4
    """The request came from an address the account does not allow."""
    OUT_OF_RANGE = 5
    """The requested period is not acceptable."""


class IdentityCriteria(enum.StrEnum):
    """Owner of the calls a query is about. The document names the four without explaining them."""

    ACCOUNT = "Account"
    """The account itself."""
    HIERARCHICAL = "Hierarchical"
    """The account and the accounts below it."""
    DEPARTMENT = "Department"
    """One department."""
    USER = "User"
    """One user."""


class SortOrder(enum.StrEnum):
    """Direction of sorting."""

    ASC = "asc"
    """Smallest, or earliest, first."""
    DESC = "desc"
    """Largest, or latest, first."""


class CdrField(enum.StrEnum):
    """The fields of a record, by the names of :class:`Cdr`; for ``CdrQuery(fields=…)`` and :class:`Sort`."""

    CALLER_NUMBER = "caller_number"
    """Number shown to the called party."""
    TARGET_NUMBER = "target_number"
    """Number or extension that is called."""
    STARTED_AT = "started_at"
    """Start of the call."""
    DATE_EPOCH = "date_epoch"
    """Start of the call as the service's epoch number."""
    DURATION = "duration"
    """Seconds of conversation."""
    CALL_ID = "call_id"
    """The service's id of the call."""
    CALL_TYPE = "call_type"
    """Kind of call, as text."""
    CDR_TYPE = "cdr_type"
    """Kind of call, as number."""
    DIAL_STATUS = "dial_status"
    """End of the call."""
    TARGET_EXTENSION = "target_extension"
    """Extension that received the call."""
    CALLER_EXTENSION = "caller_extension"
    """Extension that made the call."""
    DID = "did"
    """Number an incoming caller dialled."""
    QUEUE_NAME = "queue_name"
    """Queue that received the call."""
    RECORD_URL = "record_url"
    """Link to the recording."""
    RECORD_EXPECT = "record_expect"
    """True if the call was recorded."""
    PRICE_AGOROT = "price_agorot"
    """Price in agorot."""
    RING_TIME = "ring_time"
    """Seconds of ringing."""
    REPRESENTATIVE_NAME = "representative_name"
    """Representative who was logged in."""
    REPRESENTATIVE_CODE = "representative_code"
    """That representative's id."""
    USER_NAME = "user_name"
    """User of the extension or number."""
    DTMF_DATA = "dtmf_data"
    """Steps through the voice menu."""
    CUSTOM_DATA = "custom_data"
    """Data the caller's systems attached."""
    DEPARTMENT_NAME = "department_name"
    """Department or account, by name."""
    DEPARTMENT_ID = "department_id"
    """Department or account, by number."""
    TARGET_PREFIX_NAME = "target_prefix_name"
    """Country that was called."""
    USER_ID = "user_id"
    """Id of the user; not in the API document, named by the vendor's public plugin (evidence). Sent on request only."""
