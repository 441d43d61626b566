"""Command ``sandbox``: a synthetic service on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from voicenter_cdr.cli import periods
from voicenter_cdr.cli.clients import SANDBOX_CODE
from voicenter_cdr.cli.console import echo_err, pluralize
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.sandbox import Behaviour, CallCentre, Population, Sandbox, load_jsonl, serving

__all__ = ["SANDBOX_EXAMPLES", "sandbox"]

_LONGEST_DEMO: Final = 366


def sandbox(
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    data: str | None = None,
    days: int = periods.DEMO_DAYS,
    seed: int = 0,
) -> None:
    """Serve a synthetic Call Log service on this machine.

    It has the API's limits and errors, and runs until interrupted.

    Args:
        host: Address to listen on. Default: 127.0.0.1, which only this machine can reach.
        port: Port to listen on; 0 takes a free one. Default: 8000.
        data: JSON Lines to serve instead of a synthetic call centre, as export --raw-names writes them; may be packed
            (.gz).
        days: Days of calls up to now. Default: 90.
        seed: Number that the calls are made from. Default: 0.
    """
    if not 0 <= port < 65_536:
        raise ConfigurationError("--port takes a whole number from 0 to 65535")
    echo_err("Generating calls …" if data is None else "Reading calls …")
    with contextlib.suppress(KeyboardInterrupt):  # the way it is meant to end
        behaviour = Behaviour(recordings="here" if data is None else "as_stored")
        app = Sandbox(_load_population(data, days, seed), codes=(SANDBOX_CODE,), behaviour=behaviour)
        asyncio.run(_serve(app, host, port))


async def _serve(app: Sandbox, host: str, port: int) -> None:
    async with serving(app, host=host, port=port) as url:
        echo_err(instructions(len(app.population.times), url))
        await asyncio.Event().wait()


def instructions(records: int, url: str) -> str:
    """Return what to type in another shell. The package's own client takes loopback addresses and HTTPS only."""
    from voicenter_cdr.core.http.transport import is_loopback

    parts = urlsplit(url)
    host = _reachable_host(parts.hostname or "")
    served = urlunsplit(parts._replace(netloc=f"{f'[{host}]' if ':' in host else host}:{parts.port}"))
    head = f"{pluralize(records, 'record')} at {served}"
    if not is_loopback(host):
        return (
            f"{head}. This package sends credentials over HTTPS or to its own machine alone: put a proxy with a "
            f"certificate in front, or forward the port (ssh -L {parts.port}:{parts.netloc}).\n\nCtrl-C ends it."
        )
    return (
        f"{head}. In another shell:\n\n"
        f"  export VOICENTER_BASE_URL={served} VOICENTER_API_CODE={SANDBOX_CODE}\n"
        "  voicenter-cdr export --last 7d -o calls.csv\n\nCtrl-C ends it."
    )


def _reachable_host(host: str) -> str:
    """Return the address for requests: a service on all addresses is reached at the loopback one."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            return "::1" if address.version == 6 else "127.0.0.1"
    return host


def _load_population(data: str | None, days: int, seed: int) -> Population:
    if data is None:
        return _make_call_centre(days, seed)
    try:
        return load_jsonl(data)
    except (OSError, EOFError) as error:
        what = getattr(error, "strerror", None) or "it is incomplete"
        raise ConfigurationError(f"The file of --data can't be read: {what}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigurationError(
            "The file of --data holds a line that is not a record with a Date or DateEpoch",
            hint="Give it JSON Lines with the API's names, as voicenter-cdr export --raw-names writes them.",
        ) from None


def _make_call_centre(days: int, seed: int) -> CallCentre:
    if not 0 < days <= _LONGEST_DEMO:
        raise ConfigurationError(f"--days takes a whole number from 1 to {_LONGEST_DEMO}")
    end = periods.now()
    return CallCentre(end - timedelta(days=days), end, seed=seed)


SANDBOX_EXAMPLES: Final = """\
Examples:

  voicenter-cdr sandbox
  voicenter-cdr sandbox --port 0 --days 7
  voicenter-cdr sandbox --data calls.jsonl.gz
"""
