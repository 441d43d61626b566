"""Database files: full disks, what else they hold, and constraints and views that their owner has added."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import duckdb
import pytest
from support.examples import sample
from support.full_records import FULL, MOMENT
from support.small_population import in_a_small_world
from support.table_files import OTHER, save, truth, whole_of

from voicenter_cdr import Cdr, ConfigurationError
from voicenter_cdr.analytics import create_views
from voicenter_cdr.export import committing, open_sink, select
from voicenter_cdr.export import duckdb as duckdb_room
from voicenter_cdr.export.duckdb import DuckdbTable
from voicenter_cdr.export.sqlite import SqliteTable

SECRET = "x0501234567"
SQLITE_CONSTRAINTS = {
    "CREATE UNIQUE INDEX once ON cdr (call_id)": "UNIQUE constraint failed: cdr.call_id",
    f"CREATE TRIGGER mine BEFORE INSERT ON cdr BEGIN SELECT RAISE(ABORT, '{SECRET}'); END": "trigger mine",
    "ALTER TABLE cdr ADD COLUMN own TEXT DEFAULT 'a' CHECK (own <> 'a')": "CHECK constraint failed",
    "ALTER TABLE cdr RENAME COLUMN call_id TO mine": "no column named call_id",
}
DUCKDB_CONSTRAINTS = {
    "CREATE UNIQUE INDEX once ON cdr (call_id)": "index once",
    "ALTER TABLE cdr ALTER COLUMN call_type SET NOT NULL": "call_type NOT NULL",
    "ALTER TABLE cdr RENAME COLUMN call_id TO mine": "column with name .call_id",
    "ALTER TABLE cdr ALTER COLUMN call_id TYPE INTEGER": "does not take the records",
}


@pytest.mark.parametrize(
    ("kind", "statement", "message"),
    [(SqliteTable, *pair) for pair in SQLITE_CONSTRAINTS.items()]
    + [(DuckdbTable, *pair) for pair in DUCKDB_CONSTRAINTS.items()],
)
def test_insert_against_a_constraint_of_the_owner_names_it(
    tmp_path: Path, kind: Any, statement: str, message: str
) -> None:
    """A record that breaks what the owner has added is an error of ours that names it, and holds no value."""
    table = kind(tmp_path / "copy.db")
    table.create()
    table.execute(statement)
    records = [Cdr(started_at=MOMENT, call_id=SECRET, call_type="x"), Cdr(started_at=MOMENT, call_id=SECRET)]
    with pytest.raises(ConfigurationError, match=message) as caught:
        table.insert(records)
    assert SECRET not in f"{caught.value} {caught.value.__cause__}"
    assert caught.value.__suppress_context__ or SECRET not in str(caught.value.__context__)
    table.close()
    table.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
@pytest.mark.parametrize("name", sample(["calls.sqlite", "calls.duckdb"], 2))
def test_commit_on_a_full_disk_keeps_the_old_file(tmp_path: Path, name: str) -> None:
    """If the disk is full, also while the library closes the file, the old file stays and the error is raised."""
    old = [attrs.evolve(FULL, call_id=f"old{number}") for number in range(20)]
    new = [attrs.evolve(FULL, call_id=os.urandom(20).hex(), started_at=MOMENT + timedelta(n)) for n in range(900)]
    path = tmp_path / name

    def export(records: list[Cdr]) -> None:
        with committing(open_sink(path)) as sink:
            sink.write(records)

    told = set()
    for kib in range(8, 900, 90 if name.endswith("duckdb") else 150):
        export(old)
        before = path.read_bytes()
        end = in_a_small_world(lambda: export(new), kib * 1024)
        told.add(end.split()[0])
        if end == "done":
            table = (SqliteTable if name.endswith("sqlite") else DuckdbTable)(path)
            assert table.execute("SELECT count(*) FROM cdr") == [(900,)]
            table.close()
        else:
            assert end.startswith("OSError"), (kib, end)
            assert path.read_bytes() == before
            assert [other.name for other in tmp_path.iterdir() if ".part" in other.name] in ([], [f"{name}.part"])
            for part in tmp_path.glob("*.part"):
                part.unlink()
    assert told == {"done", "OSError"}


def test_duckdb_close_brings_the_log_into_the_file(tmp_path: Path) -> None:
    """A file that is closed can be copied alone: nothing of it is left in a log beside it."""
    table = DuckdbTable(tmp_path / "a.duckdb")
    table.create()
    table.execute("BEGIN")
    table.insert([FULL])
    table.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.duckdb"]
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        assert connection.execute("SELECT count(*) FROM cdr").fetchall() == [(0,)]


@pytest.mark.parametrize(("name", "module"), [("a.sqlite", sqlite3), ("a.duckdb", duckdb)])
def test_database_with_foreign_tables_is_refused(tmp_path: Path, name: str, module: Any) -> None:
    """An export never replaces a database with anything else in it, nor a file that is none."""
    foreign = ["TABLE customers (name TEXT)", "INDEX mine ON cdr (did)"]
    foreign += [
        "TRIGGER mine AFTER INSERT ON cdr BEGIN SELECT 1; END"
        if module is sqlite3
        else "SEQUENCE mine; CREATE MACRO half(a) AS a / 2; CREATE SCHEMA other"
    ]
    for number, statement in enumerate(foreign):
        save(str(tmp_path / f"{number}{name}"), [FULL])
        connection = module.connect(str(tmp_path / f"{number}{name}"))
        connection.execute(f"CREATE {statement}")
        connection.close()
        with pytest.raises(ConfigurationError, match=r"more than records .*(customers|mine)"):
            open_sink(tmp_path / f"{number}{name}")
    (tmp_path / f"b{name}").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigurationError, match="is no"):
        open_sink(tmp_path / f"b{name}")
    (tmp_path / f"c{name}-wal").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="in use"):
        open_sink(tmp_path / f"c{name}")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "module"),
    [("a.duckdb", duckdb), pytest.param("a.sqlite", sqlite3, marks=pytest.mark.exhaustive)],
)
def test_database_views_survive_a_replacement(tmp_path: Path, name: str, module: Any) -> None:
    """The views of a database are there when an export has replaced it, one's own and those of the numbers."""
    target = str(tmp_path / name)
    save(target, [FULL])
    connection = module.connect(target)
    create_views(connection.execute, "sqlite" if module is sqlite3 else "duckdb")
    connection.execute("CREATE VIEW mine AS SELECT call_id AS id FROM cdr WHERE duration > 0")
    connection.execute("CREATE VIEW a AS SELECT count(*) AS calls FROM mine")
    connection.close()
    for _ in range(2):
        save(target, [FULL, OTHER])
    connection = module.connect(target)
    assert connection.execute("SELECT calls FROM a").fetchall() == [(2,)]
    assert connection.execute("SELECT value FROM kpi WHERE name = 'records'").fetchall() == [(2,)]
    connection.close()


def test_database_view_that_no_longer_fits_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that can't be made of the columns asked for stops the export at its first record; the old file stays.

    That there is no room for it is reported as such.
    """
    target = str(tmp_path / "a.duckdb")
    save(target, [FULL])
    with duckdb.connect(target) as connection:
        connection.execute("CREATE VIEW mine AS SELECT duration FROM cdr")
    with pytest.raises(ConfigurationError, match="view that does not go with"):
        save(target, [OTHER], columns=select(["call_id"]))
    execute = duckdb_room.DuckdbTable.execute

    def full(table: duckdb_room.DuckdbTable, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if statement.startswith("CREATE VIEW"):
            raise OSError(errno.ENOSPC, "No space left")
        return execute(table, statement, values)

    monkeypatch.setattr(duckdb_room.DuckdbTable, "execute", full)
    with pytest.raises(OSError, match="No space"):
        save(target, [OTHER])
    assert [path.name for path in tmp_path.iterdir()] == ["a.duckdb"]
    assert whole_of(target) == truth([FULL])
