"""A day→night translator on the vehicle: a camera frame in, the same scene by night out. No torch."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from darkseg_ros.errors import BundleError, EngineError
from darkseg_ros.frames.bgr_check import check_bgr
from darkseg_ros.model.backends import onnxruntime_graph, openvino
from darkseg_ros.model.bundle import TranslatorBundle, load_translator_bundle, load_translator_golden
from darkseg_ros.model.segmenter import preprocess

TRANSLATOR_BACKENDS = ("auto", "openvino", "onnxruntime")
"""Libraries that run a translator's graph; auto takes the first that is installed."""

_Run = Callable[[np.ndarray], np.ndarray]


class Translator:
    """Translates frames of any size with one graph. Not thread-safe: one thread owns it.

    Use `open`. The graph's answer to the golden frame was checked by then.

    Attributes:
        bundle: the translator's bundle; its network_hw is the size that frames are stretched to.
        name: the bundle, and the library that runs it.
    """

    def __init__(self, bundle: TranslatorBundle, run: _Run, *, library: str) -> None:
        self.bundle = bundle
        self.name = f"{bundle.name} on {library}"
        self._run: _Run | None = run

    @classmethod
    def open(cls, bundle_directory: str | Path, *, backend: str = "auto", threads: int = 0) -> Translator:
        """Load a bundle, open its graph and check the golden answer.

        Args:
            bundle_directory: as `engines.export_translator` wrote it.
            backend: one of `TRANSLATOR_BACKENDS`.
            threads: of the inference; 0 leaves the choice to the library.

        Raises:
            BundleError: if the bundle is none, was altered, does not translate, or its graph answers the golden
                frame otherwise than recorded.
            EngineError: if the backend is unknown, not installed, or cannot load the graph.
        """
        bundle = load_translator_bundle(bundle_directory)
        if backend == "auto":
            backend = next((name for name in TRANSLATOR_BACKENDS[1:] if find_spec(name)), "onnxruntime")
        if backend == "openvino":
            openvino.try_graph(bundle.onnx, output="night", network_hw=bundle.network_hw)
            graph = openvino.OpenVinoGraph(bundle.onnx.path, output="night", threads=threads)
            translator = cls(bundle, graph, library=graph.library)
        elif backend == "onnxruntime":
            onnxruntime_graph.try_graph(bundle.onnx, outputs=("night",), network_hw=bundle.network_hw)
            session = onnxruntime_graph.OnnxRuntimeGraph(bundle.onnx.path, outputs=("night",), threads=threads)
            translator = cls(bundle, lambda frames: session(frames)[0], library=session.library)
        else:
            raise EngineError(f"there is no backend {backend!r}; choose one of {', '.join(TRANSLATOR_BACKENDS)}")
        frames, expected = load_translator_golden(bundle)
        difference = float(np.abs(translator._translate(frames).astype(np.int16) - expected).mean())
        if difference > bundle.golden_difference_max:
            raise BundleError(
                f"{bundle.directory}: {translator.name} differs from the golden answer by {difference:.2f} grey levels "
                f"on average, expected at most {bundle.golden_difference_max:g}; copy the bundle again, choose another "
                "backend, or export the model again"
            )
        return translator

    def __call__(self, day_bgr: np.ndarray) -> np.ndarray:
        """Translate one frame.

        Args:
            day_bgr: (H, W, 3) uint8, any H and W from 1 on.

        Returns:
            (H, W, 3) uint8 BGR; what the graph's size cannot hold of a larger frame is blurred.

        Raises:
            ValueError: if `day_bgr` is no such array.
            EngineError: if the library fails.
        """
        check_bgr(day_bgr)
        height, width = day_bgr.shape[:2]
        night_bgr = self._translate(preprocess(day_bgr, self.bundle.network_hw))[0]
        return cv2.resize(night_bgr, (width, height), interpolation=cv2.INTER_LINEAR)

    def _translate(self, frames: np.ndarray) -> np.ndarray:
        if self._run is None:
            raise EngineError(f"the translator {self.bundle.name} is closed; open it again")
        night = self._run(frames)
        if night.shape != frames.shape or night.dtype != np.uint8:
            raise EngineError(
                f"{self.bundle.onnx.path} answers {night.dtype} {night.shape}, expected uint8 {frames.shape}; "
                "export the model again"
            )
        return night

    def close(self) -> None:
        """Release the library's memory; the translator cannot be used afterwards."""
        self._run = None
