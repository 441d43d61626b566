"""A small S3 on a port of this machine, with conditional writes, over a folder that outlives its readers."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class S3Server(ThreadingHTTPServer):
    """The server and its objects, by key."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that was killed."""

    @property
    def environment(self) -> dict[str, str]:
        """What obstore has to be told to use it."""
        return {
            "AWS_ENDPOINT": f"http://127.0.0.1:{self.server_address[1]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_REGION": "eu-west-1",
        }


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: S3Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/")

    def _answer(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_PUT(self) -> None:  # the name http.server looks for
        data = self.rfile.read(int(self.headers["Content-Length"] or 0))
        with self.server.lock:
            there = self.server.objects.get(self._key())
            none, match = self.headers["If-None-Match"], self.headers["If-Match"]
            refused = (none == "*" and there is not None) or (match and (there is None or _etag(there) != match))
            if not refused:
                self.server.objects[self._key()] = data
        if refused:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self._answer(200, ETag=_etag(data))

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if "list-type" in url.query:
            return self._list(parse_qs(url.query))
        data = self.server.objects.get(self._key())
        if data is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        return self._answer(200, data, ETag=_etag(data), Last_Modified="Wed, 01 Jul 2026 00:00:00 GMT")

    do_HEAD = do_GET  # noqa: N815

    def _list(self, query: dict[str, list[str]]) -> None:
        bucket, prefix = self._key().split("/")[0], query.get("prefix", [""])[0]
        with self.server.lock:
            found = {key.partition("/")[2]: data for key, data in self.server.objects.items() if key.startswith(bucket)}
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-07-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(_etag(data))}</ETag><Size>{len(data)}</Size></Contents>"
            for key, data in sorted(found.items())
            if key.startswith(prefix)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
        self._answer(200, text.encode(), Content_Type="application/xml")

    def do_DELETE(self) -> None:
        with self.server.lock:
            self.server.objects.pop(self._key(), None)
        self._answer(204)

    def do_POST(self) -> None:
        bucket, data = self._key().split("/")[0], self.rfile.read(int(self.headers["Content-Length"]))
        keys = re.findall(rb"<Key>(.*?)</Key>", data)
        with self.server.lock:
            for key in keys:
                self.server.objects.pop(f"{bucket}/{key.decode()}", None)
        done = b"".join(b"<Deleted><Key>" + key + b"</Key></Deleted>" for key in keys)
        self._answer(200, b"<DeleteResult>" + done + b"</DeleteResult>", Content_Type="application/xml")


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Serve until the block ends."""
    with S3Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)
