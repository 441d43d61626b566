"""Object stores (S3, Google Cloud Storage, Azure) as destinations. Needs obstore (extra ``object-store``)."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from voicenter_cdr._extras import import_extra
from voicenter_cdr.errors import ConfigurationError
from voicenter_cdr.export.dataset import DATA_SUFFIXES, DatasetSink, FileFormat, day_of, file_suffix, is_passed_over
from voicenter_cdr.export.schema import Column
from voicenter_cdr.export.sinks import FileSink
from voicenter_cdr.models import Cdr

__all__ = [
    "OBJECT_STORES",
    "SYNC_STATE",
    "ObjectDatasetSink",
    "ObjectSink",
    "PackedFile",
    "check_object",
    "describe_schemes",
    "display_name",
    "etag_of",
    "fetch_objects",
    "is_day_object",
    "open_bucket",
    "put_object",
    "refuse_stray_objects",
    "scheme_of",
    "store_exceptions",
    "translate_store_errors",
    "version_of",
]

OBJECT_STORES: Final = ("s3", "gs", "az")
"""Schemes of addresses in object stores."""
SYNC_STATE: Final = "_voicenter_sync.json"  # readers of datasets pass over names with an underscore
"""Name of the object in which a sync keeps its state."""
RETRY_SECONDS: Final = 30.0
"""Time for which a failing request to an object store is repeated."""
_SUCCESS: Final = "_SUCCESS"
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
"""Beginning of an address, also of one that lacks a slash; a drive of Windows has one letter."""
_PLAIN: Final = re.compile(r"\w+://(?![^/]*@)[^?#]*")
"""Address without a user, a password and options, which obstore would ignore, or take for a part of the name."""
_DOTS: Final = (".", "..")
"""Parts of paths that are names to an object store, and that libraries leave out, as they do empty ones."""
_CREDENTIALS: Final[Mapping[str, str]] = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, for temporary ones AWS_SESSION_TOKEN, or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or those of gcloud or of the machine",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and "
    "AZURE_TENANT_ID",
}
"""Variables in which obstore looks for credentials."""
_ALLOW_HTTP: Final[Mapping[str, str]] = {"s3": "AWS_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
"""Variables that let obstore send credentials over plain HTTP."""
_NO_BUCKET: Final = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.I)
_REFUSED: Final = re.compile(r"40[13] (Forbidden|Unauthorized)|code: 40[13]")
_NO_CREDENTIALS: Final = re.compile(r"169\.254\.169\.254|metadata\.google|Account must be|Missing \w*Key", re.I)
_MAY_NOT_READ: Final = re.compile(r"AccessDenied|AuthorizationPermissionMismatch|does not have storage\.")
_PLAIN_HTTP: Final = re.compile(r"\bBadScheme\b")
_UNREACHABLE: Final = re.compile(r"kind: (Connect|Timeout)\b")
_WRONG_REGION: Final = re.compile(r"redirect|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation")


def scheme_of(destination: object) -> str | None:
    """Return the scheme of an address in lower case, ``None`` for a path or a stream."""
    if not isinstance(destination, str | os.PathLike):
        return None
    found = _SCHEME.match(os.fspath(destination))
    return found[1].lower() if found else None


def describe_schemes(scheme: str, possible: str) -> str:
    """Return the hint for a scheme that can't be used where these can."""
    return "Name the file itself, without file://." if scheme == "file" else f"Possible are {possible}."


def display_name(destination: str | os.PathLike[str]) -> str:
    """Return the destination for display: without the user, the password and the options of an address."""
    text = os.fspath(destination)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return text
    place = re.split(r"[?#]", text[scheme.end() :], maxsplit=1)[0].rpartition("@")[2]
    return f"{scheme[1]}://{place}"


def _check_address(address: str) -> None:
    """Raise :class:`ConfigurationError` for an address that could hold a credential, or names no object exactly."""
    if _PLAIN.fullmatch(address) is None:
        raise _unusable(address)
    *parts, last = address.partition("://")[2].split("/")[1:] or [""]
    if last in _DOTS or any(part in ("", *_DOTS) for part in parts):
        raise ConfigurationError(
            f"The address {display_name(address)} has an empty part, or one of dots",
            hint="Write one slash between the parts of a name; an object store knows no . and no ...",
        )


