"""Ctrl-C while a library works: the first one ends a command between two steps of Python, the second one at once."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def second_interrupt_ends() -> Iterator[None]:
    """Within the block a second SIGINT ends the process, as if it had no handler.

    Python notes a signal and acts on it when a library returns to it. One that loads or runs a crafted graph may never
    return. So the system takes Python's handler away once it was called. Files that are being written at the second
    signal are lost.

    Where SIGINT has another handler already, or the C library is not glibc, nothing changes.

    Source: sysv_signal(3) of glibc.
    """
    libc = ctypes.CDLL(None)
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours or not hasattr(libc, "sysv_signal") or threading.current_thread() is not threading.main_thread():
        yield
        return
    for function in (libc.signal, libc.sysv_signal):
        function.argtypes, function.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    handler = libc.signal(signal.SIGINT, None)
    libc.sysv_signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
