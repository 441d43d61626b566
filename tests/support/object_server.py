"""An object store on a port of this machine, as obstore sees S3, Google Cloud Storage and Azure, conditions included.

Objects are held in memory by ``bucket/key``. Which of the three is spoken follows from the request: Azure's paths begin
with the account, and Google's writes name a generation in place of a mark.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

SCHEMES = ("s3", "gs", "az")
ACCOUNT = "storageaccount"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_WHEN = "Wed, 01 Jul 2026 00:00:00 GMT"


class ObjectServer(ThreadingHTTPServer):
    """The server and its objects."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.refusal: tuple[int, str] | None = None
        """Status and code by which every request is refused."""
        self.lock = threading.Lock()
        self.generations: dict[str, int] = {}
        self.numbers = itertools.count(1)
        self.parts: dict[tuple[str, str], bytes] = {}

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that was killed."""

    @property
    def address(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """Options of obstore to use it as S3."""
        return {
            "AWS_ENDPOINT": self.address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_REGION": "eu-west-1",
        }

    def environment_of(self, scheme: str, folder: Path) -> dict[str, str]:
        """Options of obstore to use it by this scheme; ``folder`` takes a file of credentials."""
        if scheme == "s3":
            return self.environment
        if scheme == "az":
            return {
                "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                "AZURE_STORAGE_ENDPOINT": f"{self.address}/{ACCOUNT}",
                "AZURE_ALLOW_HTTP": "true",
                "AZURE_SKIP_SIGNATURE": "true",
            }
        key = folder / "google.json"
        content = {"gcs_base_url": self.address, "disable_oauth": True, "client_email": "", "private_key": ""}
        key.write_text(json.dumps(content | {"private_key_id": ""}), "utf-8")
        return {"GOOGLE_SERVICE_ACCOUNT": str(key), "GOOGLE_ALLOW_HTTP": "true"}


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets, and the second would wait for a receipt
    server: ObjectServer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def parse_request(self) -> bool:
        """Read the address as well: bucket and key, and the options behind it."""
        if not super().parse_request():
            return False
        url = urlsplit(self.path)
        self.query = parse_qs(url.query, keep_blank_values=True)
        path = unquote(url.path).lstrip("/")
        self.is_azure = path.startswith(f"{ACCOUNT}/")
        self.key = path.removeprefix(f"{ACCOUNT}/")
        return True

    def _read(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _fail(self, status: int, code: str) -> None:
        headers = {"x_ms_error_code": code} if self.is_azure else {}
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode(), **headers)

    def _is_refused(self) -> bool:
        if self.server.refusal is None:
            return False
        self._read()
        self._fail(*self.server.refusal)
        return True

    def _marks(self, data: bytes) -> dict[str, str]:
        generation = self.server.generations.get(self.key, 0)
        return {"ETag": _etag(data), "Last_Modified": _WHEN, "x_goog_generation": str(generation)}

    def do_PUT(self) -> None:  # the name http.server looks for
        if self._is_refused():
            return None
        data = self._read()
        part = self.query.get("partNumber") or self.query.get("blockid")
        if part:
            self.server.parts[self.key, part[0]] = data
            return self._answer(201 if self.is_azure else 200, ETag=_etag(data))
        if "blocklist" in self.query.get("comp", []):
            blocks = re.findall("<(?:Latest|Uncommitted)>(.*?)</", data.decode())
            data = b"".join(self.server.parts.pop((self.key, block)) for block in blocks)
        return self._store(data)

    def _store(self, data: bytes) -> None:
        with self.server.lock:
            there = self.server.objects.get(self.key)
            none, match = self.headers["If-None-Match"], self.headers["If-Match"]
            generation = self.headers["x-goog-if-generation-match"]
            refused = (
                (none == "*" and there is not None)
                or (match and (there is None or _etag(there) != match))
                or (generation and int(generation) != (0 if there is None else self.server.generations[self.key]))
            )
            if not refused:
                self.server.objects[self.key] = data
                self.server.generations[self.key] = next(self.server.numbers)
        if refused:
            status, code = (409, "BlobAlreadyExists") if self.is_azure and none else (412, "PreconditionFailed")
            return self._fail(status, code)
        return self._answer(201 if self.is_azure else 200, **self._marks(data))

    def do_GET(self) -> None:
        if self._is_refused():
            return None
        if "list-type" in self.query or "list" in self.query.get("comp", []):
            return self._list()
        data = self.server.objects.get(self.key)
        if data is None:
            return self._fail(404, "BlobNotFound" if self.is_azure else "NoSuchKey")
        return self._answer(200, data, **self._marks(data))

    do_HEAD = do_GET  # noqa: N815

    def _list(self) -> None:
        bucket, prefix = self.key.split("/")[0], self.query.get("prefix", [""])[0]
        with self.server.lock:
            found = {key.partition("/")[2]: data for key, data in self.server.objects.items() if key.startswith(bucket)}
        found = {key: data for key, data in sorted(found.items()) if key.startswith(prefix)}
        if self.is_azure:  # which leaves out the quotation marks here
            blobs = "".join(
                f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>{_WHEN}</Last-Modified>"
                f"<Content-Length>{len(data)}</Content-Length><Content-Type>x</Content-Type>"
                f"<Etag>{_etag(data).strip(chr(34))}</Etag></Properties></Blob>"
                for key, data in found.items()
            )
            text = f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
        else:
            items = "".join(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-07-01T00:00:00.000Z</LastModified>"
                f"<ETag>{escape(_etag(data))}</ETag><Size>{len(data)}</Size></Contents>"
                for key, data in found.items()
            )
            text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
        self._answer(200, text.encode(), Content_Type="application/xml")

    def do_DELETE(self) -> None:
        if self._is_refused():
            return
        with self.server.lock:
            self.server.objects.pop(self.key, None)
        self._answer(202 if self.is_azure else 204)

    def do_POST(self) -> None:
        """Begin or complete an upload in parts, or delete many objects."""
        if self._is_refused():
            return None
        data = self._read()
        if "uploads" in self.query:
            text = f"<InitiateMultipartUploadResult><UploadId>{next(self.server.numbers)}</UploadId>"
            return self._answer(200, f"{text}</InitiateMultipartUploadResult>".encode())
        if "uploadId" in self.query:
            numbers = re.findall("<PartNumber>(.*?)</", data.decode())
            whole = b"".join(self.server.parts.pop((self.key, number)) for number in numbers)
            with self.server.lock:
                self.server.objects[self.key] = whole
                self.server.generations[self.key] = next(self.server.numbers)
            text = f"<CompleteMultipartUploadResult><ETag>{escape(_etag(whole))}</ETag></CompleteMultipartUploadResult>"
            return self._answer(200, text.encode(), **self._marks(whole))
        if self.is_azure:
            return self._delete_batch(data.decode())
        bucket = self.key.split("/")[0]
        keys = [key.decode() for key in re.findall(rb"<Key>(.*?)</Key>", data)]
        with self.server.lock:
            for key in keys:
                self.server.objects.pop(f"{bucket}/{key}", None)
        done = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        text = f'<DeleteResult xmlns="{_NAMESPACE}">{done}</DeleteResult>'
        return self._answer(200, text.encode(), Content_Type="application/xml")

    def _delete_batch(self, text: str) -> None:
        answers = []
        for number, path in enumerate(re.findall(r"^DELETE (\S+) ", text, re.M)):
            key = unquote(path).lstrip("/").removeprefix(f"{ACCOUNT}/")
            with self.server.lock:
                status = "202 Accepted" if self.server.objects.pop(key, None) is not None else "404 Not Found"
            code = "" if status.startswith("202") else "x-ms-error-code: BlobNotFound\r\n"
            head = f"--batch\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
            answers.append(f"{head}HTTP/1.1 {status}\r\n{code}x-ms-request-id: 1\r\n\r\n")
        self._answer(202, ("".join(answers) + "--batch--").encode(), Content_Type="multipart/mixed; boundary=batch")


@contextmanager
def object_server() -> Iterator[ObjectServer]:
    """Serve until the block ends."""
    with ObjectServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)
