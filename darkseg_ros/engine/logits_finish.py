"""From quarter-resolution logits to class map and confidence in one pass.

Bilinear ×4 with half-pixel centres (ONNX ``half_pixel``, torch ``align_corners=False``), then argmax. Confidence is the
maximum softmax probability at quarter resolution, upsampled the same way: a full-size softmax would cost several times
the network's share. A Numba kernel does it where Numba is installed; numpy and OpenCV give the same answer without.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from darkseg_ros.bundle import LOGITS_STRIDE
from darkseg_ros.errors import EngineError

Finish = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]]


def finish_logits(logits: np.ndarray, *, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Class map and confidence of one frame.

    Args:
        logits: (19, h, w) float32.
        temperature: divides the logits in the softmax; the class map does not depend on it.

    Returns:
        Two (4h, 4w) uint8 arrays: train ids, and 255 · maximum softmax probability.

    Raises:
        EngineError: if a logit is NaN or infinite: an argmax over such values would look like an answer.
    """
    if not np.isfinite(logits.sum(dtype=np.float64)):
        raise EngineError("the network's logits hold NaN or infinity; the frame gets no class map: check the model")
    return _fastest_finish()(np.ascontiguousarray(logits, np.float32), temperature)


@lru_cache(maxsize=1)
def _fastest_finish() -> Finish:
    try:
        from darkseg_ros.engine.numba_finish import finish_logits_numba
    except ImportError:
        return finish_logits_numpy
    return finish_logits_numba


def finish_logits_numpy(logits: np.ndarray, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """`finish_logits` without Numba."""
    classes, height, width = logits.shape
    size_wh = (width * LOGITS_STRIDE, height * LOGITS_STRIDE)
    best = cv2.resize(logits[0], size_wh, interpolation=cv2.INTER_LINEAR)
    class_map = np.zeros(best.shape, np.uint8)
    for train_id in range(1, classes):
        candidate = cv2.resize(logits[train_id], size_wh, interpolation=cv2.INTER_LINEAR)
        class_map[candidate > best] = train_id
        np.maximum(best, candidate, out=best)
    shifted = (logits - logits.max(0)) / np.float32(temperature)
    probability = 1 / np.exp(shifted).sum(0)
    confidence = cv2.resize(probability, size_wh, interpolation=cv2.INTER_LINEAR)
    return class_map, np.rint(confidence * 255).astype(np.uint8)
