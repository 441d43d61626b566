"""Files that appear whole or not at all: names, companions, locks and mount points."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicenter_cdr import ConfigurationError, _files
from voicenter_cdr._files import (
    FileLock,
    check_file,
    companion,
    decode_secret,
    is_mount_point,
    open_output,
    standard_output,
    write_atomic,
)
from voicenter_cdr.export import open_sink
from voicenter_cdr.testing import make_record

KEY = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks mounted, and in it a file that looks mounted."""
    folder = tmp_path / "volume"
    folder.mkdir()
    (folder / "bound.csv").touch()
    points = {str(folder), str(folder / "bound.csv")}
    monkeypatch.setattr(_files, "_linux_mount_points", lambda: points)
    return folder


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.getuid() != 0, reason="mounts need root and Linux")
def test_is_mount_point_of_a_bind_mount_is_true(tmp_path: Path) -> None:
    """A file or folder that is mounted onto another of the same disk is found, whatever its name holds."""
    code = (
        "import sys; from pathlib import Path; from voicenter_cdr._files import is_mount_point as mounted; "
        "print(*[mounted(Path(name)) for name in sys.argv[1:]])"
    )
    for name in ("a b", "c\\d"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.csv").touch()
    (tmp_path / "real.csv").touch()
    script = f'mount --bind real.csv file.csv && mount -t tmpfs tmpfs "a b" && "{sys.executable}" -c "$0" "$@"'
    words = ["unshare", "-m", "sh", "-c", script, code, "file.csv", "real.csv", "a b", "c\\d"]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    env = os.environ | {"PYTHONPATH": str(Path(_files.__file__).parents[1])}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    if "permission" in done.stderr.lower() or "permitted" in done.stderr.lower():
        pytest.skip("no mounts here")
    assert done.stdout.split() == ["True", "False", "True", "False"], done.stderr


def test_check_file_mounted_by_itself_is_refused_unless_changed_in_place(mounted: Path) -> None:
    """A rename can't replace a mounted file, so it is refused before a request; a database may be changed in it."""
    with pytest.raises(ConfigurationError, match="is a mount point"):
        check_file(mounted / "bound.csv")
    with pytest.raises(ConfigurationError, match="is a mount point"):
        open_sink(mounted / "bound.csv")
    check_file(mounted / "bound.csv", in_place=True)
    check_file(mounted / "other.csv")


def test_companion_of_a_mounted_folder_lies_inside(mounted: Path) -> None:
    """Files beside a mounted folder are on another disk."""
    assert companion(mounted, ".part") == mounted / ".part"
    assert companion(mounted / "x", ".part") == mounted / "x.part"


@given(st.text(st.sampled_from("aé😀שx"), min_size=1, max_size=255))
def test_companion_any_name_fits_and_is_one_of_its_own(name: str) -> None:
    """Names near the limit of the file system have companions, no two alike; short ones are extended."""
    if len(os.fsencode(name)) > 255:
        return
    path = Path("/folder") / name
    made = companion(path, ".part")
    assert len(os.fsencode(made.name)) <= 255 - len("-journal")
    assert made.name.endswith(".part")
    assert made.name == f"{name}.part" or len(os.fsencode(name)) > 200
    assert made != companion(path.with_name("y" + name[1:]), ".part")


@pytest.mark.parametrize("length", [230, 245, 251, 255])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl.gz", ".parquet", ".sqlite", ".duckdb"])
def test_export_names_up_to_the_limit_are_whole_files(tmp_path: Path, length: int, suffix: str) -> None:
    """Any name the file system takes will do in every format; a database needs room for the files beside its own."""
    pytest.importorskip({".parquet": "pyarrow", ".duckdb": "duckdb"}.get(suffix, "sqlite3"))
    path = tmp_path / ("n" * (length - len(suffix)) + suffix)
    if suffix in (".sqlite", ".duckdb") and length > 239:
        with pytest.raises(ConfigurationError, match="leaves no room"):
            open_sink(path)
        return
    for _ in range(2):
        sink = open_sink(path)
        sink.write([make_record()])
        sink.commit()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "message"), [("n" * 256, "too long"), ("a\0b", "null character"), ("a\ud800b", "characters")]
)
def test_check_file_names_no_file_can_have_are_refused(tmp_path: Path, name: str, message: str) -> None:
    """Such a name is refused before a request, by open_sink, too."""
    for refuse in (check_file, open_sink):
        with pytest.raises(ConfigurationError, match=message):
            refuse(tmp_path / f"{name}.csv")
    with pytest.raises(ConfigurationError, match="leaves no room"):
        check_file(tmp_path / ("n" * 248), in_place=True)


