"""Object stores (S3, Google Cloud Storage, Azure) as destinations. Needs obstore (extra ``object-store``)."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from voicenter_cdr._extras import import_extra
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.sinks import FileSink
from voicenter_cdr.models import Cdr

__all__ = [
    "OBJECT_STORES",
    "ObjectSink",
    "PackedFile",
    "display_name",
    "open_bucket",
    "scheme_of",
    "translate_store_errors",
]

OBJECT_STORES: Final = ("s3", "gs", "az")
"""Schemes of addresses in object stores."""
RETRY_SECONDS: Final = 30.0
"""Time for which a failing request to an object store is repeated."""
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def scheme_of(destination: object) -> str | None:
    """Return the scheme of an address in lower case, ``None`` for a path or a stream."""
    if not isinstance(destination, str | os.PathLike):
        return None
    found = _SCHEME.match(os.fspath(destination))
    return found[1].lower() if found else None


def display_name(destination: str | os.PathLike[str]) -> str:
    """Return the destination as it may be shown: without the user, the password and the options of an address."""
    text = os.fspath(destination)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return text
    place = re.split(r"[?#]", text[scheme.end() :], maxsplit=1)[0].rpartition("@")[2]
    return f"{scheme[1]}://{place}"


def open_bucket(address: str) -> Any:
    """Return obstore's store of an address; credentials come from the environment.

    Raises:
        ConfigurationError: The address names no bucket, or obstore is not installed.
    """
    stores = import_extra("obstore.store", "object-store", "An object store")
    retry = {"retry_timeout": timedelta(seconds=RETRY_SECONDS), "max_retries": 5}
    try:
        return stores.from_url(address, retry_config=retry)
    except Exception:  # obstore has many; their text may repeat the address
        raise ConfigurationError(
            f"The address {display_name(address)} can't be used",
            hint="Write s3://BUCKET/FOLDER/, gs://… or az://…, without options.",
        ) from None


@contextmanager
def translate_store_errors(name: str) -> Iterator[None]:
    """Turn obstore's errors, which repeat addresses and answers, into ``OSError``."""
    exceptions = import_extra("obstore.exceptions", "object-store", "An object store")
    try:
        yield
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError):
        raise OSError(errno.EACCES, "the object store refuses these credentials", name) from None
    except (exceptions.BaseError, FileNotFoundError) as error:
        raise OSError(errno.EIO, f"the object store failed ({type(error).__name__})", name) from None


class PackedFile(gzip.GzipFile):
    """Gzip over a file that nobody reads before its end."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__("", "wb", 6, file, mtime=0)

    def flush(self, zlib_mode: int = 0) -> None:
        """Do nothing: to flush after every batch would cost room."""


class ObjectSink:
    """Sink for one object, which appears whole or not at all.

    Records wait in a temporary file of this machine; :meth:`commit` sends it.
    """

    partial_path: Path | None = None
    """Always ``None``: nothing is left of an object that was not sent."""

    def __init__(self, address: str, open_inner: Callable[[BinaryIO], FileSink], *, pack: bool = False) -> None:
        folder, _, self._key = address.rpartition("/")
        if not self._key or folder.endswith(":/"):
            raise ConfigurationError(
                f"{display_name(address)} names no object", hint="Write s3://BUCKET/FOLDER/calls.parquet, for example."
            )
        self._name = display_name(address)
        self._bucket = open_bucket(folder)
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # closed by commit and abort
        self._packed = PackedFile(self._file) if pack else None
        self._inner = open_inner(cast(BinaryIO, self._packed or self._file))
        self.written = 0
        """Number of records written so far."""

    def write(self, records: Sequence[Cdr]) -> None:
        """Write one batch to the temporary file."""
        self._inner.write(records)
        self.written = self._inner.written

    def commit(self) -> None:
        """Send the object. Raises ``OSError`` if the store does not take it."""
        self._inner.commit()
        if self._packed is not None:
            self._packed.close()
        self._file.seek(0)
        with translate_store_errors(self._name):
            self._bucket.put(self._key, self._file)
        self._file.close()

    def abort(self) -> None:
        """Discard the temporary file."""
        with contextlib.suppress(Exception):  # after a failure the format may refuse everything
            self._inner.abort()
        with contextlib.suppress(OSError):
            self._file.close()
