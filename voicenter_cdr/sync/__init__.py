"""A copy that is right tomorrow: one call keeps a database or a tree of files complete, and may die at any moment.

How it stays right:

1. The period is laid out in windows, one for each UTC day. A window is fetched whole, and then takes the place of what
   was stored of it, in one step: records that changed or vanished come out right, and two legs of one call stay two.
2. A ledger says of every window when it was fetched and how many records it had. It is written in the same
   transaction as the records, or behind them where there is no transaction: what is not in it is fetched again.
3. Records show up minutes after their call has *ended* and are filed under the time it *began*, and they still change
   (API document; evidence). So nothing younger than the settle delay is asked for, and a window is read again by
   every run until it was read at least the look-back after its end. What was read by a clock that was ahead, as the
   next run can tell, was read too early.
4. The watermark is the end of the windows that were proven complete and stored without a break, never the newest time
   seen.
5. Windows that can't be proven complete together, or for which the service fails, are asked one by one. One that can't
   be proven by itself, holds a record that can't be read, or fails while the service answers for another, is a gap: it
   keeps what was stored of it, is listed, and is asked by the next run.

The next run asks for what is missing, for gaps, and for what was read too early; nothing else. A version of this
package with other columns reads every window again, once. A full refresh empties the copy when its first window has
come, so that a request that fails costs nothing.

Memory does not grow with the period. A window is one transaction, and DuckDB holds one in memory until it is committed:
some 0.6 KB for each record of the fullest day.

``ledger`` is the arithmetic of this, ``stores`` where copies are kept, ``run`` what goes on between them and a client.
"""

from voicenter_cdr.sync.api import sync
from voicenter_cdr.sync.ledger import SyncWindow, WindowStatus
from voicenter_cdr.sync.runner import SyncReport

__all__ = ["SyncReport", "SyncWindow", "WindowStatus", "sync"]