@pytest.mark.parametrize("name", ["state.gz", "state.json.GZ", "state"])
def test_write_atomic_any_name_holds_the_bytes(tmp_path: Path, name: str) -> None:
    """Bytes are written as they are, also under a name that elsewhere means gzip."""
    write_atomic(tmp_path / name, b"state")
    assert (tmp_path / name).read_bytes() == b"state"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.GZ", "a.csv.Gz"])
def test_open_output_gzip_names_are_packed(tmp_path: Path, name: str) -> None:
    """A name for records that ends with .gz, in any case, is packed."""
    output = open_output(tmp_path / name)
    output.write(b"text")
    output.commit()
    assert gzip.decompress((tmp_path / name).read_bytes()) == b"text"


def test_file_lock_in_a_block_is_held_by_one(tmp_path: Path) -> None:
    """The lock is held for the block, by one program; its file is gone afterwards."""
    lock = FileLock(tmp_path / "calls.csv")
    with lock:
        assert lock.held
        with pytest.raises(OSError, match="another program") as refused, FileLock(tmp_path / "calls.csv"):
            pass
        assert refused.value.errno == errno.EBUSY
    assert (lock.held, list(tmp_path.iterdir())) == (False, [])


def test_standard_output_closed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without standard output can't write data to it, which is said before a request."""
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ConfigurationError, match="Standard output is closed"):
        standard_output()
    with pytest.raises(ConfigurationError, match="Standard output is closed"):
        open_sink("-")


@pytest.mark.parametrize(
    "data",
    [
        KEY,
        KEY + b"\r\n",
        b"\xef\xbb\xbf" + KEY + b"\n",
        b"\xff\xfe" + KEY.decode().encode("utf-16-le"),
        b"\xfe\xff" + (KEY.decode() + "\n").encode("utf-16-be"),
    ],
)
def test_decode_secret_byte_order_marks_do_not_count(data: bytes) -> None:
    """A key is the same however an editor or a shell has saved it."""
    assert decode_secret(data) == KEY


def test_decode_secret_random_bytes_stay() -> None:
    """Bytes that only look like a mark are the key's own."""
    assert decode_secret(b"\xff\xfe" + b"\x00\xd8" * 8) == b"\xff\xfe" + b"\x00\xd8" * 8
    assert decode_secret(bytes(range(128, 160))) == bytes(range(128, 160))


@pytest.mark.skipif(sys.platform == "win32", reason="mounts of POSIX")
def test_is_mount_point_of_the_root_is_true(tmp_path: Path) -> None:
    """The root of the file system is one, an ordinary folder is none."""
    assert is_mount_point(Path("/"))
    assert not is_mount_point(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
@pytest.mark.parametrize("name", ["a.sqlite", "a.duckdb", "link.sqlite"])
def test_export_database_to_a_pipe_is_refused(tmp_path: Path, name: str) -> None:
    """A device or a pipe is never replaced by a file; text goes into it, a database and a state can't."""
    if name.endswith(".duckdb"):
        pytest.importorskip("duckdb")
    pipe = tmp_path / name.replace("link", "real")
    os.mkfifo(pipe)
    if name.startswith("link"):
        (tmp_path / name).symlink_to(pipe)
    for use in (lambda: open_sink(str(tmp_path / name)), lambda: write_atomic(tmp_path / name, b"state")):
        with pytest.raises(ConfigurationError, match="a device or a pipe"):
            use()
    assert pipe.is_fifo()
