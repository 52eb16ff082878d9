"""The package onnxruntime-gpu for tests: its CUDA provider runs on the CPU, and what is copied to and fro is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

from darkseg_ros.model.backends.onnxruntime_cuda import PROVIDER

_CPU = "CPUExecutionProvider"


class FakeOnnxRuntimeGpu:
    """The module, as far as a graph on a GPU uses it.

    Args:
        has_provider: whether it was built with CUDA.
        starts: whether the provider finds CUDA and cuDNN; the real one goes on with the CPU where it does not.
    """

    __version__ = "1.31.1"
    SessionOptions = onnxruntime.SessionOptions

    def __init__(self, *, has_provider: bool = True, starts: bool = True) -> None:
        self.has_provider, self.starts = has_provider, starts
        self.copied: list[np.ndarray] = []
        self.settings: dict[str, str] = {}
        self.failure = ""
        self.wrong_classes = 0
        self.preloaded = False
        fake = self

        class OrtValue:
            def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
                self.memory = np.zeros(shape, dtype)

            @classmethod
            def ortvalue_from_shape_and_type(cls, shape: Any, dtype: Any, device: str, index: int) -> Any:
                assert (device, index) == ("cuda", 0)
                return cls(shape, dtype)

            def update_inplace(self, data: np.ndarray) -> None:
                assert data.flags.c_contiguous
                fake.copied.append(data)
                self.memory[:] = data

            def numpy(self) -> np.ndarray:
                fake.copied.append(self.memory)
                return self.memory

        self.OrtValue = OrtValue

    def get_available_providers(self) -> list[str]:
        return [*([PROVIDER] if self.has_provider else []), _CPU]

    def preload_dlls(self) -> None:
        self.preloaded = True

    def InferenceSession(self, path: str, options: Any, providers: list[Any]) -> Any:  # noqa: N802, the library's name
        if providers == [_CPU]:
            return onnxruntime.InferenceSession(path, options, providers=providers)
        ((name, self.settings),) = providers
        assert name == PROVIDER
        return _Session(self, onnxruntime.InferenceSession(path, options, providers=[_CPU]))


class _Session:
    def __init__(self, fake: FakeOnnxRuntimeGpu, session: onnxruntime.InferenceSession) -> None:
        self._fake, self._session = fake, session
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs

    def get_providers(self) -> list[str]:
        return [*([PROVIDER] if self._fake.starts else []), _CPU]

    def io_binding(self) -> Any:
        return _Binding()

    def run_with_iobinding(self, binding: Any) -> None:
        if self._fake.failure:
            raise RuntimeError(self._fake.failure)
        answers = self._session.run(list(binding.outputs), {name: each.memory for name, each in binding.inputs.items()})
        for value, answer in zip(binding.outputs.values(), answers, strict=True):
            value.memory[:] = answer
        binding.outputs["class_map"].memory[:] += np.uint8(self._fake.wrong_classes)


class _Binding:
    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self.inputs[name] = value

    def bind_ortvalue_output(self, name: str, value: Any) -> None:
        self.outputs[name] = value
