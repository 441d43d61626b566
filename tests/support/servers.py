"""Real servers for tests, on free ports of this machine: a sandbox over HTTP, Redis, PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from voicenter_cdr.sandbox import Sandbox, serving


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def self_signed_certificate(folder: Path) -> tuple[str, str]:
    """Make a certificate for localhost that nobody vouches for; return its path and its key's."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    paths = str(folder / "cert.pem"), str(folder / "key.pem")
    words = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -out {paths[0]} -keyout"
    more = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*words.split(), paths[1], *more], check=True, capture_output=True)
    return paths


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _wait_for(ready: Callable[[], bool]) -> None:
    for _ in range(500):
        if ready():
            return
        time.sleep(0.02)
    raise AssertionError("the server does not come up")


@contextmanager
def service(app: Sandbox) -> Iterator[str]:
    """The sandbox in a thread, for programs with an event loop of their own: its address."""
    ready, address, stop = threading.Event(), list[str](), list[Any]()

    async def serve() -> None:
        over = asyncio.Event()
        async with serving(app) as url:
            address.append(url)
            stop.append((asyncio.get_running_loop(), over))
            ready.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait(10)
    try:
        yield address[0]
    finally:
        loop, over = stop[0]
        loop.call_soon_threadsafe(over.set)
        thread.join(10)


@contextmanager
def redis(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Redis: its address, and its process. Skips the test where there is no server, or no client."""
    pytest.importorskip("redis")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), "--daemonize", "no"]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(lambda: _answers(port))
            yield f"redis://127.0.0.1:{port}/0", process
        finally:
            process.kill()


def _program(name: str) -> str | None:
    """A program of PostgreSQL's, which Debian keeps out of the path."""
    places = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL: its address. Skips the test where there is none, or nobody it would run as."""
    initdb, server, isready = (_program(name) for name in ("initdb", "postgres", "pg_isready"))
    if initdb is None or server is None or isready is None:
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory() as folder:
        who: dict[str, Any] = {"cwd": folder}
        if os.getuid() == 0:  # which it refuses to run as
            try:
                shutil.chown(folder, "postgres")
            except LookupError:
                pytest.skip("there is no user postgres")
            who["user"] = "postgres"
        data, port = f"{folder}/data", free_port()
        create = [initdb, "-D", data, "-U", "loader", "-A", "trust", "--no-sync", "--no-instructions"]
        subprocess.run(create, check=True, stdout=subprocess.DEVNULL, **who)
        quick = ("fsync=off", "full_page_writes=off", "autovacuum=off", "jit=off", "timezone=Asia/Jerusalem")
        options = ["-p", str(port), "-h", "127.0.0.1", "-k", "", *(word for name in quick for word in ("-c", name))]
        with subprocess.Popen([server, "-D", data, *options], stderr=subprocess.DEVNULL, **who) as process:
            try:
                asked = [isready, "-q", "-h", "127.0.0.1", "-p", str(port)]
                _wait_for(lambda: subprocess.run(asked, check=False).returncode == 0)
                yield f"postgresql://loader:trusted@127.0.0.1:{port}/postgres"
            finally:
                process.terminate()
