"""Partitioned datasets and what else lies in their folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.full_records import FULL

from voicenter_cdr import ConfigurationError, _files
from voicenter_cdr.export import committing, open_sink
from voicenter_cdr.export.dataset import backup_path, check_dataset, data_files, recover_interrupted_swap

SYSTEM_NAMES = (".DS_Store", "._part-0.parquet", ".nfs0001", ".part-0.parquet.crc", "_SUCCESS", "Thumbs.db")
SYSTEM_FOLDERS = ("lost+found", "@eaDir", ".Trash-0", ".snapshot", "_delta_log")


def export(root: Path) -> None:
    with committing(open_sink(f"{root}/")) as sink:
        sink.write([FULL])


@pytest.mark.parametrize("name", SYSTEM_NAMES)
def test_dataset_files_of_the_system_are_passed_over_and_stay(tmp_path: Path, name: str) -> None:
    """What file managers, network disks and engines leave in a dataset stops no export; beside the days it stays."""
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
    """What an export would lose is refused by name; a sync refuses only what readers would take for records."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(ConfigurationError, match=rf"more than a dataset .*{name.partition('/')[0]}"):
        check_dataset(tmp_path, "parquet")
    if name == "other.parquet":
        with pytest.raises(ConfigurationError, match=name):
            check_dataset(tmp_path, "parquet", replace=False)
    else:
        check_dataset(tmp_path, "parquet", replace=False)


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
