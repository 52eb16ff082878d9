"""The few calls of NVIDIA's driver that an engine needs, through ctypes.

The driver's library has the same name and ABI on every machine with a GPU and needs no Python package; the CUDA runtime
library would have to be found in the right version. TensorRT takes the driver's streams and addresses as its own.

Source: CUDA Driver API, https://docs.nvidia.com/cuda/cuda-driver-api; suffixes such as ``_v2`` are its ABI names.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from darkseg_ros.errors import DeviceLostError, EngineError

_LIBRARY = "libcuda.so.1"
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_STREAM_NON_BLOCKING = 1
_CAPTURE_THREAD_LOCAL = 1  # other threads may call CUDA meanwhile
_NAME_BYTES = 256
_NOT_READY = 600  # work is queued: no failure

LOST = frozenset({226, 700, 702, *range(714, 720), 721, 810, 911})
"""Errors after which every call in this process fails: the driver says of each that the process must be ended.

Source: CUDA Driver API, CUresult ("This leaves the process in an inconsistent state and any further CUDA work will
return the same error. To continue using CUDA, the process must be terminated and relaunched.").
"""

_NO_GPU_CURE = (
    "check nvidia-smi and CUDA_VISIBLE_DEVICES, start a container with its GPU, "
    "or choose backend openvino or onnxruntime"
)


def load_driver() -> Any:
    """The driver's library.

    Raises:
        EngineError: if there is none: no NVIDIA driver is installed.
    """
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise EngineError(
            f"CUDA needs an NVIDIA GPU, this machine has no NVIDIA driver ({_LIBRARY} does not load): "
            "install the driver, in a container start it with its GPU, or choose backend openvino or onnxruntime"
        ) from error


class CudaDevice:
    """The first visible GPU (CUDA_VISIBLE_DEVICES chooses) and one stream on it.

    Attributes:
        name: such as "NVIDIA GeForce RTX 3070".
        capability: such as "SM86".
        driver_cuda: newest CUDA that the driver runs, such as "13.0".

    Raises:
        EngineError: if the driver finds no GPU, or fails.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        _, failure = self._failure("cuInit", ctypes.c_uint(0))
        if failure:  # where CUDA_VISIBLE_DEVICES or the container hides every GPU, it ends here
            raise EngineError(f"CUDA needs an NVIDIA GPU, the driver offers none ({failure}): {_NO_GPU_CURE}")
        version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(version))
        self.driver_cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if not count.value:
            raise EngineError(f"CUDA needs an NVIDIA GPU, the driver shows none: {_NO_GPU_CURE}")
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        self._device = device
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self._call("cuDeviceGetName", name, ctypes.c_int(_NAME_BYTES), device)
        self.name = name.value.decode("utf-8", "replace")
        major, minor = ctypes.c_int(), ctypes.c_int()
        for value, attribute in ((major, _CAPABILITY_MAJOR), (minor, _CAPABILITY_MINOR)):
            self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), device)
        self.capability = f"SM{major.value}{minor.value}"
        # the primary context is the one that the CUDA runtime inside TensorRT uses
        self._context = ctypes.c_void_p()
        self._stream = ctypes.c_void_p()
        self._released = True

    def open_stream(self) -> None:
        """Take the GPU's context and make the stream; `release` gives both back."""
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self._released = False
        self.enter_thread()
        self._call("cuStreamCreate", ctypes.byref(self._stream), ctypes.c_uint(_STREAM_NON_BLOCKING))

    @property
    def stream(self) -> int:
        """Handle of the stream, as TensorRT takes it."""
        return int(self._stream.value or 0)

    def enter_thread(self) -> None:
        """Make the GPU's context the calling thread's; needed once in each thread that uses the device."""
        self._call("cuCtxSetCurrent", self._context)

    def pinned_array(self, shape: tuple[int, ...]) -> np.ndarray:
        """uint8 memory that the GPU copies from and to without the CPU; lives until `free_pinned`."""
        address = ctypes.c_void_p()
        size = int(np.prod(shape))
        self._call("cuMemAllocHost_v2", ctypes.byref(address), ctypes.c_size_t(size))
        assert address.value is not None
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address.value)).reshape(shape)

    def free_pinned(self, array: np.ndarray) -> None:
        """Release what `pinned_array` gave; the array must not be touched afterwards."""
        self._call("cuMemFreeHost", ctypes.c_void_p(array.ctypes.data))

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the GPU."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def free(self, address: int) -> None:
        """Release what `allocate` gave."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def queue_upload(self, address: int, host: np.ndarray) -> None:
        """Queue a copy of a contiguous pinned array to the GPU."""
        self._call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(address),
            ctypes.c_void_p(host.ctypes.data),
            ctypes.c_size_t(host.nbytes),
            self._stream,
        )

    def queue_download(self, host: np.ndarray, address: int) -> None:
        """Queue a copy from the GPU to a contiguous pinned array."""
        self._call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(host.ctypes.data),
            ctypes.c_uint64(address),
            ctypes.c_size_t(host.nbytes),
            self._stream,
        )

    def wait(self) -> None:
        """Block until all that was queued is done."""
        self._call("cuStreamSynchronize", self._stream)

    def raise_if_lost(self) -> None:
        """Ask whether this process can still use the GPU; not while something is recorded.

        Raises:
            DeviceLostError: if it cannot.
        """
        self._call("cuStreamQuery", self._stream, fine=(0, _NOT_READY))

    def begin_capture(self) -> None:
        """From here on what is queued is recorded, not run."""
        self._call("cuStreamBeginCapture_v2", self._stream, ctypes.c_int(_CAPTURE_THREAD_LOCAL))

    def end_capture(self) -> int:
        """Handle of what was recorded, ready for `launch`."""
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            self._call("cuGraphDestroy", graph)
        assert executable.value is not None
        return executable.value

    def launch(self, executable: int) -> None:
        """Queue a recorded graph."""
        self._call("cuGraphLaunch", ctypes.c_void_p(executable), self._stream)

    def free_graph(self, executable: int) -> None:
        """Release what `end_capture` gave."""
        self._call("cuGraphExecDestroy", ctypes.c_void_p(executable))

    def release(self) -> None:
        """Give stream and context back; nothing else of this object can be used until the next `open_stream`."""
        if self._released:
            return
        self._released = True
        stream, self._stream = self._stream, ctypes.c_void_p()  # a plan that does not load is followed by another one
        try:
            if stream.value:
                self._call("cuStreamDestroy_v2", stream)
        finally:
            self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _call(self, function: str, *arguments: Any, fine: tuple[int, ...] = (0,)) -> None:
        status, failure = self._failure(function, *arguments)
        if status in LOST:
            raise DeviceLostError(
                f"CUDA's {failure}: this process cannot use the GPU any more, start a new one; check dmesg"
            )
        if status not in fine:
            raise EngineError(f"CUDA's {failure}: check nvidia-smi and dmesg")

    def _failure(self, function: str, *arguments: Any) -> tuple[int, str]:
        """Call the driver: its status, and what that says; 0 and an empty text where it went well."""
        call = getattr(self._driver, function, None)
        if call is None:
            raise EngineError(
                f"the NVIDIA driver has no {function}, so it is older than CUDA 11.4; update the driver, "
                "or choose backend openvino or onnxruntime"
            )
        status: int = call(*arguments)
        if not status:
            return 0, ""
        text = ctypes.c_char_p()
        self._driver.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text))
        reason = (text.value or b"unknown error").decode("utf-8", "replace")
        return status, f"{function} failed with error {status}, {reason}"
