"""ONNX Runtime with its CUDA provider: no plan to build, and cards that TensorRT for RTX refuses.

Source: ONNX Runtime, "CUDA Execution Provider" and "I/O Binding".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.errors import DeviceLostError, EngineError, one_line
from darkseg_ros.model.backends.onnxruntime_graph import import_onnxruntime, new_session
from darkseg_ros.model.backends.tensorrt.cuda import LOST, CudaDevice, load_driver

PROVIDER = "CUDAExecutionProvider"

_SETTINGS = {"device_id": "0", "use_tf32": "0"}  # float means float: TF32 has ten binary places
_FAILURE = re.compile(r"CUDA failure (\d+)")
_OTHER_DEVICE = "or choose device cpu"


def has_driver() -> bool:
    """Whether this machine has an NVIDIA driver."""
    try:
        load_driver()
    except EngineError:
        return False
    return True


def find_gpu() -> str:
    """The first visible GPU's name, where the installed ONNX Runtime can use it.

    Raises:
        EngineError: if there is no GPU or driver; if ONNX Runtime is not installed, or is the one for the CPU.
    """
    gpu = CudaDevice(load_driver()).name
    onnxruntime = import_onnxruntime()
    if PROVIDER in onnxruntime.get_available_providers():
        return gpu
    if _is_installed("onnxruntime-gpu"):
        raise EngineError(
            f"onnxruntime {onnxruntime.__version__} has no CUDA provider though onnxruntime-gpu is installed: the "
            "package onnxruntime lies in the same folder; run `pip uninstall onnxruntime onnxruntime-gpu`, then "
            "`pip install onnxruntime-gpu[cuda,cudnn]`"
        )
    raise EngineError(
        f"onnxruntime {onnxruntime.__version__} has no CUDA provider; run `pip uninstall onnxruntime`, then "
        f"`pip install onnxruntime-gpu[cuda,cudnn]`, which takes its place, {_OTHER_DEVICE}"
    )


class OnnxRuntimeCudaGraph:
    """A graph with one uint8 input, ``frame``, and uint8 outputs on the first visible GPU. Not thread-safe.

    Frame and answers lie at fixed places on the GPU, and nothing else is copied between it and the CPU.

    Args:
        path: the ONNX file.
        outputs: the names that its outputs must have, in this order.

    Attributes:
        library: its name and version.

    Raises:
        EngineError: if ONNX Runtime cannot start its CUDA provider, or cannot load the graph, or the graph has other
            ports.
    """

    def __init__(self, path: Path, *, outputs: Sequence[str]) -> None:
        onnxruntime = import_onnxruntime()
        if hasattr(onnxruntime, "preload_dlls"):  # from 1.21 on; CUDA and cuDNN as pip installs them
            onnxruntime.preload_dlls()
        session = new_session(path, outputs=outputs, providers=[(PROVIDER, _SETTINGS)])
        if PROVIDER not in session.get_providers():  # the library goes on without one that does not start
            raise EngineError(
                f"onnxruntime {onnxruntime.__version__} cannot start its CUDA provider, since CUDA or cuDNN of the "
                "version that it needs is missing (its log says which); run "
                f"`pip install onnxruntime-gpu[cuda,cudnn]`, {_OTHER_DEVICE}"
            )
        self.library = f"onnxruntime {onnxruntime.__version__}"
        self._session: Any = session
        try:
            self._binding: Any = session.io_binding()
            self._frame, *self._answers = (
                onnxruntime.OrtValue.ortvalue_from_shape_and_type(port.shape, np.uint8, "cuda", 0)
                for port in (*session.get_inputs(), *session.get_outputs())
            )
            self._binding.bind_ortvalue_input("frame", self._frame)
            for name, answer in zip(outputs, self._answers, strict=True):
                self._binding.bind_ortvalue_output(name, answer)
        except Exception as error:  # the library's exceptions share no base class
            raise _failure(f"cannot prepare {path} for the GPU", error) from error
        self._shape = tuple(session.get_inputs()[0].shape)

    def __call__(self, frame: np.ndarray) -> list[np.ndarray]:
        """Run on one frame, (1, H, W, 3) uint8 BGR; gives the outputs in arrays of their own.

        Raises:
            DeviceLostError: if this process cannot use the GPU any more.
            EngineError: if the library fails otherwise; the graph stays usable.
        """
        if frame.shape != self._shape or frame.dtype != np.uint8:  # the copy to the GPU would not check
            raise EngineError(f"ONNX Runtime failed on a frame of {frame.dtype} {frame.shape}; expected {self._shape}")
        try:
            self._frame.update_inplace(np.ascontiguousarray(frame))
            self._session.run_with_iobinding(self._binding)
            return [np.array(answer.numpy()) for answer in self._answers]
        except Exception as error:  # as above
            raise _failure(f"failed on a frame of {frame.shape}", error) from error


def _failure(what: str, error: Exception) -> EngineError:
    text = f"ONNX Runtime {what} with CUDA: {one_line(error)}"
    if any(int(status) in LOST for status in _FAILURE.findall(str(error))):
        return DeviceLostError(f"{text}: this process cannot use the GPU any more, start a new one; check dmesg")
    return EngineError(text)


def _is_installed(package: str) -> bool:
    with suppress(PackageNotFoundError):
        return bool(version(package))
    return False
