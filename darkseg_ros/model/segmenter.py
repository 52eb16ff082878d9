"""The deep interface: a camera frame in, a class for every pixel of it out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from darkseg_ros.classes import IGNORE_INDEX, ClassTable
from darkseg_ros.errors import EngineError
from darkseg_ros.frames.bgr_check import check_bgr
from darkseg_ros.model.backends import Engine, EngineOutput, open_engine
from darkseg_ros.model.bundle import ModelBundle, load_bundle
from darkseg_ros.model.exposure import Exposure, normalise_exposure
from darkseg_ros.model.stretch import stretch_frame, stretch_map


@dataclass(frozen=True)
class Segmentation:
    """Answer to one camera frame, at the camera's geometry.

    Attributes:
        engine_class_map: (h, w) uint8 train ids; of the network's size or the camera's.
        engine_confidence: (h, w) uint8, 255 · maximum softmax probability.
        camera_hw: (H, W).
        inference_ms: time in the engine, milliseconds; that of the whole batch where the frame was one of several.
        min_confidence: 0…1; pixels below are IGNORE_INDEX in `class_map`.
    """

    engine_class_map: np.ndarray
    engine_confidence: np.ndarray
    camera_hw: tuple[int, ...]
    inference_ms: float
    min_confidence: float = 0.0

    @cached_property
    def class_map(self) -> np.ndarray:
        """(H, W) uint8 train ids, IGNORE_INDEX where the confidence is below the minimum."""
        class_map = np.empty(self.camera_hw, np.uint8)
        self.write_class_map(class_map)
        return class_map

    def write_class_map(self, into: np.ndarray) -> None:
        """Write `class_map` where it is wanted: (H, W) uint8, C-contiguous."""
        stretch_map(self.engine_class_map, into)
        if self.min_confidence > 0:
            into[self.confidence < self.min_confidence * 255] = IGNORE_INDEX

    def write_confidence(self, into: np.ndarray) -> None:
        """Write `confidence` where it is wanted: (H, W) uint8, C-contiguous."""
        stretch_map(self.engine_confidence, into)

    @cached_property
    def confidence(self) -> np.ndarray:
        """(H, W) uint8, 255 · maximum softmax probability; stretched when first asked for, since few ask."""
        return _stretch_back(self.engine_confidence, self.camera_hw)


class Segmenter:
    """Segments frames of any size with one engine, in as many threads at once as the engine has `streams`.

    Args:
        bundle: the model's bundle; its network_hw is the size that frames are stretched to, its exposure the brightness
            that dark ones get.
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
        device: str = "auto",
        threads: int = 0,
        streams: int = 1,
        min_confidence: float = 0.0,
    ) -> Segmenter:
        """Load a bundle, open its engine and check the golden answer; raises BundleError or EngineError."""
        bundle = load_bundle(bundle_directory)
        engine = open_engine(bundle, backend=backend, device=device, threads=threads, streams=streams)
        return cls(bundle, engine, min_confidence=min_confidence)

    def __call__(self, bgr: np.ndarray) -> Segmentation:
        """Segment one frame; see `segment_batch`."""
        (segmentation,) = self.segment_batch([bgr])
        return segmentation

    def segment_batch(self, bgrs: Sequence[np.ndarray]) -> list[Segmentation]:
        """Segment frames, also of different sizes, in one call of the engine.

        Args:
            bgrs: one or more (H, W, 3) uint8, any H and W from 1 on; not changed.

        Returns:
            One answer for each, in their order.

        Raises:
            ValueError: if there is none, or one is no such array.
            EngineError: if the engine fails, or an answer is not one; there is then no class map at all.
        """
        frames = _stretch(bgrs, self.bundle.network_hw, self.bundle.exposure)
        started = time.perf_counter()
        output = self.engine(frames)
        inference_ms = (time.perf_counter() - started) * 1000
        return [
            self._segmentation(class_map, confidence, camera_hw=bgr.shape[:2], inference_ms=inference_ms)
            for class_map, confidence, bgr in zip(output.class_map, output.confidence, bgrs, strict=True)
        ]

    def _segmentation(
        self, class_map: np.ndarray, confidence: np.ndarray, *, camera_hw: tuple[int, ...], inference_ms: float
    ) -> Segmentation:
        _check_train_ids(class_map, self.bundle.classes)
        return Segmentation(class_map, confidence, camera_hw, inference_ms, self.min_confidence)

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()


def preprocess(bgr: np.ndarray, network_hw: tuple[int, int], exposure: Exposure | None = None) -> np.ndarray:
    """A frame as the network sees it: stretched to its size, and brightened if dark; (1, h, w, 3) uint8, contiguous.

    Args:
        bgr: the frame; not changed.
        network_hw: (h, w).
        exposure: of the network; None brightens nothing.

    Raises:
        ValueError: if `bgr` is not (H, W, 3) uint8.
    """
    return _stretch([bgr], network_hw, exposure)


def postprocess(output: EngineOutput, camera_hw: tuple[int, ...], classes: ClassTable) -> tuple[np.ndarray, np.ndarray]:
    """Bring both maps of a one-frame batch back to the camera's geometry, the inverse of `preprocess`.

    Raises:
        EngineError: if the class map holds a value that is no train id.
    """
    _check_train_ids(output.class_map[0], classes)
    return _stretch_back(output.class_map[0], camera_hw), _stretch_back(output.confidence[0], camera_hw)


def _check_train_ids(class_map: np.ndarray, classes: ClassTable) -> None:
    if class_map.max() >= len(classes):
        raise EngineError(
            f"the engine answered class {class_map.max()}, expected 0…{len(classes) - 1}; export the model again"
        )


def _stretch(bgrs: Sequence[np.ndarray], network_hw: tuple[int, int], exposure: Exposure | None) -> np.ndarray:
    if not bgrs:
        raise ValueError("expected one frame or more, got none")
    for bgr in bgrs:
        check_bgr(bgr)
    height, width = network_hw
    frames = np.empty((len(bgrs), height, width, 3), np.uint8)
    for frame, bgr in zip(frames, bgrs, strict=True):
        stretch_frame(bgr, frame)
        if exposure is not None:
            normalise_exposure(frame, exposure)
    return frames


def _stretch_back(values: np.ndarray, camera_hw: tuple[int, ...]) -> np.ndarray:
    stretched = np.empty(camera_hw, np.uint8)
    stretch_map(values, stretched)
    return stretched
