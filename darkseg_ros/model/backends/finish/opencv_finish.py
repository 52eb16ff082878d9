"""The finish where the kernel was not compiled: OpenCV enlarges, NumPy compares."""

from __future__ import annotations

import cv2
import numpy as np

from darkseg_ros.model.backends.finish.numpy_finish import finish_logits_numpy, max_probability
from darkseg_ros.model.bundle import LOGITS_STRIDE


def finish_logits_opencv(
    logits: np.ndarray, *, temperature: float, align_corners: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`logits_finish.finish_logits` on finite float32 logits; NumPy does it where corners are aligned.

    OpenCV rounds its interpolation otherwise: classes within that rounding of each other may win in each other's place.
    """
    if align_corners:  # OpenCV knows half-pixel centres only
        return finish_logits_numpy(logits, temperature=temperature, align_corners=True)
    best = _enlarged(logits[0])
    class_map = np.zeros(best.shape, np.uint8)
    for train_id in range(1, len(logits)):
        candidate = _enlarged(logits[train_id])
        class_map[candidate > best] = train_id
        np.maximum(best, candidate, out=best)
    confidence = _enlarged(max_probability(logits, temperature=temperature))
    return class_map, np.rint(confidence * 255).astype(np.uint8)


def _enlarged(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    size_wh = (LOGITS_STRIDE * width, LOGITS_STRIDE * height)
    return cv2.resize(np.ascontiguousarray(plane), size_wh, interpolation=cv2.INTER_LINEAR)
