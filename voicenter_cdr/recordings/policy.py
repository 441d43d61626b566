"""Download policy: allowed hosts, sizes and times."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import httpx
from attrs import frozen

from voicenter_cdr._files import check_folder
from voicenter_cdr._validation import check_number
from voicenter_cdr.core.http.transport import is_loopback, parse_address
from voicenter_cdr.errors import ConfigurationError, RecordingError

__all__ = ["DEFAULT_HOSTS", "MAX_REDIRECTS", "DownloadPolicy", "not_a_recording_error", "parse_link", "prepare_folder"]

DEFAULT_HOSTS: Final = (".voicenter.co.il", ".voicenter.com")
"""Allowed hosts: the links in the API document lead to ``cpanel.voicenter.co.il``."""

MAX_REDIRECTS: Final = 3

_HOST: Final = re.compile(r"(?=.{1,253}$)\.?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")

_LONG_NUMBER: Final = re.compile(r"\d{5,}")


@frozen(kw_only=True)
class DownloadPolicy:
    """Limits of a download. ``timeout`` is in seconds."""

    hosts: tuple[str, ...]
    timeout: float
    max_bytes: int
    max_attempts: int

    @classmethod
    def of(cls, hosts: Iterable[str], *, timeout: float, max_bytes: int, max_attempts: int) -> DownloadPolicy:
        """Check the options of a call. Raises :class:`ConfigurationError`."""
        check_number("timeout", timeout, above=0)
        check_number("max_bytes", max_bytes, minimum=1, whole=True)
        check_number("max_attempts", max_attempts, minimum=1, whole=True)
        if isinstance(hosts, str):
            raise ConfigurationError('hosts takes a list, such as [".voicenter.co.il"]')
        return cls(hosts=tuple(map(_host, hosts)), timeout=timeout, max_bytes=max_bytes, max_attempts=max_attempts)

    def check(self, url: httpx.URL) -> None:
        """Refuse a link to another host or without TLS. Raises :class:`RecordingError`."""
        host = url.raw_host.decode("ascii").lower()
        named = _HOST.fullmatch(host) or _is_address(host)
        if url.scheme not in ("http", "https") or not named or (url.port or 0) > 65_535:
            raise RecordingError("The link to the recording is not a web address")
        if not any(host == name or (name.startswith(".") and host.endswith(name)) for name in self.hosts):
            here = is_loopback(host) and not _LONG_NUMBER.search(host)
            shown = host if here else "an address" if _is_address(host) else _LONG_NUMBER.sub("…", host)
            example = f'"{host}"' if here else "…"
            raise RecordingError(
                f"The link leads to {shown}, which is not an allowed host",
                hint=f"If you trust it, allow it: hosts=[*DEFAULT_HOSTS, {example}], or --hosts on the command line.",
            )
        if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
            raise RecordingError("The link is not https", hint="Ask Voicenter why; nothing was sent.")
        if url.userinfo:
            raise RecordingError("The link holds a credential", hint="Ask Voicenter why; nothing was sent.")


def parse_link(link: str, base: httpx.URL | None = None) -> httpx.URL:
    """Parse a link, which may be relative to ``base``. Raises :class:`RecordingError` if it is not an address."""
    try:
        url = base.join(link) if base else httpx.URL(link)
        _ = url.host  # decoded here, since it would fail in the request
    except (httpx.InvalidURL, ValueError):
        raise RecordingError("The link to the recording is not a web address") from None
    return url


def _host(name: str) -> str:
    """Check the name of one host."""
    name = name.strip().lower()
    if not (is_loopback(name) if _is_address(name) else _HOST.fullmatch(name)):
        raise ConfigurationError(
            "hosts takes names, such as cpanel.voicenter.co.il, or .voicenter.co.il for all below it",
            hint="Leave out the scheme, the port and the path; of addresses, only 127.0.0.1 and ::1 can be named.",
        )
    return name


def _is_address(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2].isdigit() or parse_address(host) is not None


def prepare_folder(directory: str | os.PathLike[str]) -> Path:
    """Create the folder for recordings if it is missing. Raises :class:`ConfigurationError` for a file."""
    folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file; name a folder")
    check_folder(folder.absolute().parent)
    folder.mkdir(exist_ok=True)
    check_folder(folder)
    return folder


def not_a_recording_error(what: str, *, defect: Literal["empty"] | None = None) -> RecordingError:
    """Return the error for a body that is something else."""
    return RecordingError(
        f"The response is not a recording, but {what}",
        hint="The link may need a login or another address: open it in a browser, or ask Voicenter's support.",
        defect=defect,
    )
