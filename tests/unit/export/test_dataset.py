"""Partitioned datasets: layout by day, swaps that are killed, and what else lies in their folders."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import attrs
import duckdb
import pyarrow.parquet as pq
import pytest
from support.full_records import FULL, MOMENT
from support.table_files import OTHER, save, truth, whole_of

from voicenter_cdr import ConfigurationError, _files
from voicenter_cdr.export import DatasetSink, committing, open_sink
from voicenter_cdr.export.dataset import (
    backup_path,
    check_dataset,
    data_files,
    recover_interrupted_swap,
    refuse_strays,
)

SYSTEM_NAMES = (".DS_Store", "._part-0.parquet", ".nfs0001", ".part-0.parquet.crc", "_SUCCESS", "Thumbs.db")
SYSTEM_FOLDERS = ("lost+found", "@eaDir", ".Trash-0", ".snapshot", "_delta_log")


def export(root: Path) -> None:
    with committing(open_sink(f"{root}/")) as sink:
        sink.write([FULL])


@pytest.mark.parametrize("name", SYSTEM_NAMES)
def test_dataset_files_of_the_system_are_passed_over_and_stay(tmp_path: Path, name: str) -> None:
    """Files that file managers, network disks and engines leave in a dataset stop no export, and stay."""
    root = tmp_path / "lake"
    export(root)
    day = next(root.glob("date=*"))
    (root / name).write_text("system")
    (day / name).write_text("system")
    export(root)
    assert (root / name).read_text() == "system"
    assert [path.name for path in day.iterdir()] == ["part-0.parquet"]
    assert data_files(root, "parquet") == [day / "part-0.parquet"]


@pytest.mark.parametrize("name", SYSTEM_FOLDERS)
def test_dataset_folders_of_the_system_stay(tmp_path: Path, name: str) -> None:
    """A folder that a file system or a network disk keeps in the dataset stays with what is in it."""
    root = tmp_path / "lake"
    (root / name).mkdir(parents=True)
    (root / name / "inside").touch()
    export(root)
    export(root)
    assert (root / name / "inside").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake"]


@pytest.mark.parametrize("name", ["letter.txt", "other.parquet", "date=2026-07-14/notes.txt", "date=2026-7-1/x.csv"])
def test_check_dataset_a_foreign_file_is_named(tmp_path: Path, name: str) -> None:
    """An export refuses foreign files by name; a sync refuses only those that readers would count as records."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(ConfigurationError, match=rf"no part of a dataset .*{name.partition('/')[0]}"):
        check_dataset(tmp_path, "parquet")
    if name.endswith((".parquet", ".csv")):
        with pytest.raises(ConfigurationError, match=name):
            check_dataset(tmp_path, "parquet", replace=False)
    else:
        check_dataset(tmp_path, "parquet", replace=False)


STRAYS = (
    "date=2026-07-02x/part-0.parquet",
    "date=2026-07-02 copy/part-0.parquet",
    "date=2026-13-45/part-0.parquet",
    "date=2026-07-02/calls copy.parquet",
    "date=2026-07-02/part-0.jsonl.gz",
    "date=2026-07-02/hour=5/part-0.parquet",
    "date=2026-07-02/part-0.parquet/inside.parquet",
    "old/date=2026-07-02/part-0.parquet",
    "latest.PARQUET",
)


@pytest.mark.parametrize("name", STRAYS)
def test_refuse_strays_a_file_that_readers_would_count_is_named(tmp_path: Path, name: str) -> None:
    """Records at any depth that are of no day's file would be counted by readers and known to no ledger."""
    export(tmp_path / "lake")
    refuse_strays(tmp_path / "lake", "parquet")
    stray = tmp_path / "lake" / name
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.touch()
    with pytest.raises(ConfigurationError, match=re.escape(name)):
        refuse_strays(tmp_path / "lake", "parquet")


@pytest.mark.parametrize("name", ["latest", "date=2026-07-15"])
def test_refuse_strays_a_link_that_shows_a_day_twice_is_named(tmp_path: Path, name: str) -> None:
    """A link to a day is followed by readers; a link to a day that lies on another disk is that day."""
    export(tmp_path / "lake")
    day = next((tmp_path / "lake").glob("date=*"))
    day.rename(tmp_path / "elsewhere")
    day.symlink_to(tmp_path / "elsewhere")
    refuse_strays(tmp_path / "lake", "parquet")
    day.unlink()
    (tmp_path / "elsewhere").rename(day)
    (tmp_path / "lake" / name).symlink_to(day)
    with pytest.raises(ConfigurationError, match=name):
        refuse_strays(tmp_path / "lake", "parquet")


def test_refuse_strays_links_in_circles_end(tmp_path: Path) -> None:
    """Links that lead back, or into each other, are walked once; so is what can't be read."""
    root = tmp_path / "lake"
    export(root)
    unreadable = {"loop": root / "loop", "gone": tmp_path / "nowhere", "proc": Path("/proc/self/fdinfo")}
    for name, target in {"self": root, "up": tmp_path, "a": tmp_path / "x", **unreadable}.items():
        (root / name).symlink_to(target)
    (tmp_path / "x").mkdir()
    (tmp_path / "x/b").symlink_to(root / "a")
    (tmp_path / "x/c").symlink_to(tmp_path / "x")
    refuse_strays(root, "parquet")
    (tmp_path / "x/part-0.parquet").touch()
    with pytest.raises(ConfigurationError, match=r"a/part-0\.parquet"):
        refuse_strays(root, "parquet")


