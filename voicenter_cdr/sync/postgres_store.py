"""Copies in PostgreSQL. Needs psycopg (extra ``postgres``)."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from voicenter_cdr._extras import import_extra
from voicenter_cdr.core.planning.windows import Window
from voicenter_cdr.export.database import DatabaseTable
from voicenter_cdr.export.ddl import quote_identifier
from voicenter_cdr.export.object_store import display_name
from voicenter_cdr.export.postgres import COLUMNS_QUERY, PostgresTable
from voicenter_cdr.export.schema import TABLE, Column
from voicenter_cdr.sync.database_store import DatabaseStore, Dialect
from voicenter_cdr.sync.ledger import SyncState, SyncWindow

__all__ = ["PostgresStore", "SharedPostgresStore", "open_postgres"]

_LOCK_ATTEMPTS: Final = 10
_LOCK_PAUSE: Final = 0.1
"""Seconds between two attempts: the session of a program that was killed ends a moment after it."""

_DIALECT: Final = Dialect(
    day="to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    columns=COLUMNS_QUERY,
    guards="SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgrelid = to_regclass(?::text) AND NOT tgisinternal "
    "UNION ALL SELECT 'rule ' || rulename FROM pg_rewrite WHERE ev_class = to_regclass('cdr') AND ev_type <> '1'",
    row_id="ctid::text",
    by_row_id="ctid = ?::tid",
    erase=lambda table, _: _vacuum(table),
)


def _vacuum(table: DatabaseTable) -> None:
    table.execute(f"VACUUM {TABLE}")


class _SessionLock:
    """An advisory lock that ends with the connection; several sessions can share it."""

    def __init__(self, name: str, connection: Callable[[], PostgresTable], *, is_shared: bool) -> None:
        self._name = name
        self._connection = connection
        self._function = "pg_try_advisory_lock_shared" if is_shared else "pg_try_advisory_lock"

    def acquire(self) -> None:
        """Take it. Raises ``OSError`` (``EBUSY``) if another session has it."""
        question = f"SELECT {self._function}(hashtext('voicenter_cdr'), hashtext(current_schema() || '.cdr'))"
        for _ in range(_LOCK_ATTEMPTS):
            if self._connection().execute(question) == [(True,)]:
                return
            time.sleep(_LOCK_PAUSE)
        raise OSError(errno.EBUSY, "another program is writing it; wait until it has finished", self._name)

    def release(self) -> None:
        """Do nothing: the session has ended."""


class PostgresStore(DatabaseStore):
    """Store in PostgreSQL. Records wait in a table of the session, so no transaction is open while they arrive."""

    def __init__(self, address: str, columns: Sequence[Column], *, is_shared: bool = False) -> None:
        self._made: PostgresTable | None = None
        self._address = address
        self._all_columns = columns
        self._window: Window | None = None
        name = display_name(address)
        lock = _SessionLock(name, self._postgres, is_shared=is_shared)
        super().__init__(name, _DIALECT, self._postgres, lock)

    def __repr__(self) -> str:
        return f"PostgresStore({display_name(self._address)!r})"

    def _postgres(self) -> PostgresTable:
        if self._made is None:
            self._made = PostgresTable(self._address, self._all_columns)
        return self._made

    def close(self) -> None:
        """Release the lock and close the connection, also if only the lock was ever taken."""
        made, self._made = self._made, None
        if made is not None:
            with contextlib.suppress(Exception):  # its server may be gone
                made.execute("SELECT pg_advisory_unlock_all()")  # which the end of the session does a moment later
        super().close()
        if made is not None:
            with contextlib.suppress(Exception):  # it may be closed
                made.close()

    def _drop_records(self, state: SyncState) -> None:
        """Empty a table that has the columns of this state, and drop any other: views may depend on it."""
        if set(state.columns.split(",")) <= set(self._columns(TABLE)):
            self._table.execute(f"DELETE FROM {quote_identifier(TABLE)}")
        else:
            super()._drop_records(state)

    def begin(self, window: Window) -> None:
        """Make an empty staging table."""
        self._window = window
        self._postgres().stage()

    def commit(self, state: SyncState, entry: SyncWindow) -> SyncState:
        """Replace the day, and save ledger and state, in one transaction."""
        assert self._window is not None
        made = state.with_entry(entry)
        with self._transaction():
            self._delete_day(self._window)
            self._postgres().publish()
            self._check_stored(entry)
            self._save(made, entry)
        return made


class SharedPostgresStore(PostgresStore):
    """Store in PostgreSQL for several workers, who share the lock that keeps every other program away.

    Each adds only the days it has stored to the ledger. Two workers store the same day one after the other.
    """

    def __init__(self, address: str, columns: Sequence[Column]) -> None:
        super().__init__(address, columns, is_shared=True)

    def adopt(self, state: SyncState, entries: Sequence[SyncWindow] = ()) -> None:
        """Save these windows."""
        del state  # its other days may be older than those that other workers have saved
        for entry in entries:
            with self._day_lock(entry.day), self._transaction():
                self._save_entries([entry])

    def commit(self, state: SyncState, entry: SyncWindow) -> SyncState:
        """Replace the day and its row of the ledger in one transaction."""
        assert self._window is not None
        with self._day_lock(entry.day), self._transaction():
            self._delete_day(self._window)
            self._postgres().publish()
            self._check_stored(entry)
            self._save_entries([entry])
        return state.with_entry(entry)

    @contextmanager
    def _day_lock(self, day: int) -> Iterator[None]:
        # Outside of the transaction, which thus sees what the last holder has committed, whatever the isolation level.
        key = "hashtext('voicenter_cdr day ' || current_schema()), ?"
        self._postgres().execute(f"SELECT pg_advisory_lock({key})", [day])
        try:
            yield
        finally:
            with contextlib.suppress(Exception):  # a lost connection has released it
                self._postgres().execute(f"SELECT pg_advisory_unlock({key})", [day])


def open_postgres(address: str, columns: Sequence[Column], *, is_shared: bool = False) -> PostgresStore:
    """Return the store of an address ``postgresql://…``, on request for several workers. Nothing is opened yet."""
    import_extra("psycopg", "postgres", "PostgreSQL")
    return SharedPostgresStore(address, columns) if is_shared else PostgresStore(address, columns)
