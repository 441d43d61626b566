"""The command that looks at an account and the service: doctor."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Annotated, Final

import attrs
from cyclopts import Parameter

from voicenter_cdr.cli import periods
from voicenter_cdr.cli.clients import open_client
from voicenter_cdr.cli.console import echo_err, log_to_stderr, pluralize, write_stdout
from voicenter_cdr.cli.options import CONNECTION, MESSAGES, ConnectionOptions, OutputOptions
from voicenter_cdr.client import CdrClient
from voicenter_cdr.diagnostics import Diagnosis, diagnose
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.models import CdrQuery

__all__ = ["DOCTOR_EXAMPLES", "doctor"]

_MARKS: Final = {"ok": "ok", "notice": "note", "problem": "MEND"}


def doctor(
    *,
    json_: Annotated[bool, Parameter(name="--json")] = False,
    connection: Annotated[ConnectionOptions, Parameter(name="*", group=CONNECTION)] = ConnectionOptions(),
    messages: Annotated[OutputOptions, Parameter(name="*", group=MESSAGES)] = OutputOptions(),
) -> None:
    """Say in one screen how the service answers this account, and what has to be mended. Five requests at most.

    Looks at the credential (at both, where VOICENTER_API_CODE and VOICENTER_BEARER_TOKEN are set), the address, clocks,
    the casing of keys, totals, the sort, and unknown types, statuses and fields. Exit code 0 where nothing has to be
    mended; else that of what is wrong.

    Args:
        json_: One JSON object in place of the screen.
    """
    with log_to_stderr(messages):
        found = asyncio.run(_doctor(connection))
    if json_:
        findings = [attrs.asdict(finding) for finding in found.findings]
        told = {"healthy": found.is_healthy, "requests": found.requests, "findings": findings}
        write_stdout(json.dumps(told, ensure_ascii=False) + "\n")
    else:
        write_stdout("".join(_lines(found)))
    if not messages.quiet and not json_:
        echo_err(f"{pluralize(found.requests, 'request')} spent.")
    if found.error is not None:
        raise found.error
    if not found.is_healthy:
        raise ConfigurationError("Something has to be mended", hint="The lines marked MEND say what to do.")


def _lines(found: Diagnosis) -> list[str]:
    width = max(len(finding.subject) for finding in found.findings)
    return [
        f"{_MARKS[finding.level]:<5}{finding.subject:<{width}}  {finding.found}\n"
        + (f"{'':5}{'':<{width}}  -> {finding.hint}\n" if finding.hint else "")
        for finding in found.findings
    ]


async def _doctor(connection: ConnectionOptions) -> Diagnosis:
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
