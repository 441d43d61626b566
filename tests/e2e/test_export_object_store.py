"""Exports to object stores: files and folders, by the address of each store; whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import itertools
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.examples import sample
from support.object_server import SCHEMES, ObjectServer, object_server

from voicenter_cdr import Cdr, ConfigurationError, cli
from voicenter_cdr.export import committing, open_sink
from voicenter_cdr.export.object_store import SYNC_STATE

BEGIN = datetime(2026, 7, 1, 5, tzinfo=UTC)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_server() as running:
        yield running


@pytest.fixture(params=sample(SCHEMES, len(SCHEMES)))
def target(
    request: pytest.FixtureRequest, server: ObjectServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """A folder of its own in a bucket, by each scheme."""
    (tmp_path / "credentials").mkdir()
    for name, value in server.environment_of(request.param, tmp_path / "credentials").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("voicenter_cdr.export.object_store.RETRY_SECONDS", 0.3)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return f"{request.param}://bucket/export{next(_numbers)}/"


@pytest.fixture(autouse=True)
def _accepting(server: ObjectServer) -> Iterator[None]:
    yield
    server.refusal = None


def objects(server: ObjectServer, target: str) -> dict[str, bytes]:
    prefix = target.partition("://")[2]
    return {key.removeprefix(prefix): data for key, data in server.objects.items() if key.startswith(prefix)}


def records(number: int = 9, *, since: datetime = BEGIN) -> list[Cdr]:
    return [Cdr(started_at=since + timedelta(hours=7 * n), call_id=str(n)) for n in range(number)]


def write(destination: str | Path, found: Sequence[Cdr], **options: Any) -> None:
    with committing(open_sink(destination, **options)) as sink:
        sink.write(found)


def left_behind(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith("voicenter-")]


@pytest.mark.parametrize("name", ["calls.parquet", "calls.csv", "calls.jsonl", "calls.jsonl.gz", "calls.csv.gz"])
def test_export_of_a_file_is_whole_or_nothing(server: ObjectServer, target: str, tmp_path: Path, name: str) -> None:
    """The object has the bytes a file would have, and there is none before the end, nor after a failure."""
    with committing(open_sink(target + name)) as sink:
        sink.write(records())
        assert (objects(server, target), sink.written) == ({}, 9)
    write(f"{tmp_path}/{name}", records())
    assert objects(server, target) == {name: (tmp_path / name).read_bytes()}
    broken = open_sink(f"{target}other-{name}")
    broken.write(records())
    broken.abort()
    assert list(objects(server, target)) == [name]


def test_export_of_a_file_that_needs_several_uploads_is_whole(
    server: ObjectServer, target: str, tmp_path: Path
) -> None:
    """A file of many megabytes is sent in parts, and appears as one object."""
    many = [Cdr(started_at=BEGIN, call_id="x" * 1_000_000 + str(n)) for n in range(12)]
    write(f"{target}big.jsonl", many)
    write(tmp_path / "big.jsonl", many)
    assert objects(server, target) == {"big.jsonl": (tmp_path / "big.jsonl").read_bytes()}


@pytest.mark.parametrize("target", SCHEMES, indirect=True)
@pytest.mark.parametrize("options", sample([{}, {"format": "jsonl"}], 2))
def test_export_of_a_folder_equals_one_on_a_disk(
    server: ObjectServer, target: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    """The same objects as files, ``_SUCCESS`` beside them, and nothing in the temporary folder."""
    write(f"{tmp_path}/lake/", records(), **options)
    wanted = {
        path.relative_to(tmp_path / "lake").as_posix(): path.read_bytes() for path in (tmp_path / "lake").glob("*/*")
    }
    with committing(open_sink(f"{target}lake/", **options)) as sink:
        sink.write(records())
        assert objects(server, target) == {}
    assert objects(server, f"{target}lake/") == wanted | {"_SUCCESS": b""}
    assert left_behind(tmp_path) == []


def test_export_of_a_folder_replaces_an_earlier_one(server: ObjectServer, target: str) -> None:
    """Days that are not in the new dataset are gone; what readers pass over stays."""
    write(f"{target}lake/", records())
    server.objects[f"{target.partition('://')[2]}lake/_notes.txt"] = b"x"
    write(f"{target}lake/", records(4, since=BEGIN + timedelta(days=2)))
    found = objects(server, f"{target}lake/")
    assert sorted(found) == [
        "_SUCCESS",
        "_notes.txt",
        "date=2026-07-03/part-0.parquet",
        "date=2026-07-04/part-0.parquet",
    ]


@pytest.mark.parametrize(
    ("name", "words"),
    [("calls.parquet", "more than a dataset"), ("date=2026-07-01/x.csv", "more than"), (SYNC_STATE, "kept by a sync")],
)
def test_export_to_a_folder_of_something_else_is_refused(
    server: ObjectServer, target: str, name: str, words: str
) -> None:
    """Nothing that this package has not written is replaced."""
    server.objects[f"{target.partition('://')[2]}{name}"] = b"x"
    with pytest.raises(ConfigurationError, match=words):
        open_sink(target)
    assert list(objects(server, target)) == [name]


@pytest.mark.parametrize("days", [0, 1])
def test_export_to_a_folder_that_another_program_writes_is_refused(
    server: ObjectServer, target: str, days: int
) -> None:
    """Of two writers at once, on the same days or on others, the later one fails, and nothing says it is whole."""
    first, second = open_sink(target), open_sink(target)
    first.write(records(3))
    second.write(records(3, since=BEGIN + timedelta(days=9 * days)))
    first.commit()
    with pytest.raises(OSError, match="another program") as caught:
        second.commit()
    second.abort()
    assert caught.value.errno == errno.EBUSY
    assert ("_SUCCESS" in objects(server, target)) is False


def test_export_that_the_store_does_not_take_is_kept_on_this_machine(
    server: ObjectServer, target: str, tmp_path: Path
) -> None:
    """Credentials that expire during the work cost no record: the error comes with the file, or the folder."""
    for name in ("calls.csv", "lake/"):
        sink = open_sink(target + name)
        sink.write(records())
        server.refusal = (403, "ExpiredToken")
        with pytest.raises(OSError, match="refuses these credentials"):
            sink.commit()
        sink.abort()
        server.refusal = None
        assert sink.partial_path is not None
        write(f"{tmp_path}/{name}", records())
        if name == "calls.csv":
            assert sink.partial_path.read_bytes() == (tmp_path / name).read_bytes()
        else:
            assert len(list(sink.partial_path.glob("date=*/part-0.parquet"))) == 3
    assert objects(server, target) == {}


@pytest.mark.parametrize("name", ["calls.csv", "lake/"])
@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((403, "InvalidAccessKeyId"), "refuses these credentials"),
        ((401, "Unauthorized"), "refuses these credentials"),
        ((404, "NoSuchBucket"), "no such bucket"),
    ],
)
def test_export_to_a_store_that_refuses_is_reported_before_any_request(
    server: ObjectServer,
    target: str,
    name: str,
    refusal: tuple[int, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error names the address and the variables that are looked at, and holds no secret."""
    server.refusal = refusal
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.setenv(variable, "czNjcmV0")
    with pytest.raises(OSError, match=words) as caught:
        open_sink(target + name)
    shown = "".join(traceback.format_exception(caught.value))
    assert "czNjcmV0" not in shown
    assert target in shown
    if "credentials" in words:
        looked_for = {"s3": "AWS_ACCESS_KEY_ID", "gs": "GOOGLE_APPLICATION_CREDENTIALS", "az": "AZURE_STORAGE_ACCOUNT"}
        assert looked_for[target[:2]] in shown


