"""Reasons why there is no connection, as texts without secrets."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Final

import httpx
from attrs import frozen

__all__ = ["ConnectionFailure", "explain_failure"]

_UNREACHABLE: Final = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}

_UNKNOWN_HOST: Final = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


@frozen
class ConnectionFailure:
    """Reason why there is no connection, and what to do about it."""

    reason: str
    """Completes "The connection to HOST failed: …"."""
    hint: str | None = None
    can_heal: bool = True
    """``False`` if another attempt fails for the same reason until a person changes something."""

    def describe(self, host: str) -> str:
        """Return the whole sentence, the same for the API, for webhooks and for recordings."""
        return f"The connection to {host} failed: {self.reason}"


def explain_failure(error: BaseException) -> ConnectionFailure:
    """Explain an error of httpx by its causes. Quotes only the local TLS library and the system."""
    if isinstance(error, httpx.ProxyError):
        status = re.match(r"(\d{3})\b", str(error))
        if status and status[1] == "407":
            return ConnectionFailure(
                "the proxy asks for a password (407)",
                "Put the user and the password into HTTPS_PROXY: http://user:password@host:port.",
                can_heal=False,
            )
        suffix = f" with status {status[1]}" if status else ""
        return ConnectionFailure(
            f"the proxy refused it{suffix}",
            "Ask the operator of the proxy to allow the host, or unset HTTPS_PROXY.",
            can_heal=not (status and status[1].startswith("4")),
        )
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ConnectionFailure(
                f"its certificate is not trusted ({cause.verify_message})",
                "If a proxy or a virus scanner opens TLS here, name its certificate authority in SSL_CERT_FILE.",
                can_heal=False,
            )
        if isinstance(cause, ssl.SSLError):
            name = re.sub(r"[^A-Z0-9_]", "", getattr(cause, "reason", None) or "")
            hint = "Check the port and the proxy: what answers there speaks no TLS, or another version of it."
            return ConnectionFailure(f"the TLS handshake failed ({name or 'no reason given'})", hint)
        if isinstance(cause, socket.gaierror):
            unknown = cause.errno in _UNKNOWN_HOST
            return ConnectionFailure(
                "the host is unknown" if unknown else "the name service did not answer",
                "Check the spelling of the host, the proxy in HTTPS_PROXY, and this machine's network.",
            )
        if isinstance(cause, ConnectionRefusedError):
            return ConnectionFailure(
                "it was refused", "Nothing listens on that port, or a firewall forbids it: check host and port."
            )
        if isinstance(cause, OSError) and cause.errno in _UNREACHABLE:
            return ConnectionFailure("the network is unreachable", "Check this machine's network.")
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        is_connected = isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout)
        reason = "nothing more came in time" if is_connected else "nothing answered in time"
        return ConnectionFailure(reason, "Check the network, the firewall and the proxy.")
    if isinstance(error, httpx.ProtocolError):
        return ConnectionFailure(
            f"it was closed, or what answers does not speak HTTP ({type(error).__name__})",
            "Check the port: an https address needs a server that speaks TLS.",
        )
    return ConnectionFailure(f"it broke off ({type(error).__name__})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all of its causes, groups included."""
    todo: list[BaseException | None] = [error]
    seen: list[BaseException] = []
    while todo:
        cause = todo.pop(0)
        if cause is None or any(cause is other for other in seen):
            continue
        seen.append(cause)
        yield cause
        todo += [cause.__cause__, cause.__context__, *getattr(cause, "exceptions", ())]
