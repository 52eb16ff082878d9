"""The same work on many drives: one after the other in this process, or side by side on a Ray cluster."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from darkseg_ros.errors import DarksegError, InputError, one_line
from darkseg_ros.fleet.drives import Drive
from darkseg_ros.fleet.places import REQUIREMENTS

T = TypeVar("T")

_LOCAL = re.compile(r"local\[(\d+)\]")
WORKER_STARTS_WITHIN_S = 180
_STARTS = 3
_HEAD_ANSWERS_WITHIN_S = 10.0
_QUIETLY = {"log_to_driver": False, "logging_level": "ERROR"}
_TRIES_AFTER_A_LOSS = 3
_WAITING_PER_CPU = 2
"""Drives that are handed to the cluster ahead of time: so workers never wait, and the driver's memory does not grow."""


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What became of a drive.

    Attributes:
        drive: which one.
        result: what the work returned; None where it failed.
        error: why it failed, in one line; None where it did not.
    """

    drive: Drive
    result: T | None
    error: str | None


def check_ray_option(text: str) -> str:
    """``auto``, ``local[N]`` or the address of a cluster.

    Raises:
        ValueError: if it is none of them.
    """
    local = _LOCAL.fullmatch(text)
    if (local and int(local[1]) < 1) or (not local and (not text or text.startswith("local"))):
        raise ValueError(f"expected auto, local[N] with N workers, or a cluster's address, got {text!r}")
    return text


@contextmanager
def ray_cluster(ray: str | None) -> Iterator[None]:
    """Connect to a cluster for the block, or start one of this machine; None does nothing.

    Args:
        ray: as `check_ray_option` takes it: ``auto`` is the cluster that this machine belongs to.

    Raises:
        InputError: if Ray is not installed, or there is no such cluster.
    """
    if ray is None:
        yield
        return
    library = _ray()
    local = _LOCAL.fullmatch(ray)
    # A busy machine may need more than Ray's 60 s to start a worker. No longer than needed: a worker that dies while it
    # starts is missed, and its drive done by another, only after this time.
    os.environ.setdefault("RAY_worker_register_timeout_seconds", str(WORKER_STARTS_WITHIN_S))
    if local:
        _start_here(library, int(local[1]))
    else:
        _join(library, ray)
    try:
        yield
    finally:
        library.shutdown()


def _start_here(library: Any, workers: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # by default Ray tells its makers of each start
    for tries_left in reversed(range(_STARTS)):
        try:
            # "local" in words: without it Ray joins a cluster that RAY_ADDRESS or an earlier `ray start` names
            library.init(address="local", num_cpus=workers, include_dashboard=False, **_QUIETLY)
            return
        except Exception as error:  # Ray raises bare ones where a busy machine does not start its processes in 30 s
            library.shutdown()
            if not tries_left:
                raise InputError(
                    f"Ray does not start {workers} workers here: {one_line(error)}; leave out --ray"
                ) from error


def _join(library: Any, address: str) -> None:
    try:
        _ask_head(address)
        library.init(address=address, **_QUIETLY)
    except (Exception, SystemExit) as error:  # Ray ends the process where a head does not answer it
        library.shutdown()
        reason = one_line(error).rstrip(".")
        raise InputError(
            f"there is no Ray cluster at {address}: {reason}; start one with `ray start --head`"
        ) from error


def _ask_head(address: str) -> None:
    """Raise ConnectionError where no head listens: Ray itself would ask it for five minutes."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    if "://" in address:  # Ray Client, which gives up after 30 s
        return
    host, _, port = canonicalize_bootstrap_address_or_die(address).rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_HEAD_ANSWERS_WITHIN_S).close()
    except OSError as error:
        raise ConnectionError(f"{host}:{port} does not answer ({error})") from error


def run_drives(work: Callable[[Drive], T], drives: Iterable[Drive], *, on_ray: bool = False) -> Iterator[Outcome[T]]:
    """Do the work on every drive.

    A drive that fails is told, and the others go on. On a cluster the drive of a worker or node that died is done
    again by another; one that ends its worker each time fails like any other. Results come back to this process, which
    alone keeps them, so that no drive counts twice. Only a few drives per CPU are under way at a time.

    Args:
        work: called with each drive; on a cluster it is pickled, and what it needs must be there on every node.
        drives: any number.
        on_ray: in the cluster of `ray_cluster`.

    Yields:
        The outcomes, as they are done: not in the order of the drives on a cluster.
    """
    if not on_ray:
        for drive in drives:
            yield _attempt(work, drive)
        return
    ray = _ray()
    attempt = ray.remote(num_cpus=1, max_retries=_TRIES_AFTER_A_LOSS)(_attempt)
    shared_work = ray.put(work)
    left = iter(drives)
    under_way: dict[Any, Drive] = {}
    while True:
        room = max(2, _WAITING_PER_CPU * int(ray.cluster_resources().get("CPU", 1))) - len(under_way)
        for drive in islice(left, max(0, room)):
            under_way[attempt.remote(shared_work, drive)] = drive
        if not under_way:
            return
        done, _ = ray.wait(list(under_way))
        for reference in done:
            drive = under_way.pop(reference)
            try:
                yield ray.get(reference)
            except ray.exceptions.RayError as error:
                yield Outcome(
                    drive, None, f"the cluster gave it up after {_TRIES_AFTER_A_LOSS} retries: {one_line(error)}"
                )


def _attempt(work: Callable[[Drive], T], drive: Drive) -> Outcome[T]:
    try:
        return Outcome(drive, work(drive), None)
    except (DarksegError, OSError) as error:
        return Outcome(drive, None, one_line(error))
    except Exception as error:  # a fault of ours on one drive of a thousand must not cost the others
        return Outcome(drive, None, f"{type(error).__name__}: {one_line(error)}")


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError(f"Ray is not installed; install {REQUIREMENTS}, or leave out --ray") from error
    return ray
