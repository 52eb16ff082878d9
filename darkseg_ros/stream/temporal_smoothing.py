"""Steadier class maps: each pixel takes the class that the last few frames vote for."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from darkseg_ros.classes import IGNORE_INDEX
from darkseg_ros.model.segmenter import Segmentation

FRAMES_MAX = 255


class TemporalSmoother:
    """Votes over the last frames, pixel by pixel, each vote weighted by its confidence.

    The price is lag. Where all votes are equally sure, a pixel changes its class with the ⌈frames / 2⌉-th frame that
    shows the new one; it never takes more than `frames` of them. An edge that moves by v pixels a frame is therefore
    drawn up to v · (⌈frames / 2⌉ − 1) pixels behind. Frames are not aligned: use few, and none where things move fast.

    Args:
        frames: how many vote, the newest included; 1 changes nothing.

    Raises:
        ValueError: if `frames` is not 1…FRAMES_MAX.
    """

    def __init__(self, frames: int) -> None:
        if not 1 <= frames <= FRAMES_MAX:
            raise ValueError(f"expected 1…{FRAMES_MAX} frames to vote, got {frames}")
        self.frames = frames
        self._window: deque[Segmentation] = deque(maxlen=frames)

    def reset(self) -> None:
        """Forget all frames: the next one is of another drive."""
        self._window.clear()

    def __call__(self, segmentation: Segmentation) -> Segmentation:
        """Add the newest frame and count the votes.

        A pixel that the newest frame leaves unlabelled stays so, with its confidence: smoothing steadies an answer and
        makes up none. A tie goes to the class seen last.

        Args:
            segmentation: of the next frame; kept, so its arrays must not be changed. Another size starts anew.

        Returns:
            The class of most votes, and the mean confidence of the frames that voted for it; arrays of its own.
        """
        if self._window and self._window[-1].class_map.shape != segmentation.class_map.shape:
            self.reset()
        self._window.append(segmentation)
        newest, *older = (frame.class_map for frame in reversed(self._window))
        labelled = newest != IGNORE_INDEX
        disputed = np.zeros(newest.shape, bool)
        for class_map in older:
            disputed |= class_map != newest
        disputed &= labelled

        class_map, confidence = newest.copy(), segmentation.confidence.copy()
        total = np.zeros(newest.shape, np.uint16)
        for frame in self._window:
            total += frame.confidence
        count = len(self._window)
        np.copyto(confidence, (total + count // 2) // count, where=labelled & ~disputed, casting="unsafe")
        # few pixels are disputed, and only they pay for the vote
        pixels = np.flatnonzero(disputed)
        class_map.flat[pixels], confidence.flat[pixels] = _vote(
            np.stack([frame.class_map.ravel()[pixels] for frame in reversed(self._window)]),
            np.stack([frame.confidence.ravel()[pixels] for frame in reversed(self._window)]),
        )
        return replace(segmentation, engine_class_map=class_map, engine_confidence=confidence, min_confidence=0.0)


def _vote(class_ids: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class of most votes and its voters' mean confidence, two (P,) uint8; both arguments (N, P), newest first."""
    weights = confidence.astype(np.uint16)  # FRAMES_MAX of them sum to less than 2¹⁶
    winner = class_ids[0].copy()
    most = (weights * (class_ids == winner)).sum(0, dtype=np.uint16)
    for candidate in class_ids[1:]:
        votes = (weights * (class_ids == candidate)).sum(0, dtype=np.uint16)
        better = (votes > most) & (candidate != IGNORE_INDEX)
        np.copyto(most, votes, where=better)
        np.copyto(winner, candidate, where=better)
    voters = (class_ids == winner).sum(0, dtype=np.uint16)
    return winner, ((most + voters // 2) // voters).astype(np.uint8)
