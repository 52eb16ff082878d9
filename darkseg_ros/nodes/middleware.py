"""How every ROS process of this package starts and ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from darkseg_ros.errors import DarksegError
from darkseg_ros.installed_files import share_directory

NEW_PROCESS_STATUS = 75
"""EX_TEMPFAIL of sysexits.h: nothing is wrong that a new process would not mend."""

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Jazzy reads the first, Kilted prefers the second."""

_ROOMY_SHARED_MEMORY_BYTES = 512 * 2**20  # several processes of 64 MB; the total, so that all of them choose alike

_LONGEST_WAIT_S = 0.2

_Node = TypeVar("_Node", bound=Node)

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 1 << 30


def prepare_middleware() -> None:
    """Make this process fit for camera images; call it before `rclpy.init`.

    Points Fast DDS at the shipped profile, unless the user already chose one, and keeps the memory of images
    within the process instead of returning it to the kernel after each frame. Other middleware ignores the
    first, other C libraries than glibc have no second.

    Raises:
        InputError: if the package's files are not found.
    """
    if not any(os.environ.get(variable) for variable in PROFILE_VARIABLES):
        profile = fast_dds_profile(shared_memory_bytes=_shared_memory_bytes())
        os.environ.update(dict.fromkeys(PROFILE_VARIABLES, str(profile)))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(option, _KEEP_BYTES)


def release_memory() -> None:
    """Return freed memory to the kernel, which `prepare_middleware` keeps the C library from doing by itself."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def fast_dds_profile(*, shared_memory_bytes: int) -> Path:
    """The shipped profile for a machine with so much shared memory, used or not.

    Raises:
        InputError: if the package's files are not found.
    """
    roomy = shared_memory_bytes >= _ROOMY_SHARED_MEMORY_BYTES
    name = "fast_dds.xml" if roomy else "fast_dds_small_memory.xml"
    return share_directory() / "config" / name


def _shared_memory_bytes() -> int:
    try:
        shared_memory = os.statvfs("/dev/shm")
    except OSError:
        return _ROOMY_SHARED_MEMORY_BYTES  # no Linux: shared memory is not bounded by a file system
    return shared_memory.f_blocks * shared_memory.f_frsize


def run_node(
    create: Callable[[], _Node],
    *,
    args: Sequence[str] | None = None,
    process_failure: Callable[[_Node], DarksegError | None] = lambda node: None,
) -> int:
    """Run a node until SIGINT or SIGTERM, both of which are the proper way to end it.

    Args:
        create: makes the node; its `destroy_node` ends what it started.
        args: command line, with ``--ros-args``; the process's own unless given.
        process_failure: asked every second at least; what only a new process can mend, which ends this one.

    Returns:
        Exit status of the process: 0 after a signal, or the node's attribute `exit_status` if it has one; 1 when the
        parameters do not allow to start; `NEW_PROCESS_STATUS` when a new process is needed: launch files start one with
        ``respawn:=true``.
    """
    prepare_middleware()
    # rclpy handles both signals and then calls what was there before: Python's own SIGINT handler would raise
    # KeyboardInterrupt at any line, also while the node ends, since launch sends SIGINT a second time
    told_to_end = threading.Event()  # by a signal that came before rclpy listened
    _on_end_signals(lambda *_: told_to_end.set())
    rclpy.init(args=list(sys.argv if args is None else args))
    node: _Node | None = None
    status = 0
    executor = SingleThreadedExecutor()
    try:
        node = create()
        executor.add_node(node)
        while rclpy.ok() and not told_to_end.is_set():
            # never without a limit: rclpy can lose the wake-up of a signal that comes between two waits
            executor.spin_once(timeout_sec=_LONGEST_WAIT_S)
            failure = process_failure(node)
            if failure is not None:
                print(f"{node.get_name()} ends, only a new process can go on: {failure}", file=sys.stderr)
                status = NEW_PROCESS_STATUS
                break
    except ParameterException as error:
        print(f"{error}", file=sys.stderr)
        return 1
    except Exception:
        # after a signal all of ROS fails, also for a node that is still being made: that is how it ends
        if rclpy.ok():
            raise
    finally:
        executor.shutdown(timeout_sec=0)  # a transition that waits for its engine would be waited for
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        _on_end_signals(signal.SIG_IGN)  # Python, when it ends, puts back the default of any other: to be killed
    status = status or getattr(node, "exit_status", 0)
    _leave_stuck_threads(status)
    return status


def _leave_stuck_threads(status: int) -> None:
    """End the process here if daemons are left, stuck in a library: to unwind the interpreter under them crashes."""
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    if others and all(thread.daemon for thread in others):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _on_end_signals(handler: Callable[..., None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
