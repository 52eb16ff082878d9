"""The deep interface: a camera frame in, a class for every pixel of it out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from darkseg_ros.bundle import ModelBundle, load_bundle
from darkseg_ros.classes import IGNORE_INDEX, NUM_CLASSES
from darkseg_ros.engine import Engine, EngineOutput, open_engine
from darkseg_ros.errors import EngineError


@dataclass(frozen=True)
class Segmentation:
    """Answer to one camera frame, at the camera's geometry.

    Attributes:
        class_map: (H, W) uint8 train ids; IGNORE_INDEX where the confidence is below the segmenter's minimum.
        confidence: (H, W) uint8, 255 · maximum softmax probability.
        inference_ms: time in the engine, milliseconds.
    """

    class_map: np.ndarray
    confidence: np.ndarray
    inference_ms: float


class Segmenter:
    """Segments frames of any size with one engine. Not thread-safe: one thread owns it.

    Args:
        bundle: the model's bundle; its network_hw is the size that frames are stretched to.
        engine: opened from that bundle.
        min_confidence: 0…1; pixels below become IGNORE_INDEX. May be changed between frames.
    """

    def __init__(self, bundle: ModelBundle, engine: Engine, *, min_confidence: float = 0.0) -> None:
        self.bundle = bundle
        self.engine = engine
        self.min_confidence = min_confidence

    @classmethod
    def open(
        cls,
        bundle_directory: str | Path,
        *,
        backend: str = "auto",
        threads: int = 0,
        min_confidence: float = 0.0,
    ) -> Segmenter:
        """Load a bundle, open its engine and check the golden answer; raises BundleError or EngineError."""
        bundle = load_bundle(bundle_directory)
        return cls(bundle, open_engine(bundle, backend=backend, threads=threads), min_confidence=min_confidence)

    def __call__(self, bgr: np.ndarray) -> Segmentation:
        """Segment one frame.

        Args:
            bgr: (H, W, 3) uint8, any H and W from 1 on.

        Raises:
            ValueError: if `bgr` is no such array.
            EngineError: if the engine fails or its answer is not one; there is then no class map at all.
        """
        if bgr.ndim != 3 or bgr.shape[2] != 3 or bgr.dtype != np.uint8 or not bgr.size:
            raise ValueError(f"expected (H, W, 3) uint8 BGR with H, W ≥ 1, got {bgr.dtype} {bgr.shape}")
        frames = preprocess(bgr, self.bundle.network_hw)
        started = time.perf_counter()
        output = self.engine(frames)
        inference_ms = (time.perf_counter() - started) * 1000
        class_map, confidence = postprocess(output, bgr.shape[:2])
        if self.min_confidence > 0:
            class_map[confidence < self.min_confidence * 255] = IGNORE_INDEX
        return Segmentation(class_map, confidence, inference_ms)

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()


def preprocess(bgr: np.ndarray, network_hw: tuple[int, int]) -> np.ndarray:
    """Stretch a frame to the network's size; (1, h, w, 3) uint8, contiguous."""
    height, width = network_hw
    return np.ascontiguousarray(cv2.resize(bgr, (width, height), interpolation=cv2.INTER_LINEAR))[None]


def postprocess(output: EngineOutput, camera_hw: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Bring both maps of a one-frame batch back to the camera's geometry, the inverse of `preprocess`.

    Raises:
        EngineError: if the class map holds a value that is no train id.
    """
    if output.class_map.max() >= NUM_CLASSES:
        raise EngineError(
            f"the engine answered class {output.class_map.max()}, expected 0…{NUM_CLASSES - 1}; export the model again"
        )
    size_wh = (camera_hw[1], camera_hw[0])
    class_map, confidence = (
        # nearest: anything else would invent classes; EXACT: plain INTER_NEAREST shifts by up to a pixel
        cv2.resize(values[0], size_wh, interpolation=cv2.INTER_NEAREST_EXACT)
        for values in (output.class_map, output.confidence)
    )
    return class_map, confidence
