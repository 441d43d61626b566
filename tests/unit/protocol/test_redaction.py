"""Redaction of the service's words."""

from __future__ import annotations

import json
import traceback

import pytest
from support.responses import body, read

from voicenter_cdr import (
    ApiError,
)
from voicenter_cdr.core.protocol.responses import decode


def test_redact_descriptions_are_masked() -> None:
    """An echo of the credential or of a number does not reach the text."""
    data = json.dumps(
        {"ERROR_NUMBER": 9, "ERROR_DESCRIPTION": "bad s3cret-code for 972501234567\nand 050-123-4567"}
    ).encode()
    with pytest.raises(ApiError) as caught:
        read(data, secret="s3cret-code")
    text = str(caught.value) + repr(caught.value) + "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in text.replace('secret="s3cret-code"', "")
    assert "0501" not in text
    assert "4567" not in text


NO_ADDRESSES = [
    "0521.23.45.67",
    "052.1234.56.78",
    "052.12.34.5678",
    "052.12.34.56.7",
    "052.123.45.67",
    "97.252.123.456",
]
"""Though near to one."""


@pytest.mark.parametrize(
    "text",
    ["052.123.4567", "052/123/4567", "(052)1234567", "+972 (52) 123-4567", "052-123-4567", *NO_ADDRESSES],
)
def test_redact_numbers_in_a_description_in_any_spelling(text: str) -> None:
    """Neither a number nor the credential, however it is spelled, survives; an address does."""
    data = body(ERROR_NUMBER=17, ERROR_DESCRIPTION=f"No {text} from 192.168.100.200 by S3CRET-code")
    with pytest.raises(ApiError) as raised:
        read(data, secret="s3cret-CODE")
    assert raised.value.description == "No … from 192.168.100.200 by …"


SECRET = "a/b c&'é\\"


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        SECRET.upper(),
        repr(SECRET)[1:-1],
        "a%2Fb%20c%26%27%C3%A9%5C",
        "a/b%20c%26%27%C3%A9%5C",
        "a%2Fb+c%26%27%C3%A9%5C",
        "a/b c&amp;&#x27;é\\",
        "a/b c&'\\u00e9\\\\",
    ],
)
def test_redact_credential_in_any_spelling_is_taken_out(spelled: str) -> None:
    """As it is, and as addresses, pages, JSON and programs spell it."""
    body = {"ERROR_NUMBER": 9, "ERROR_DESCRIPTION": f"No {spelled} here"}
    with pytest.raises(ApiError) as raised:
        decode(500, {}, json.dumps(body).encode(), secret=SECRET)
    assert raised.value.description == "No … here"
