"""From quarter-resolution logits to class map and confidence in one pass.

Bilinear ×4, then argmax; ties go to the lowest train id. Confidence is the maximum softmax probability at quarter
resolution, upsampled the same way: a full-size softmax would cost several times the network's share.

A kernel does it where Numba is installed, which compiles it; numpy gives the same class map, bit for bit, and a
confidence that differs by at most 1 of 255. torch, OpenCV and ONNX Runtime each round their interpolation a little
differently, so the class map is theirs except where the two best classes lie within that rounding of each other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from darkseg_ros.errors import EngineError
from darkseg_ros.model.bundle import LOGITS_STRIDE

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class AxisBlend:
    """How one axis of n source pixels becomes LOGITS_STRIDE · n output pixels.

    Output i is first_weight[i] · source[first[i]] + second_weight[i] · source[second[i]].

    Attributes:
        first: (LOGITS_STRIDE · n,) int64.
        second: (LOGITS_STRIDE · n,) int64; first + 1, or the last pixel where there is none.
        first_weight: (LOGITS_STRIDE · n,) float32 in [0, 1]; 1 where the border's value is repeated.
        second_weight: (LOGITS_STRIDE · n,) float32, 1 − first_weight.
    """

    first: np.ndarray
    second: np.ndarray
    first_weight: np.ndarray
    second_weight: np.ndarray


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


@lru_cache(maxsize=16)
def axis_blend(size: int, *, align_corners: bool) -> AxisBlend:
    """The blend of an axis of `size` source pixels; positions are float32, as torch computes them."""
    output = np.arange(LOGITS_STRIDE * size, dtype=np.float32)
    if align_corners:
        position = output * (np.float32(size - 1) / np.float32(LOGITS_STRIDE * size - 1))
    else:
        position = (output + np.float32(0.5)) / np.float32(LOGITS_STRIDE) - np.float32(0.5)
    position = np.clip(position, 0, np.float32(size - 1))
    first = position.astype(np.int64)
    second_weight = position - first.astype(np.float32)
    return AxisBlend(first, np.minimum(first + 1, size - 1), np.float32(1) - second_weight, second_weight)


@lru_cache(maxsize=1)
def fastest_finish() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """What `finish_logits` runs on this machine, ready to run.

    The first call takes 0.1 s, or some four where the kernel is compiled, which happens once per machine: engines make
    it while they open, so that no frame waits. It logs a warning where only the slow fallback is left.
    """
    from darkseg_ros.model.backends.finish.compiled_finish import CompiledFinish
    from darkseg_ros.model.backends.finish.finish_code import load_kernel

    try:
        return CompiledFinish(load_kernel())
    except EngineError as error:
        _LOG.warning("class maps are finished by numpy, which takes some 30 times as long: %s", error)
        return finish_logits_numpy


def finish_logits_numpy(
    logits: np.ndarray, *, temperature: float, align_corners: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`finish_logits` without Numba, on finite float32 logits."""
    _, height, width = logits.shape
    rows, columns = axis_blend(height, align_corners=align_corners), axis_blend(width, align_corners=align_corners)
    best = _upsample(logits[0], rows, columns)
    class_map = np.zeros(best.shape, np.uint8)
    for train_id in range(1, len(logits)):
        candidate = _upsample(logits[train_id], rows, columns)
        class_map[candidate > best] = train_id
        np.maximum(best, candidate, out=best)
    with np.errstate(over="ignore", under="ignore"):  # logits too far apart for float32: the lower ones add nothing
        shifted = (logits - logits.max(0)) * np.float32(1 / temperature)
        probability = 1 / np.exp(shifted).sum(0)
    confidence = _upsample(probability, rows, columns)
    return class_map, np.rint(confidence * 255).astype(np.uint8)


def _upsample(source: np.ndarray, rows: AxisBlend, columns: AxisBlend) -> np.ndarray:
    """(h, w) → (4h, 4w); each product and sum is rounded to float32, in the kernel's order."""
    wide = columns.first_weight * source[:, columns.first] + columns.second_weight * source[:, columns.second]
    upper, lower = wide[rows.first], wide[rows.second]
    upper *= rows.first_weight[:, None]
    lower *= rows.second_weight[:, None]
    upper += lower
    return upper
