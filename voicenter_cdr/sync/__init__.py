"""Sync: keep a complete copy of the records in a database, a folder of files or an object store.

One call brings the copy up to date. It may be killed at any moment; the next run continues. It keeps these rules:

1. The period is split into windows, one for each UTC day. A window is fetched completely and then replaces its day in
   one step, so that changed and vanished records are right, and two legs of one call stay two.
2. A ledger holds for every window when it was fetched, how many records the service had and how many are stored. It
   is written in the same transaction as the records, or after them where there is no transaction: a day that is not in
   the ledger is fetched again.
3. Every run compares the ledger with what is stored, day by day. Days that differ (a table was emptied, a file was
   damaged or replaced, a column was renamed, a backup was restored) are fetched again and reported.
4. Records appear minutes after their call has *ended*, carry the time it *began*, and still change (API document;
   evidence). So nothing younger than the settle delay is fetched, and a window is fetched again by every run until it
   was read at least the look-back after its end. A window read by a clock that was ahead was read too early.
5. The watermark is the end of the unbroken run of windows that were proven complete and stored, never the newest time
   seen.
6. Windows that can't be proven complete together, or for which the service fails, are queried one by one. One that
   can't be proven alone, holds a record that can't be read, or fails while the service answers for another, becomes a
   gap: it keeps what was stored of it, is listed, and is fetched by the next run.
7. Forgotten and expired records are not stored again, neither by later runs nor by full refreshes.

A version of this package with other columns fetches every window again, once. A full refresh removes the old copy when
its first window has arrived, so that a failing request costs nothing. Memory does not grow with the period. A window is
one transaction, which DuckDB holds in memory until it is committed: about 0.6 KB for each record of the fullest day.

``ledger`` holds the arithmetic, ``stores`` the destinations, ``runner`` one run; :func:`sync`, :func:`audit`,
:func:`forget` and the functions of a backfill by many workers are built from them.
"""

from voicenter_cdr.sync.api import sync
from voicenter_cdr.sync.audit import AuditReport, audit
from voicenter_cdr.sync.backfill import backfill_part, plan_backfill
from voicenter_cdr.sync.forgetting import ForgetReport, forget
from voicenter_cdr.sync.ledger import SyncWindow, WindowStatus
from voicenter_cdr.sync.runner import SyncReport

__all__ = [
    "AuditReport",
    "ForgetReport",
    "SyncReport",
    "SyncWindow",
    "WindowStatus",
    "audit",
    "backfill_part",
    "forget",
    "plan_backfill",
    "sync",
]