def test_check_dataset_a_mount_point_is_refused_for_exports_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is mounted can't be replaced as a whole, and a sync works within it."""
    monkeypatch.setattr(_files, "_linux_mount_points", lambda: {str(tmp_path)})
    with pytest.raises(ConfigurationError, match="mount point"):
        open_sink(f"{tmp_path}/")
    check_dataset(tmp_path, "parquet", replace=False)


def test_recover_interrupted_swap_after_a_kill_keeps_hidden_files(tmp_path: Path) -> None:
    """Killed before the old dataset was removed: it goes, and what was not its own moves over."""
    root = tmp_path / "lake"
    export(root)
    (root / ".gitkeep").touch()
    root.rename(backup_path(root))
    export(tmp_path / "new")
    (tmp_path / "new").rename(root)
    recover_interrupted_swap(root)
    assert (root / ".gitkeep").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]


def test_dataset_is_laid_out_by_utc_day(tmp_path: Path) -> None:
    """A file for each UTC day and nothing else; a day the records come back to gets another file."""
    evening = MOMENT.replace(hour=23, minute=59)
    hours = [0, 1, 2, 26]
    records = [attrs.evolve(FULL, started_at=evening + timedelta(hours=h)) for h in hours]
    save(f"{tmp_path}/lake/", [*records, records[0]])
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "lake/date=2026-07-14/part-0.parquet",
        "lake/date=2026-07-14/part-1.parquet",
        "lake/date=2026-07-15/part-0.parquet",
        "lake/date=2026-07-16/part-0.parquet",
    ]
    assert pq.ParquetFile(tmp_path / files[0]).metadata.row_group(0).column(0).compression == "ZSTD"
    by_date = duckdb.execute(f"SELECT date, count(*) FROM '{tmp_path}/lake/**/*.parquet' GROUP BY 1 ORDER BY 1")
    assert [(str(day), rows) for day, rows in by_date.fetchall()] == [
        ("2026-07-14", 2),
        ("2026-07-15", 2),
        ("2026-07-16", 1),
    ]


class Killed(BaseException):
    """Stands for a kill: nothing that follows it in the program is done."""


def killed_at(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object], renames: int) -> None:
    """Let the work end before its next rename of a folder, once there were so many."""
    left, rename = iter(range(renames)), Path.rename

    def renamed(path: Path, name: Path) -> Path:
        if next(left, None) is None:
            raise Killed
        return rename(path, name)

    with monkeypatch.context() as dying:
        dying.setattr(Path, "rename", renamed)
        with pytest.raises(Killed):
            work()


def test_dataset_killed_swap_is_ended_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while one dataset takes the place of another: the next export finds the new one whole, and keeps it."""
    target = f"{tmp_path}/lake/"
    save(target, [FULL])
    sink = open_sink(target)
    sink.write([OTHER])
    killed_at(monkeypatch, sink.commit, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake.lock", "lake.part", "lake.replaced"]
    sink._lock.release()  # type: ignore[attr-defined]  # as the system does for who is dead
    after = open_sink(target)
    after.write([FULL])
    assert whole_of(target) == truth([OTHER])
    after.abort()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "lake.part"]


def test_dataset_folder_beside_it_stays(tmp_path: Path) -> None:
    """A folder that is called as people call what they put aside is left alone."""
    (tmp_path / "lake.old").mkdir()
    for _ in range(2):
        save(f"{tmp_path}/lake/", [FULL])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "lake.old"]


def test_dataset_files_added_meanwhile_are_kept(tmp_path: Path) -> None:
    """Files that are added to the folder during an export are noticed before the folder is replaced."""
    save(f"{tmp_path}/lake/", [FULL])
    sink = open_sink(tmp_path / "lake")
    sink.write([OTHER])
    (tmp_path / "lake" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="no part of a dataset"):
        sink.commit()
    sink.abort()
    assert (tmp_path / "lake" / "letter.txt").exists()
    assert sink.partial_path == tmp_path / "lake.part"


def test_dataset_of_json_lines_is_packed(tmp_path: Path) -> None:
    """A folder of JSON Lines is the same dataset, packed with gzip."""
    save(f"{tmp_path}/lines/", [FULL, OTHER], format="jsonl")
    import polars

    found = polars.concat([polars.read_ndjson(path) for path in sorted((tmp_path / "lines").rglob("*.gz"))])
    assert found["call_id"].to_list() == [FULL.call_id, "another"]


def test_dataset_folder_with_foreign_files_is_refused(tmp_path: Path) -> None:
    """A folder with anything but such a dataset is left alone; so is one that a sync keeps."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigurationError, match="no part of a dataset"):
        open_sink(f"{tmp_path}/home/")
    save(f"{tmp_path}/lake/", [FULL])
    (tmp_path / "lake.state.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="kept by a sync"):
        open_sink(tmp_path / "lake")
    with pytest.raises(ConfigurationError, match="name a file"):
        open_sink(f"{tmp_path}/x/", "csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="is a file"):
        DatasetSink(tmp_path / "file")
