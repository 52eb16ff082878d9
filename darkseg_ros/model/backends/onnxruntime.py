"""ONNX Runtime on the fused float graph: on the CPU slower than OpenVINO's int8, and it runs everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from darkseg_ros.model.backends.onnxruntime_cuda import OnnxRuntimeCudaGraph
from darkseg_ros.model.backends.onnxruntime_graph import OnnxRuntimeGraph, try_graph
from darkseg_ros.model.backends.protocol import EngineOutput, check_confidence
from darkseg_ros.model.bundle import ModelBundle

_OUTPUTS = ("class_map", "confidence")


class OnnxRuntimeEngine:
    """See `darkseg_ros.model.backends.protocol.Engine`.

    Args:
        bundle: a checked bundle.
        gpu: the first visible GPU's name, as `find_gpu` gives it; None for the CPU.
        threads: of the inference on the CPU; 0 leaves the choice to the library.

    Raises:
        EngineError: if ONNX Runtime is not installed or cannot load the graph, or the graph has other ports, or ONNX
            Runtime cannot use the GPU.
    """

    batch_max = 1
    streams = 1

    def __init__(self, bundle: ModelBundle, *, gpu: str | None = None, threads: int = 0) -> None:
        try_graph(bundle.fused_onnx, outputs=_OUTPUTS, network_hw=bundle.network_hw)
        path = bundle.fused_onnx.path
        self._graph: Any
        if gpu is not None:
            self._graph = OnnxRuntimeCudaGraph(path, outputs=_OUTPUTS)
            self.name = f"{self._graph.library} float CUDA {gpu}"
        else:
            self._graph = OnnxRuntimeGraph(path, outputs=_OUTPUTS, threads=threads)
            self.name = f"{self._graph.library} float CPU"
        self._class_count = len(bundle.classes)

    def __call__(self, frames: np.ndarray) -> EngineOutput:
        answers = [self._graph(frames[index : index + 1]) for index in range(len(frames))]
        class_maps, confidences = zip(*answers, strict=True)
        output = EngineOutput(np.concatenate(class_maps), np.concatenate(confidences))
        check_confidence(output.confidence, self._class_count)
        return output

    def close(self) -> None:
        self._graph = None
