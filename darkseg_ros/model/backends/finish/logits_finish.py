"""From quarter-resolution logits to class map and confidence in one pass.

Bilinear ×4, then argmax; ties go to the lowest train id. Confidence is the maximum softmax probability at quarter
resolution, upsampled the same way: a full-size softmax would cost several times the network's share.

A compiled kernel does it, on one thread. NumPy gives the same class map, bit for bit, and a confidence that differs by
at most 1 of 255. torch, OpenCV and ONNX Runtime each round their interpolation a little differently: the class map is
theirs except where the two best classes lie within that rounding of each other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from darkseg_ros.errors import EngineError
from darkseg_ros.model.backends.finish.kernel import load_kernel
from darkseg_ros.model.backends.finish.opencv_finish import finish_logits_opencv

Finish = Callable[..., tuple[np.ndarray, np.ndarray]]

_LOG = logging.getLogger(__name__)


def finish_logits(
    logits: np.ndarray, *, temperature: float, align_corners: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Class map and confidence of one frame.

    Args:
        logits: (K, h, w) with 1 ≤ K ≤ 256 and h, w ≥ 1, of any memory order; taken as float32. Class by class and
            pixel by pixel (channels last) cost the same.
        temperature: divides the logits in the softmax; the class map does not depend on it.
        align_corners: where the network was trained with it: the corner pixels' centres stay where they are. Else
            half-pixel centres (ONNX ``half_pixel``, torch ``align_corners=False``), as `engines.export` writes them.

    Returns:
        Two (4h, 4w) uint8 arrays: train ids, and 255 · maximum softmax probability.

    Raises:
        ValueError: if the shape is none of these.
        EngineError: if a logit is NaN or infinite: an argmax over such values would look like an answer.
    """
    if logits.ndim != 3 or 0 in logits.shape or len(logits) > 256:
        raise ValueError(f"logits have shape {logits.shape}; expected (classes ≤ 256, h, w), none of them 0")
    logits = np.require(logits, np.float32, "A")  # aligned: the kernel counts strides in whole floats
    if not np.isfinite(logits).all():
        raise EngineError("the network's logits hold NaN or infinity; the frame gets no class map: check the model")
    return fastest_finish()(logits, temperature=temperature, align_corners=align_corners)


@lru_cache(maxsize=1)
def fastest_finish() -> Finish:
    """What `finish_logits` runs on this machine: the kernel, or OpenCV where it was not compiled, with a warning."""
    try:
        return load_kernel()
    except EngineError as error:
        _LOG.warning("class maps are finished by OpenCV, which takes some 10 times as long: %s", error)
        return finish_logits_opencv


def is_slow() -> bool:
    """Whether this machine has the slow finish only."""
    return fastest_finish() is finish_logits_opencv