def _unusable(address: str) -> ConfigurationError:
    return ConfigurationError(
        f"The address {display_name(address)} can't be used",
        hint="Write s3://BUCKET/FOLDER/, gs://BUCKET/FOLDER/ or az://CONTAINER/FOLDER/, without a user and options: "
        "credentials come from the environment.",
    )


def open_bucket(address: str) -> Any:
    """Return obstore's store of an address; credentials come from the environment.

    Raises:
        ConfigurationError: The address names no bucket or holds more, the environment's credentials can't be read, or
            obstore is not installed.
    """
    _check_address(address)
    stores = import_extra("obstore.store", "object-store", "An object store")
    retry = {"retry_timeout": timedelta(seconds=RETRY_SECONDS), "max_retries": 5}
    name, scheme = display_name(address), scheme_of(address) or ""
    try:
        return stores.from_url(address, retry_config=retry)
    except Exception as error:  # obstore has many; their text may repeat the address
        if isinstance(error, ValueError) or "URL error" in str(error):
            raise _unusable(address) from None
        raise ConfigurationError(
            f"The environment has no usable credentials for {name}", hint=f"Looked for: {_CREDENTIALS[scheme]}."
        ) from None


def store_exceptions() -> Any:
    """Return obstore's module of exceptions. Raises :class:`ConfigurationError` if obstore is not installed."""
    return import_extra("obstore.exceptions", "object-store", "An object store")


@contextmanager
def translate_store_errors(name: str) -> Iterator[None]:
    """Translate obstore's errors, which repeat addresses and responses, to ``OSError``."""
    exceptions = store_exceptions()
    try:
        yield
    except (exceptions.BaseError, FileNotFoundError) as error:
        refused = isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError)
        number, message = _explain(str(error), scheme_of(name) or "", refused=refused)
        raise OSError(number, f"{name}: {message or f'the object store failed ({type(error).__name__})'}") from None


def _explain(text: str, scheme: str, *, refused: bool) -> tuple[int, str | None]:
    """Return an error number, and what happened in words, as far as obstore's message shows."""
    looked_for = f"looked for: {_CREDENTIALS.get(scheme, 'the usual variables')}"
    if _NO_BUCKET.search(text):
        return errno.ENOENT, "there is no such bucket"
    if _NO_CREDENTIALS.search(text):
        return errno.EACCES, f"there are no credentials for the object store ({looked_for})"
    if refused or _REFUSED.search(text):
        return errno.EACCES, f"the object store refuses these credentials ({looked_for})"
    if scheme == "s3" and _WRONG_REGION.search(text):
        return errno.EINVAL, "the bucket is in another region (AWS_REGION)"
    if scheme in _ALLOW_HTTP and _PLAIN_HTTP.search(text):
        return errno.EINVAL, f"the endpoint is plain HTTP ({_ALLOW_HTTP[scheme]}=true allows it)"
    if _UNREACHABLE.search(text):
        return errno.EIO, "the object store can't be reached"
    return errno.EIO, None


