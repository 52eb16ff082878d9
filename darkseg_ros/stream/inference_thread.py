"""The thread that owns an engine: opens it, serves the newest frames with it, closes it, and can be given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from darkseg_ros.errors import EngineError
from darkseg_ros.model.segmenter import Segmenter
from darkseg_ros.stream.batching import BatchRule, LatestFrames, Waiter

_Frame = TypeVar("_Frame")

Delivery = Callable[[], None]
"""Hands the outcome of a batch on: publishes each class map, or counts why there is none."""


@dataclass(frozen=True)
class Stopped(Generic[_Frame]):
    """How the thread ended.

    Attributes:
        ended: whether it did; otherwise it is given up and delivers nothing any more.
        waiting: frames that still waited.
        stuck: frames that were in work when it was given up.
    """

    ended: bool
    waiting: tuple[_Frame, ...]
    stuck: tuple[_Frame, ...]


class InferenceThread(Generic[_Frame]):
    """Serves frames with one segmenter from its opening to its closing, all in the same thread.

    A native library that hangs cannot be interrupted. `stop` therefore waits only for so long and then gives the
    thread up: should the library come back, the thread closes the engine and ends; what it has computed is lost.

    Args:
        open_segmenter: what it raises is raised again by `wait_until_open`.
        serve: computes a batch and returns what hands the outcome on. It must not raise: errors are outcomes too.
        batch_rule: the one in force.
        waiter: what the thread waits for frames by; it may put them while it waits.
    """

    def __init__(
        self,
        *,
        open_segmenter: Callable[[], Segmenter],
        serve: Callable[[Segmenter, Sequence[_Frame]], Delivery],
        batch_rule: Callable[[], BatchRule],
        waiter: Waiter | None = None,
    ) -> None:
        self._open_segmenter = open_segmenter
        self._serve = serve
        self._frames: LatestFrames[_Frame] = LatestFrames(batch_rule, waiter)
        self._opening_over = threading.Event()
        self._opening_error: Exception | None = None
        self._segmenter: Segmenter | None = None
        # held during a delivery, so that none begins after `stop` has returned
        self._delivering = threading.Lock()
        self._given_up = False
        self._in_work: tuple[_Frame, ...] = ()
        self._busy_since_s: float | None = None
        # a daemon: a thread stuck in a library must not keep the process
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def wait_until_open(self) -> Segmenter:
        """Wait for as long as opening takes: building an engine may take minutes.

        Returns:
            The segmenter, to read its bundle and the engine's name from; only this thread may call it.

        Raises:
            EngineError: if the thread was stopped before.
            Exception: what `open_segmenter` raised.
        """
        self._opening_over.wait()
        if self._opening_error is not None:
            raise self._opening_error
        segmenter = self._segmenter
        if segmenter is None:
            raise EngineError("the engine was stopped while it opened")
        return segmenter

    def put(self, camera: str, frame: _Frame, *, now_s: float | None = None) -> _Frame | None:
        """Offer a frame.

        Args:
            camera: that it is of.
            frame: the camera's newest.
            now_s: seconds of the steady clock when it arrived; now unless given.

        Returns:
            The one that will not be served: an older one of this camera, or `frame` itself after `stop`.
        """
        return self._frames.put(camera, frame, now_s=now_s)

    def busy_ms(self) -> float:
        """How long the batch in work has taken so far; 0 without one."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else (time.monotonic() - since_s) * 1000

    def stop(self, *, within_s: float) -> Stopped[_Frame]:
        """End after the batch in work, and close the engine.

        Args:
            within_s: ≥ 0; what takes longer is given up. A delivery under way cannot be taken back: it goes on, counts
                its frames itself, and is the last.
        """
        waiting = tuple(self._frames.close())
        self._thread.join(within_s)
        ended = not self._thread.is_alive()
        stuck: tuple[_Frame, ...] = ()
        if not ended and self._delivering.acquire(blocking=False):
            self._given_up, stuck = True, self._in_work
            self._delivering.release()
        self._opening_over.set()
        return Stopped(ended=ended, waiting=waiting, stuck=stuck)

    def _run(self) -> None:
        try:
            segmenter = self._open_segmenter()
        except Exception as error:  # crosses to the thread that waits
            self._opening_error = error
            self._opening_over.set()
            return
        self._segmenter = segmenter
        self._opening_over.set()
        try:
            self._serve_frames(segmenter)
        finally:
            self._segmenter = None
            segmenter.close()

    def _serve_frames(self, segmenter: Segmenter) -> None:
        while batch := self._frames.take(segmenter.engine.batch_max):
            self._in_work = tuple(batch)
            self._busy_since_s = time.monotonic()
            deliver = self._serve(segmenter, batch)
            with self._delivering:
                if self._given_up:
                    return
                deliver()
                self._in_work, self._busy_since_s = (), None
            del batch, deliver  # nothing of a frame stays while the thread waits for the next
