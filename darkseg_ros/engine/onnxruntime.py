"""ONNX Runtime on the fused float graph: slower than OpenVINO's int8, and it runs everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from darkseg_ros.bundle import ModelBundle
from darkseg_ros.engine.protocol import EngineOutput
from darkseg_ros.errors import EngineError


class OnnxRuntimeEngine:
    """See `darkseg_ros.engine.protocol.Engine`."""

    def __init__(self, bundle: ModelBundle, *, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError(f"ONNX Runtime does not import ({error}); run `pip install onnxruntime`") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(bundle.fused_onnx.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library's exceptions share no base class
            raise EngineError(f"ONNX Runtime cannot load {bundle.fused_onnx.path}: {error}") from error
        names = (
            [node.name for node in self._session.get_inputs()],
            [n.name for n in self._session.get_outputs()],
        )
        if names != (["frame"], ["class_map", "confidence"]):
            raise EngineError(
                f"{bundle.fused_onnx.path} has inputs and outputs {names}; expected frame → class_map, confidence: "
                "export the model again"
            )
        self.name = f"onnxruntime {onnxruntime.__version__} float CPU"

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        answers = [self._run_one(frames[index : index + 1]) for index in range(len(frames))]
        class_maps, confidences = zip(*answers, strict=True)
        return EngineOutput(np.concatenate(class_maps), np.concatenate(confidences))

    def _run_one(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            class_map, confidence = self._session.run(["class_map", "confidence"], {"frame": frame})
        except Exception as error:  # as above
            raise EngineError(f"ONNX Runtime failed on a frame of {frame.shape}: {error}") from error
        return class_map, confidence

    def close(self) -> None:
        self._session = None
