"""Which frames go to the engine together: the newest of each camera, and none waits long for another camera's."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from darkseg_ros.model.segmenter import Segmentation, Segmenter

_Frame = TypeVar("_Frame")


@dataclass(frozen=True)
class BatchRule:
    """How long frames wait for those of other cameras.

    Attributes:
        window_s: ≥ 0, from the arrival of the batch's first frame; 0 takes what is there.
        silent_after_s: a camera that sent nothing for so long is not waited for; 0: each that ever sent is.
    """

    window_s: float
    silent_after_s: float


class BatchFormer(Generic[_Frame]):
    """Keeps the newest frame of each camera until the batch goes. Times are a steady clock's, in seconds.

    A batch goes when it is full, when every camera that is not silent has a frame in it, or when the window is over;
    frames that found no room in it go next, at once. A frame that is replaced by a newer one does not start the window
    again and keeps its place, so a fast camera cannot delay a slow one.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, _Frame] = {}
        self._first_s = 0.0
        self._newest_s: dict[str, float] = {}

    @property
    def holds_frames(self) -> bool:
        """Whether a frame waits."""
        return bool(self._waiting)

    def put(self, camera: str, frame: _Frame, *, now_s: float) -> _Frame | None:
        """Add a frame; returns the older one of its camera that will not be served instead."""
        if not self._waiting:
            self._first_s = now_s
        self._newest_s[camera] = now_s
        replaced = self._waiting.get(camera)
        self._waiting[camera] = frame
        return replaced

    def due_in_s(self, rule: BatchRule, *, frames_max: int, now_s: float) -> float | None:
        """How long a batch of at most so many frames has to wait: 0 if it is to go now, None if there is no frame."""
        if not self._waiting:
            return None
        if len(self._waiting) >= frames_max:
            return 0.0
        silent_at_s = [
            newest_s + rule.silent_after_s if rule.silent_after_s else math.inf
            for camera, newest_s in self._newest_s.items()
            if camera not in self._waiting
        ]
        goes_at_s = min(self._first_s + rule.window_s, max(silent_at_s, default=now_s))
        return max(0.0, goes_at_s - now_s)

    def take(self, frames_max: int) -> list[_Frame]:
        """At most so many of the frames that wait, one of each camera, those first that have waited longest."""
        batch = [self._waiting.pop(camera) for camera in list(self._waiting)[:frames_max]]
        self._first_s = -math.inf  # of what is left; a frame that comes when nothing waits sets it anew
        return batch

    def take_all(self) -> list[_Frame]:
        """What waits; nothing waits then."""
        return self.take(len(self._waiting))


class Waiter(Protocol):
    """How a thread sleeps until it is woken."""

    def wait(self, within_s: float | None) -> None:
        """Sleep until `wake`, or until the time is over; None: for as long as it takes. May end without a reason."""

    def wake(self) -> None:
        """End a wait, the present one or the next; called from any thread."""


class EventWaiter:
    """Sleeps on an event."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def wait(self, within_s: float | None) -> None:
        self._event.wait(within_s)
        self._event.clear()

    def wake(self) -> None:
        self._event.set()


class LatestFrames(Generic[_Frame]):
    """Hands batches from who receives frames to the thread that serves them; it never grows.

    Args:
        rule: the one in force; asked for again whenever a batch may go.
        waiter: what the serving thread waits by, which may put frames here while it does.
    """

    def __init__(self, rule: Callable[[], BatchRule], waiter: Waiter | None = None) -> None:
        self._rule = rule
        self._waiter = EventWaiter() if waiter is None else waiter
        self._former: BatchFormer[_Frame] = BatchFormer()
        self._lock = threading.Lock()
        self._closed = False

    def put(self, camera: str, frame: _Frame, *, now_s: float | None = None) -> _Frame | None:
        """Offer a frame.

        Args:
            camera: that it is of.
            frame: the camera's newest.
            now_s: when it arrived; now unless given.

        Returns:
            The one that will not be served: an older one of this camera, or `frame` itself once closed.
        """
        with self._lock:
            if self._closed:
                return frame
            replaced = self._former.put(camera, frame, now_s=time.monotonic() if now_s is None else now_s)
        self._waiter.wake()
        return replaced

    def take(self, frames_max: int) -> list[_Frame]:
        """Wait for a batch of at most so many frames; an empty one means closed."""
        if self._former.holds_frames:
            self._waiter.wait(0.0)  # what found no room in the batch before may have been replaced by now
        while True:
            with self._lock:
                if self._closed:
                    return []
                due_in_s = self._former.due_in_s(self._rule(), frames_max=frames_max, now_s=time.monotonic())
                if due_in_s == 0:
                    return self._former.take(frames_max)
            self._waiter.wait(due_in_s)

    def close(self) -> list[_Frame]:
        """End every `take`, now and later; returns the frames that still waited."""
        with self._lock:
            self._closed = True
            waiting = self._former.take_all()
        self._waiter.wake()
        return waiting


def segment_each(segmenter: Segmenter, bgrs: Sequence[np.ndarray]) -> list[Segmentation | Exception]:
    """Segment frames together and, if that fails, one by one: what one frame does to the engine is its own affair.

    Args:
        segmenter: raises what `Segmenter` raises.
        bgrs: (H, W, 3) uint8 each, of any sizes; may be empty.

    Returns:
        For each frame its answer, or why there is none.
    """
    if not bgrs:
        return []
    try:
        return list(segmenter.segment_batch(bgrs))
    except Exception as error:
        if len(bgrs) == 1:
            return [error]
    return [answer for bgr in bgrs for answer in segment_each(segmenter, [bgr])]
