"""A TensorRT whose plans are ONNX files that torch runs: on the engine's own stream, memory and recordings.

It has what `TensorRtEngine` calls of the module `tensorrt`. With it the engine's own work, which is all that differs
between a fake driver and a real one, is seen on GPUs that no TensorRT is at hand for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import onnx
import torch
from torch import Tensor

from engines.gpu.torch_graph import TorchGraph

_PORTS = ("frame", "class_map", "confidence")


class Place(Protocol):
    """Where the stand-in's torch runs."""

    device: str

    def tensor_at(self, address: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The memory at an address, of the driver's giving."""

    def on(self, stream: int, work: Callable[[], None]) -> None:
        """Queue work on a stream."""


class CudaPlace:
    """The first visible GPU."""

    device = "cuda"

    def __init__(self) -> None:
        forbid_tf32()
        self._tensors: dict[tuple[Any, ...], Tensor] = {}

    def tensor_at(self, address: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Place`. Made once each, so that none need be made while a run is recorded."""
        key = (address, shape, dtype)
        if key not in self._tensors:
            self._tensors[key] = self._tensor_at(address, shape, dtype)
        return self._tensors[key]

    @staticmethod
    def _tensor_at(address: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        class Memory:
            __cuda_array_interface__ = {  # noqa: RUF012, the protocol's name and form
                "shape": shape,
                "typestr": {torch.uint8: "|u1", torch.float32: "<f4"}[dtype],
                "data": (address, False),
                "version": 3,
            }

        return torch.as_tensor(Memory(), device="cuda")

    def on(self, stream: int, work: Callable[[], None]) -> None:
        """See `Place`."""
        with self.stream(stream):
            work()

    @staticmethod
    def stream(stream: int) -> AbstractContextManager[Any]:
        """Torch's view of a stream of the driver."""
        return torch.cuda.stream(torch.cuda.ExternalStream(stream))


def forbid_tf32() -> None:
    """Let torch compute float32 as float32 on GPUs, as plans in fp32 do: TF32 has ten binary places."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


class _Logger:
    class Severity:
        INTERNAL_ERROR, ERROR, WARNING = range(3)


class TorchTensorRt:
    """The module `tensorrt`, as far as an engine uses it.

    Args:
        place: where to run.
        batch: most frames at once, of its plans.
    """

    __name__ = "stand_in"
    __version__ = torch.__version__
    ILogger = _Logger

    class ExecutionContextAllocationStrategy:
        """As TensorRT names it."""

        USER_MANAGED = "user managed"

    def __init__(self, place: Place, *, batch: int) -> None:
        self.place, self.batch = place, batch
        self.before_run: Callable[[int], None] | None = None

    def Runtime(self, logger: Any) -> Any:  # noqa: N802, TensorRT's name
        """As TensorRT's."""
        return _Runtime(self, logger)


class _Runtime:
    def __init__(self, library: TorchTensorRt, logger: Any) -> None:
        self._library, self._logger = library, logger

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        return _Engine(self._library, self._logger, onnx.load_from_string(plan))


class _Engine:
    def __init__(self, library: TorchTensorRt, logger: Any, model: onnx.ModelProto) -> None:
        self.library, self.logger = library, logger
        self.graph = TorchGraph(model).eval().to(library.place.device)
        _, height, width, _ = (dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim)
        self.frame_shape = (height, width, 3)
        self.num_io_tensors = len(_PORTS)
        self.device_memory_size_v2 = library.batch * height * width * 3 * 4

    def get_tensor_name(self, index: int) -> str:
        return _PORTS[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *(self.frame_shape if name == "frame" else self.frame_shape[:2]))

    def create_execution_context(self, strategy: Any) -> Any:
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._activations = 0
        self._shape: tuple[int, ...] = ()

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size == self._engine.device_memory_size_v2
        self._activations = memory

    def is_stream_capturable(self, stream: int) -> bool:
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = shape
        return shape[0] <= self._engine.library.batch and shape[1:] == self._engine.frame_shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return address != 0

    def execute_async_v3(self, stream: int) -> bool:
        library = self._engine.library
        if library.before_run is not None:
            library.before_run(stream)
        try:
            library.place.on(stream, self._run)
        except RuntimeError as error:  # torch's; TensorRT logs and returns
            self._engine.logger.log(_Logger.Severity.ERROR, str(error))
            return False
        return True

    @torch.inference_mode()
    def _run(self) -> None:
        place, maps = self._engine.library.place, self._shape[:3]
        frame = place.tensor_at(self._addresses["frame"], self._shape, torch.uint8)
        # through the shared activations: a context that writes into another's would show
        scratch = place.tensor_at(self._activations, self._shape, torch.float32)
        scratch.copy_(frame)
        for name, answer in zip(_PORTS[1:], self._engine.graph(scratch.to(torch.uint8)), strict=True):
            place.tensor_at(self._addresses[name], maps, torch.uint8).copy_(answer)