class PackedFile(gzip.GzipFile):
    """Gzip over a file that is not read before its end."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__("", "wb", 6, file, mtime=0)

    def flush(self, zlib_mode: int = 0) -> None:
        """Do nothing: to flush after every batch would cost room."""


def _split(address: str) -> tuple[str, str]:
    """Return the address of the folder and the name of the object. Raises :class:`ConfigurationError` without one."""
    _check_address(address)
    folder, _, key = address.rpartition("/")
    if not key or folder.endswith(":/"):
        raise ConfigurationError(
            f"{display_name(address)} names no object", hint="Write s3://BUCKET/FOLDER/calls.parquet, for example."
        )
    return folder, key


def check_object(address: str) -> None:
    """Check, before any request to the service, that the object store can be reached with these credentials.

    Raises:
        ConfigurationError: The address names no object, or obstore is not installed.
        OSError: The object store can't be reached, or refuses.
    """
    folder, key = _split(address)
    bucket = open_bucket(folder)
    exceptions = store_exceptions()
    with translate_store_errors(display_name(address)):
        try:
            bucket.get(key)  # its content is not read
        except (FileNotFoundError, exceptions.PermissionDeniedError) as error:
            is_missing = isinstance(error, FileNotFoundError) and not _NO_BUCKET.search(str(error))
            if not is_missing and not _MAY_NOT_READ.search(str(error)):  # write access may come without read access
                raise


def is_day_object(path: str, suffix: str = "") -> bool:
    """Return whether an object of this name belongs to a dataset by day, in files of this suffix."""
    folder, _, name = path.partition("/")
    return day_of(folder) is not None and name.startswith("part-") and "/" not in name and name.endswith(suffix)


def refuse_stray_objects(paths: Iterable[str], suffix: str, place: str) -> None:
    """Raise :class:`ConfigurationError` for objects that readers would count as records, though they are of no day."""
    for path in paths:
        is_read = path.lower().endswith(DATA_SUFFIXES) and not any(map(is_passed_over, path.split("/")))
        if is_read and not is_day_object(path, suffix):
            raise ConfigurationError(
                f"{place} holds more than a dataset date=…/part-…{suffix}: {path}",
                hint="Move that away, or name a new folder.",
            )


def put_object(address: str, data: bytes) -> None:
    """Send one object, which appears complete or not at all. Raises ``OSError`` if the store refuses it."""
    folder, key = _split(address)
    with translate_store_errors(display_name(address)):
        open_bucket(folder).put(key, data)


def fetch_objects(address: str, is_wanted: Callable[[str], bool] | None) -> Iterator[Path]:
    """Yield the wanted objects below an address in order of their names, each as a temporary file until the next.

    Without ``is_wanted``, the one object of the address. Raises ``OSError`` if the store can't be reached, or refuses.
    """
    folder, key = _split(address) if is_wanted is None else (address.removesuffix("/"), "")
    bucket = open_bucket(folder)
    with translate_store_errors(display_name(address)), tempfile.TemporaryDirectory(prefix="voicenter-") as here:
        found = [key] if is_wanted is None else sorted(meta["path"] for page in bucket.list() for meta in page)
        for path in found:
            if is_wanted is None or is_wanted(path):
                file = Path(here, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("wb") as out:
                    out.writelines(bucket.get(path).stream())
                yield file
                file.unlink()


class ObjectSink:
    """Sink for one object, which appears complete or not at all.

    Records wait in a temporary file of this machine; :meth:`commit` sends it. If the store refuses it, the file
    is kept.
    """

    def __init__(self, address: str, open_inner: Callable[[BinaryIO], FileSink], *, pack: bool = False) -> None:
        check_object(address)
        folder, self._key = _split(address)
        self._name = display_name(address)
        self._bucket = open_bucket(folder)
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # closed by commit and abort
        self._packed = PackedFile(self._file) if pack else None
        self._inner = open_inner(cast(BinaryIO, self._packed or self._file))
        self.partial_path: Path | None = None
        """After a :meth:`commit` that failed: the file with all records."""
        self.written = 0
        """Number of records written so far."""

    def write(self, records: Sequence[Cdr]) -> None:
        """Write one batch to the temporary file."""
        self._inner.write(records)
        self.written = self._inner.written

    def commit(self) -> None:
        """Send the object. Raises ``OSError`` if the store refuses it."""
        self._inner.commit()
        if self._packed is not None:
            self._packed.close()
        self._file.seek(0)
        try:
            with translate_store_errors(self._name):
                self._bucket.put(self._key, self._file)
        except OSError:
            self.partial_path = self._keep()
            raise
        self._file.close()

    def _keep(self) -> Path:
        """Copy the temporary file to one that stays: credentials may have expired after hours of work."""
        path = Path(tempfile.mkdtemp(prefix="voicenter-")) / self._key
        self._file.seek(0)
        with path.open("wb") as out:
            shutil.copyfileobj(self._file, out)
        return path

    def abort(self) -> None:
        """Discard the temporary file."""
        with contextlib.suppress(Exception):  # after a failure the format may raise anything
            self._inner.abort()
        with contextlib.suppress(OSError):
            self._file.close()


class ObjectDatasetSink:
    """Sink for a dataset by the UTC day of ``started_at`` in an object store: ``date=2026-07-14/part-0.parquet``.

    Records wait in a temporary folder of this machine; :meth:`commit` sends them. Each object appears complete or not
    at all, and an object ``_SUCCESS`` only once all exist and none of an earlier dataset is left. An object that
    another program has written meanwhile is never replaced.

    Raises:
        ConfigurationError: There is anything else below the address, or it is kept by a sync.
        OSError: The object store can't be reached, or refuses.
    """

    def __init__(self, address: str, *, columns: Sequence[Column], file_format: FileFormat) -> None:
        self._name = display_name(address)
        self._bucket = open_bucket(address.rstrip("/"))
        self._suffix = file_suffix(file_format)
        self._found = self._list()
        self._folder = Path(tempfile.mkdtemp(prefix="voicenter-"))
        self._inner = DatasetSink(self._folder / "dataset", columns=columns, file_format=file_format)
        self.partial_path: Path | None = None
        """After a :meth:`commit` that failed: the folder with all records."""
        self.written = 0
        """Number of records written so far."""

    def _list(self) -> dict[str, str | None]:
        """Return the marks of the objects of an earlier dataset. Raises :class:`ConfigurationError` for any other."""
        with translate_store_errors(self._name):
            found = {meta["path"]: meta for page in self._bucket.list() for meta in page}
        if SYNC_STATE in found:
            raise ConfigurationError(
                f"{self._name} is kept by a sync", hint="Export to another folder, or run the sync."
            )
        refuse_stray_objects(found, self._suffix, self._name)
        return {path: etag_of(meta) for path, meta in found.items() if is_day_object(path)}

    def write(self, records: Sequence[Cdr]) -> None:
        """Write one batch to the temporary folder."""
        self._inner.write(records)
        self.written = self._inner.written

    def commit(self) -> None:
        """Send all objects, then remove those of an earlier dataset. Raises ``OSError`` if the store refuses."""
        self._inner.commit()
        root = self._folder / "dataset"
        try:
            with translate_store_errors(self._name):
                self._send({path.relative_to(root).as_posix(): path for path in sorted(root.glob("date=*/part-*"))})
        except OSError:
            self.partial_path = root
            raise
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self, files: Mapping[str, Path]) -> None:
        exceptions = store_exceptions()
        self._delete(_SUCCESS)
        sent = dict[str, str | None]()
        for key, path in files.items():
            with path.open("rb") as file:
                try:
                    sent[key] = etag_of(self._bucket.put(key, file, mode=self._version(key)))
                except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                    raise self._taken() from None
        for key in self._found.keys() - files.keys():
            self._delete(key)
        if self._list() != sent:
            raise self._taken()
        self._bucket.put(_SUCCESS, b"")

    def _version(self, key: str) -> Any:
        """Return the mode that replaces an object only as it was found, or writes it only if there was none."""
        if key not in self._found:
            return "create"
        meta = self._bucket.head(key)
        if etag_of(meta) != self._found[key]:
            raise self._taken()
        return version_of(meta)

    def _delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._bucket.delete(key)

    def _taken(self) -> OSError:
        return OSError(errno.EBUSY, "another program has written there meanwhile", self._name)

    def abort(self) -> None:
        """Discard the temporary folder."""
        self._inner.abort()
        if self.partial_path is None:
            shutil.rmtree(self._folder, ignore_errors=True)


def etag_of(meta: Mapping[str, Any]) -> str | None:
    """Return the mark of an object's content, to compare it: in its lists Azure leaves out the quotation marks."""
    etag = meta.get("e_tag")
    return None if etag is None else str(etag).strip('"')


def version_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the condition for replacing an object; taken from ``put``, ``get`` or ``head``, not from a list."""
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}
