"""Whether class maps agree from frame to frame once the motion of the picture is taken out: no label map is needed."""

from __future__ import annotations

import cv2
import numpy as np

from darkseg_ros.classes import CITYSCAPES, IGNORE_INDEX, ClassTable
from darkseg_ros.evaluation.metrics import FLICKER_GAP_MAX_NS, confusion_matrix

_FLOW_WIDTH_PX = 320
_OCCLUSION_LEVELS = 24
"""A warped pixel whose grey differs more than this is another thing: it was hidden, or the flow is wrong there."""


class FlowConsistency:
    """Compares each class map with the one before, warped to it along the optical flow of the camera images.

    The flow is dense inverse search (DIS) on pictures 320 pixels wide. Pixels that come from outside the frame or whose
    grey does not fit are left out. Frames follow each other as in `metrics.Flicker`.

    Source: Varghese et al., "Unsupervised Temporal Consistency Metric for Video Segmentation in Highly-Automated
        Driving", CVPR Workshops 2020: the mean IoU of the warped class map against the present one.
    Differs: the flow is DIS (Kroeger et al., ECCV 2016, arXiv 1603.03590), which needs no network; the IoU is over all
        pairs of frames together, so that drives add up.
    """

    def __init__(self, classes: ClassTable = CITYSCAPES) -> None:
        self._classes = classes
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._last: tuple[int, np.ndarray, np.ndarray] | None = None

    def add(self, stamp_ns: int, bgr: np.ndarray, class_map: np.ndarray) -> np.ndarray | None:
        """Add the next frame.

        Args:
            stamp_ns: the camera's stamp.
            bgr: (H, W, 3) uint8.
            class_map: (H, W) uint8 train ids, 255 = unlabelled.

        Returns:
            (K, K + 1) int64 as `metrics.confusion_matrix`: rows are the classes before, warped, columns those of now,
            in pixels of the small picture. None where this frame does not follow the last.
        """
        height, width = bgr.shape[:2]
        small_wh = (min(width, _FLOW_WIDTH_PX), max(1, round(height * min(width, _FLOW_WIDTH_PX) / width)))
        grey = cv2.cvtColor(cv2.resize(bgr, small_wh, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
        small_map = cv2.resize(class_map, small_wh, interpolation=cv2.INTER_NEAREST_EXACT)
        last, self._last = self._last, (stamp_ns, grey, small_map)
        if last is None or not 0 < stamp_ns - last[0] <= FLICKER_GAP_MAX_NS or last[1].shape != grey.shape:
            return None
        if min(grey.shape) < 16:  # DIS matches patches of 8 pixels on halved pictures
            return None
        flow = self._flow_to(grey, last[1])
        rows, columns = np.indices(grey.shape, np.float32)
        x, y = columns + flow[..., 0], rows + flow[..., 1]
        warped_map = cv2.remap(last[2], x, y, cv2.INTER_NEAREST, borderValue=IGNORE_INDEX)
        warped_grey = cv2.remap(last[1], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        warped_map[cv2.absdiff(warped_grey, grey) > _OCCLUSION_LEVELS] = IGNORE_INDEX
        return confusion_matrix(warped_map, small_map, self._classes)

    def _flow_to(self, grey: np.ndarray, before: np.ndarray) -> np.ndarray:
        """(H, W, 2) float32: from each pixel to where it was before."""
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # DIS searches in as many stripes as there are threads, and its answer depends on them
        try:
            return np.asarray(self._flow.calc(grey, before, None))  # type: ignore[call-overload]  # makes its own
        finally:
            cv2.setNumThreads(threads)
