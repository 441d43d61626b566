"""Command ``doctor``: check of the account and the service."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import attrs
from cyclopts import Parameter

from voicenter_cdr.cli import periods
from voicenter_cdr.cli.clients import open_client
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize, write_stdout
from voicenter_cdr.cli.options import CONNECTION, MESSAGES, ConnectionOptions, OutputOptions
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import CdrQuery

if TYPE_CHECKING:
    from voicenter_cdr.diagnostics import Diagnosis

__all__ = ["DOCTOR_EXAMPLES", "doctor"]

_MARKS: Final = {"ok": "ok", "notice": "note", "problem": "FAIL"}


def doctor(
    *,
    json_: Annotated[bool, Parameter(name="--json")] = False,
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Check the credential, the address and the service's responses.

    Spends five requests at most. Checks the credential (both, if VOICENTER_API_CODE and VOICENTER_BEARER_TOKEN are
    set), the address, clocks, the casing of keys, totals, the sort, and unknown types, statuses and fields. Exit code 0
    if nothing is wrong, else that of the problem.

    Args:
        json_: Write one JSON object instead of text.
    """
    with log_to_stderr(messages):
        found = asyncio.run(_doctor(connection))
    if json_:
        findings = [attrs.asdict(finding) for finding in found.findings]
        result = {"healthy": found.is_healthy, "requests": found.requests, "findings": findings}
        write_stdout(json.dumps(result, ensure_ascii=False) + "\n")
    else:
        write_stdout("".join(_lines(found)))
    if not messages.quiet and not json_:
        echo_err(f"{pluralize(found.requests, 'request')} spent.")
    if found.error is not None:
        raise found.error
    if not found.is_healthy:
        raise ConfigurationError("The check found a problem", hint="The lines marked FAIL say what to do.")


def _lines(found: Diagnosis) -> list[str]:
    width = max(len(finding.subject) for finding in found.findings)
    return [
        f"{_MARKS[finding.level]:<5}{finding.subject:<{width}}  {finding.detail}\n"
        + (f"{'':5}{'':<{width}}  -> {finding.hint}\n" if finding.hint else "")
        for finding in found.findings
    ]


async def _doctor(connection: ConnectionOptions) -> Diagnosis:
    from voicenter_cdr.client import CdrClient
    from voicenter_cdr.diagnostics import diagnose

    now = periods.now()
    query = CdrQuery(now - timedelta(days=31), now)
    async with AsyncExitStack() as stack:
        clients: dict[str, CdrClient] = {}
        if connection.demo or connection.code_file or connection.token_file or not _both():
            client = await stack.enter_async_context(open_client(connection, query))
            clients["token" if client.session.uses_token else "code"] = client
        else:
            for name, variable in (("code", "VOICENTER_API_CODE"), ("token", "VOICENTER_BEARER_TOKEN")):
                given = {name: os.environ[variable].strip()}
                options = given | ({"base_url": connection.base_url} if connection.base_url else {})
                clients[name] = await stack.enter_async_context(CdrClient.from_env(**options))
        return await diagnose(clients)


def _both() -> bool:
    return all(os.environ.get(name, "").strip() for name in ("VOICENTER_API_CODE", "VOICENTER_BEARER_TOKEN"))


DOCTOR_EXAMPLES: Final = """\
Examples:

  voicenter-cdr doctor
  voicenter-cdr doctor --demo
  voicenter-cdr doctor --json --quiet
"""
