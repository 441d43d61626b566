"""Test kit for your own code: no account, no network, no waiting.

:func:`run_virtual` runs a coroutine in virtual time. :func:`in_process` connects a client with a
:class:`~voicenter_cdr.sandbox.Sandbox`; its ``behaviour`` and ``faults`` script the service.
:func:`make_record` and :func:`make_rows` create records. For pytest there are the fixtures ``voicenter_sandbox`` and
``cdr_client``: write ``pytest_plugins = ["voicenter_cdr.testing.fixtures"]`` into your ``conftest.py``.
"""

from voicenter_cdr.testing.clock import VirtualClockLoop, run_virtual
from voicenter_cdr.testing.records import make_record, make_row, make_rows
from voicenter_cdr.testing.transport import in_process

__all__ = ["VirtualClockLoop", "in_process", "make_record", "make_row", "make_rows", "run_virtual"]
