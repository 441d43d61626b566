"""Field names of the API document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from voicenter_cdr.models import CdrField

__all__ = ["API_NAMES", "DOCUMENTED_NAMES", "FIELDS_BY_KEY"]

API_NAMES: Final[Mapping[CdrField, str]] = {
    CdrField.CALLER_NUMBER: "CallerNumber",
    CdrField.TARGET_NUMBER: "TargetNumber",
    CdrField.STARTED_AT: "Date",
    CdrField.DATE_EPOCH: "DateEpoch",
    CdrField.DURATION: "Duration",
    CdrField.CALL_ID: "CallID",
    CdrField.CALL_TYPE: "Type",
    CdrField.CDR_TYPE: "CdrType",
    CdrField.DIAL_STATUS: "DialStatus",
    CdrField.TARGET_EXTENSION: "TargetExtension",
    CdrField.CALLER_EXTENSION: "CallerExtension",
    CdrField.DID: "DID",
    CdrField.QUEUE_NAME: "QueueName",
    CdrField.RECORD_URL: "RecordURL",
    CdrField.RECORD_EXPECT: "RecordExpect",
    CdrField.PRICE_AGOROT: "Price",
    CdrField.RING_TIME: "RingTime",
    CdrField.REPRESENTATIVE_NAME: "RepresentativeName",
    CdrField.REPRESENTATIVE_CODE: "RepresentativeCode",
    CdrField.USER_NAME: "UserName",
    CdrField.DTMF_DATA: "DTMFData",
    CdrField.CUSTOM_DATA: "CustomData",
    CdrField.DEPARTMENT_NAME: "DepartmentName",
    CdrField.DEPARTMENT_ID: "DepartmentId",
    CdrField.TARGET_PREFIX_NAME: "TargetPrefixName",
    CdrField.USER_ID: "UserId",
}
"""The service's name of each field, as the document spells it."""

FIELDS_BY_KEY: Final[Mapping[str, CdrField]] = {name.lower(): ours for ours, name in API_NAMES.items()}

DOCUMENTED_NAMES: Final = tuple(name for ours, name in API_NAMES.items() if ours is not CdrField.USER_ID)
