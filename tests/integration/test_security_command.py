"""Commands show no credential in their output, files or logs."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.examples import sample
from support.leaks import ROW, SECRET, leaks, told


class Watching(ThreadingHTTPServer):
    """A service that looks at the list of processes while it is asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[bytes] = []
        self.lines: list[str] = []
        self.fails = False


class Handler(BaseHTTPRequestHandler):
    server: Watching

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(body + str(self.headers).encode())
        self.server.lines += [_line(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
        row = ROW | ({"Duration": f"x{SECRET}"} if self.server.fails else {})
        data = told(CDR_LIST=[row])
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Quietly."""


def _line(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:  # it has ended
        return ""


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no list of processes to look at")
@pytest.mark.parametrize(
    ("command", "way", "variable", "fails"),
    sample(
        [
            (command, *way)
            for command in ("export", "sync")
            for way in (("code", "VOICENTER_API_CODE", False), ("token", "VOICENTER_BEARER_TOKEN", True))
        ],
        4,
        first=3,
    ),
)
def test_command_leaves_no_credential_behind(
    command: str, way: str, variable: str, fails: bool, tmp_path: Path
) -> None:
    """The credential is in no list of processes, message, log, output, state or lock, whether all goes well or not."""
    pytest.importorskip("cyclopts")
    secret_file, folder = tmp_path / "secret", tmp_path / "out"
    secret_file.write_text(SECRET + "\n", "utf-8")
    folder.mkdir()
    server = Watching()
    server.fails = fails
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    words = {
        "export": ("export", "-o", str(folder / "a.jsonl"), f"--{way}-file", str(secret_file)),
        "sync": ("sync", str(folder / "calls.sqlite")),
    }[command]
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        more = ("--from", "2026-01-04T00:00", "--to", "2026-01-04T01:00", "--tz", "UTC", "--base-url", url)
        done = subprocess.run(
            [sys.executable, "-m", "voicenter_cdr", *words, *more, "--json-logs"],
            env={**os.environ} | ({} if command == "export" else {variable: SECRET}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == (4 if fails else 0), done.stderr
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert server.asked
    assert all(SECRET.encode() in asked or json.dumps(SECRET).encode()[1:-1] in asked for asked in server.asked)
    commands = [line for line in server.lines if "voicenter_cdr" in line and str(folder) in line]
    assert commands
    assert not [line for line in server.lines if SECRET in line]
    assert not leaks(done.stdout + done.stderr)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files or (command == "export" and fails)  # which leaves none where no record could be read
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    if command == "sync" and not fails:
        with sqlite3.connect(folder / "calls.sqlite") as database:
            assert database.execute("SELECT caller_number FROM cdr").fetchall() == [("0521234567",)]
        database.close()