@pytest.mark.parametrize(("scheme", "variable"), [("s3", "AWS_ALLOW_HTTP"), ("az", "AZURE_ALLOW_HTTP")])
def test_export_to_a_plain_http_endpoint_names_the_variable_that_allows_it(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheme: str, variable: str
) -> None:
    """A server in one's own network is often plain HTTP: the error says how to allow that."""
    for name, value in server.environment_of(scheme, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(variable)
    with pytest.raises(OSError, match=f"plain HTTP \\({variable}=true allows it"):
        open_sink(f"{scheme}://bucket/calls.csv")


@pytest.mark.parametrize(
    ("address", "variables"),
    [
        ("az://container/calls.csv", {}),
        ("az://container/calls.csv", {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "s3cret"}),
        ("gs://bucket/lake/", {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere/s3cret.json"}),
    ],
)
def test_export_with_credentials_that_can_not_be_read_names_where_they_come_from(
    monkeypatch: pytest.MonkeyPatch, address: str, variables: dict[str, str]
) -> None:
    """A key that is none, and a file that is not there, are no fault of the address."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="no usable credentials") as caught:
        open_sink(address)
    assert "Looked for: " in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_export_to_a_store_that_nobody_runs_says_that_it_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address is no question of leave to write."""
    monkeypatch.setattr("voicenter_cdr.export.object_store.RETRY_SECONDS", 0.1)
    names = {"AWS_ENDPOINT": "http://127.0.0.1:1", "AWS_ALLOW_HTTP": "true", "AWS_SKIP_SIGNATURE": "true"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match="can't be reached"):
        open_sink("s3://bucket/calls.csv")


def test_export_with_leave_to_write_only_is_possible(server: ObjectServer, target: str) -> None:
    """Credentials that may write and not read are enough for a file."""
    code = {"s3": "AccessDenied", "gs": "AccessDenied", "az": "AuthorizationPermissionMismatch"}[target[:2]]
    server.refusal = (403, code)
    sink = open_sink(f"{target}calls.csv")
    server.refusal = None
    sink.commit()
    assert list(objects(server, target)) == ["calls.csv"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3://bucket/calls.duckdb", "a slash at its end"),
        ("s3://bucket/calls.txt", "known: .jsonl"),
        ("s3://calls.csv", "names no object"),
        ("postgresql://u:s3cret@host/db", "sync keeps a copy there"),
        ("ftp://u:s3cret@host/calls.csv", "s3, gs and az"),
        ("ftp://u:s3cret@host/calls/", "s3, gs and az"),
        ("https://u:s3cret@host/calls.csv", "s3, gs and az"),
        ("file:///tmp/calls.csv", "without file://"),
        ("s3:/bucket/calls.csv", "Write s3://BUCKET/FOLDER/"),
        ("s3:///calls.csv", "Write s3://BUCKET/FOLDER/"),
        ("s3://u:s3cret@bucket/calls.csv", "without a user and options"),
        ("gs://u:s3cret@bucket/lake/", "without a user and options"),
        ("az://container/calls.csv?sig=s3cret", "without a user and options"),
        ("s3://bucket/calls#s3cret.csv", "No known ending"),
        ("s3://bucket/calls.s3cret-and-long", "No known ending"),
    ],
)
def test_export_to_an_address_that_makes_no_sense_is_refused(address: str, words: str) -> None:
    """The error says what is possible, and repeats no password."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        open_sink(address)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "name", "begin"),
    sample(
        [
            ("export --demo --last 1d", "calls.csv", b"call_id,"),
            ("export --demo --last 2d", "lake/", b""),
            ("missed --demo --last 1d", "missed.csv", b"customer_number,"),
            ("report --demo --last 1d", "report.xlsx", b"PK"),
        ],
        4,
    ),
)
def test_command_writes_what_it_makes_to_an_object(
    server: ObjectServer,
    target: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    name: str,
    begin: bytes,
) -> None:
    """Export, missed and report take an address where they take a file; what was written is what a file would hold."""
    assert cli.main([*words.split(), "--quiet", "-o", target + name]) == 0, capsys.readouterr().err
    found = objects(server, target)
    assert {key.partition("/")[0] for key in found} == {name.rstrip("/")}
    assert all(data.startswith(begin) for data in found.values())
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("command", ["report", "missed", "recordings", "views"])
@pytest.mark.parametrize("address", ["ftp://u:s3cret@host/db/x.csv", "postgresql://u:s3cret@host/db/x.csv"])
def test_command_with_an_address_it_can_not_write_to_says_so(
    command: str, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An address is not taken for a folder, and its password is not repeated."""
    monkeypatch.chdir(tmp_path)
    period = [] if command == "views" else ["--demo", "--last", "1d"]
    assert cli.main([command, *period, "-o", address]) == 2
    told = capsys.readouterr().err
    assert f"{address.partition(':')[0]}://" in told
    assert "s3cret" not in told
    with contextlib.suppress(StopIteration):
        raise AssertionError(next(tmp_path.iterdir()))
