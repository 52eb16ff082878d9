"""A GPU for tests: NVIDIA's driver over the host's memory, and a TensorRT whose plans are ONNX files.

Addresses, streams and recordings are kept apart as the real ones are: what is queued runs at the next wait, what is
recorded runs only when launched, and memory that was not allocated is refused.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

_INVALID_VALUE = 1
_INVALID_CONTEXT = 201

_NEEDS_CONTEXT = ("cuMem", "cuStream", "cuGraph")


class FakeDriver:
    """libcuda over host memory."""

    def __init__(self, *, name: str = "NVIDIA Fake 1", capability: tuple[int, int] = (8, 6), gpus: int = 1) -> None:
        self.name, self.capability, self.gpus = name, capability, gpus
        self.memory: dict[int, Any] = {}
        self.queue: list[Callable[[], None]] = []
        self.recording: list[Callable[[], None]] | None = None
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.launches = 0
        self.lost = 0
        self.failing: dict[str, int] = {}
        self.threads: set[int] = set()
        self.contexts = 0
        self.streams = 0

    def __getattribute__(self, name: str) -> Any:
        """A driver whose process lost the GPU answers every call so; a call in `failing` fails on its own.

        Memory and streams are those of a context, which each thread must make its own first.
        """
        if name.startswith("cu") and name not in ("cuGetErrorString", "cuInit"):
            status = self.lost or self.failing.get(name, 0)
            if not status and name.startswith(_NEEDS_CONTEXT) and threading.get_ident() not in self.threads:
                status = _INVALID_CONTEXT
            if status:
                return lambda *arguments: status
        return super().__getattribute__(name)

    def push(self, work: Callable[[], None]) -> None:
        (self.queue if self.recording is None else self.recording).append(work)

    def array_at(self, address: int, shape: tuple[int, ...]) -> np.ndarray:
        buffer = self.memory[address]
        size = int(np.prod(shape))
        assert size <= len(buffer), "a tensor is larger than its memory"
        return np.frombuffer(buffer, np.uint8, size).reshape(shape)

    def cuInit(self, flags: Any) -> int:  # noqa: N802, here and below the driver's own names
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13020
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.gpus
        return 0

    def cuDeviceGet(self, device: Any, index: Any) -> int:  # noqa: N802
        return 0

    def cuDeviceGetName(self, buffer: Any, size: Any, device: Any) -> int:  # noqa: N802
        buffer.value = self.name.encode()
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: Any, device: Any) -> int:  # noqa: N802
        value._obj.value = self.capability[{75: 0, 76: 1}[attribute.value]]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:  # noqa: N802
        self.contexts += 1
        context._obj.value = 77
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: Any) -> int:  # noqa: N802
        self.contexts -= 1
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:  # noqa: N802
        self.threads.add(threading.get_ident())
        return 0

    def cuStreamCreate(self, stream: Any, flags: Any) -> int:  # noqa: N802
        self.streams += 1
        stream._obj.value = 5
        return 0

    def cuStreamDestroy_v2(self, stream: Any) -> int:  # noqa: N802
        self.streams -= 1
        return 0

    def cuStreamSynchronize(self, stream: Any) -> int:  # noqa: N802
        work, self.queue = self.queue, []
        for each in work:
            each()
        return 0

    def cuStreamQuery(self, stream: Any) -> int:  # noqa: N802
        return 0

    def _allocate(self, address: Any, size: Any) -> int:
        buffer = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(buffer)
        self.memory[ctypes.addressof(buffer)] = buffer
        return 0

    cuMemAllocHost_v2 = cuMemAlloc_v2 = _allocate  # noqa: N815

    def _free(self, address: Any) -> int:
        return 0 if self.memory.pop(address.value, None) is not None else _INVALID_VALUE

    cuMemFreeHost = cuMemFree_v2 = _free  # noqa: N815

    def _copy(self, target: Any, source: Any, size: Any, stream: Any) -> int:
        if not {target.value, source.value} <= self.memory.keys():
            return _INVALID_VALUE
        self.push(lambda: ctypes.memmove(target.value, source.value, size.value))
        return 0

    cuMemcpyHtoDAsync_v2 = cuMemcpyDtoHAsync_v2 = _copy  # noqa: N815

    def cuStreamBeginCapture_v2(self, stream: Any, mode: Any) -> int:  # noqa: N802
        self.recording = []
        return 0

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:  # noqa: N802
        graph._obj.value = len(self.graphs) + 100
        self.graphs[graph._obj.value], self.recording = self.recording or [], None
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> int:  # noqa: N802
        executable._obj.value = graph.value
        return 0

    def cuGraphDestroy(self, graph: Any) -> int:  # noqa: N802
        return 0

    def cuGraphLaunch(self, executable: Any, stream: Any) -> int:  # noqa: N802
        self.launches += 1
        self.queue.extend(self.graphs[executable.value])
        return 0

    def cuGraphExecDestroy(self, executable: Any) -> int:  # noqa: N802
        return 0 if self.graphs.pop(executable.value, None) is not None else _INVALID_VALUE

    def cuGetErrorString(self, status: Any, text: Any) -> int:  # noqa: N802
        text._obj.value = b"invalid argument"
        return 0


class _Logger:
    class Severity:
        INTERNAL_ERROR, ERROR, WARNING = range(3)


class FakeTensorRt:
    """The module `tensorrt`, as far as an engine uses it."""

    __name__ = "tensorrt"
    __version__ = "11.4.1"
    ILogger = _Logger

    class ExecutionContextAllocationStrategy:  # noqa: D106
        USER_MANAGED = "user managed"

    def __init__(
        self, driver: FakeDriver, *, capturable: bool = True, complaint: str = "", refuses_capture: bool = False
    ) -> None:
        self.driver, self.capturable, self.complaint = driver, capturable, complaint
        self.refuses_capture = refuses_capture

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        if self.complaint:
            logger.log(_Logger.Severity.ERROR, self.complaint)
            return None
        return _Runtime(self, logger)


class FakeTensorRtRtx(FakeTensorRt):
    """The module `tensorrt_rtx`: contexts are made by a configuration, and kernels compiled when a context is made."""

    __name__ = "tensorrt_rtx"
    __version__ = "1.7.1"

    class DynamicShapesKernelSpecializationStrategy:  # noqa: D106
        EAGER = "eager"

    def __init__(self, driver: FakeDriver) -> None:
        super().__init__(driver)
        self.compiled = 0


class _Runtime:
    def __init__(self, library: FakeTensorRt, logger: Any) -> None:
        self._library, self._logger = library, logger

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        try:
            return _Engine(self._library, onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"]))
        except Exception:
            self._logger.log(_Logger.Severity.ERROR, "Serialization assertion failed")
            return None


class _Engine:
    def __init__(self, library: FakeTensorRt, session: onnxruntime.InferenceSession) -> None:
        self.library, self.session = library, session
        self._ports = {port.name: port.shape for port in (*session.get_inputs(), *session.get_outputs())}
        self.num_io_tensors = len(self._ports)
        self.device_memory_size_v2 = 4096

    def get_tensor_name(self, index: int) -> str:
        return list(self._ports)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if isinstance(size, str) else size for size in self._ports[name])

    def create_execution_context(self, how: Any) -> Any:
        strategy = how.strategy if isinstance(how, _RuntimeConfig) else how
        assert strategy == FakeTensorRt.ExecutionContextAllocationStrategy.USER_MANAGED
        if isinstance(how, _RuntimeConfig) and how.cache is not None and "kernel" not in how.cache.content:
            self.library.compiled += 1
            how.cache.content += "kernel"
        return _Context(self)

    def create_runtime_config(self) -> Any:
        return _RuntimeConfig()


class _RuntimeConfig:
    """Of TensorRT for RTX."""

    strategy, cache = "static", None

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> Any:
        return _RuntimeCache()

    def set_runtime_cache(self, cache: Any) -> None:
        self.cache = cache


class _RuntimeCache:
    content = ""

    def deserialize(self, content: bytes) -> bool:
        if content.startswith(b"kernel"):  # of this version and GPU
            self.content = content.decode()
        return bool(self.content)

    def serialize(self) -> bytes:
        return self.content.encode()


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()
        self._activations = 0

    def set_device_memory(self, memory: int, size: int) -> None:
        assert len(self._engine.library.driver.memory[memory]) >= size == self._engine.device_memory_size_v2
        self._activations = memory

    def is_stream_capturable(self, stream: int) -> bool:
        return self._engine.library.capturable

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shape = shape
        return self._engine.get_tensor_shape(name)[0] in (-1, shape[0])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return address in self._engine.library.driver.memory

    def execute_async_v3(self, stream: int) -> bool:
        driver, shape = self._engine.library.driver, self._shape
        if self._activations not in driver.memory:
            return False
        if self._engine.library.refuses_capture and driver.recording is not None:
            return False  # and the recording stays valid

        def run() -> None:
            frames = driver.array_at(self._addresses["frame"], shape)
            answers = self._engine.session.run(["class_map", "confidence"], {"frame": frames})
            for name, answer in zip(("class_map", "confidence"), answers, strict=True):
                ctypes.memmove(self._addresses[name], answer.ctypes.data, answer.nbytes)

        driver.push(run)
        return True
