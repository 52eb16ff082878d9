"""OpenVINO on the int8 CPU graph; the logits are finished by `darkseg_ros.engine.logits_finish`."""

from __future__ import annotations

from typing import Any

import numpy as np

from darkseg_ros.bundle import ModelBundle
from darkseg_ros.classes import NUM_CLASSES
from darkseg_ros.engine.logits_finish import finish_logits
from darkseg_ros.engine.protocol import EngineOutput
from darkseg_ros.errors import EngineError


class OpenVinoEngine:
    """See `darkseg_ros.engine.protocol.Engine`."""

    def __init__(self, bundle: ModelBundle, *, threads: int = 0) -> None:
        try:
            import openvino
        except ImportError as error:
            raise EngineError(f"OpenVINO does not import ({error}); run `pip install openvino`") from error
        # f32: where the hint is left out, OpenVINO picks bf16 on some CPUs, which is slower and less exact
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            core = openvino.Core()
            graph = core.read_model(str(bundle.cpu_graph.path), str(bundle.cpu_weights.path))
            self._compiled: Any = core.compile_model(graph, "CPU", settings)
            self._request: Any = self._compiled.create_infer_request()
            shapes = [list(port.shape) for port in (self._compiled.input("frame"), self._compiled.output("logits"))]
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot load {bundle.cpu_graph.path}: {error}") from error
        height, width = bundle.network_hw
        if shapes != [[1, height, width, 3], [1, NUM_CLASSES, height // 4, width // 4]]:
            raise EngineError(
                f"{bundle.cpu_graph.path} maps {shapes[0]} to {shapes[1]}, model.json says {bundle.network_hw}; "
                "export the model again"
            )
        self._temperature = bundle.temperature
        self.name = f"openvino {openvino.__version__.split('-')[0]} int8 CPU"

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        answers = [self._run_one(frames[index : index + 1]) for index in range(len(frames))]
        return EngineOutput(
            class_map=np.stack([class_map for class_map, _ in answers]),
            confidence=np.stack([confidence for _, confidence in answers]),
        )

    def _run_one(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            # share_inputs passes the memory itself, so it must be contiguous; it lives until infer() returns
            self._request.infer({"frame": np.ascontiguousarray(frame)}, share_inputs=True)
            logits = self._request.get_tensor("logits").data[0]
        except RuntimeError as error:
            raise EngineError(f"OpenVINO failed on a frame of {frame.shape}: {error}") from error
        return finish_logits(logits, temperature=self._temperature)

    def close(self) -> None:
        self._request = self._compiled = None
