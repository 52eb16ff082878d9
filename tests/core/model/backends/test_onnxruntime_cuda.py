from __future__ import annotations

import logging

import numpy as np
import pytest

from darkseg_ros.errors import BundleError, DeviceLostError, EngineError
from darkseg_ros.model.backends import onnxruntime_cuda, onnxruntime_graph, open_engine
from darkseg_ros.model.backends import open as backends
from darkseg_ros.model.backends.tensorrt import library as tensorrt_library
from darkseg_ros.model.bundle import ModelBundle, load_bundle
from tests.bundles import write_tiny_bundle
from tests.core.model.backends.fake_onnxruntime import FakeOnnxRuntimeGpu
from tests.core.model.backends.tensorrt.fake_gpu import FakeDriver

ON_GPU = "onnxruntime 1.31.1 float CUDA NVIDIA Fake 1"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(autouse=True)
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (backends, tensorrt_library):
        monkeypatch.setattr(module, "find_spec", lambda name: name == "openvino" or None)  # no TensorRT
    monkeypatch.setattr(onnxruntime_graph, "try_once", lambda trial: None)


def use_gpu(monkeypatch: pytest.MonkeyPatch, library: FakeOnnxRuntimeGpu, *, gpus: int = 1) -> FakeOnnxRuntimeGpu:
    monkeypatch.setattr(onnxruntime_cuda, "load_driver", lambda: FakeDriver(gpus=gpus))
    for module in (onnxruntime_graph, onnxruntime_cuda):
        monkeypatch.setattr(module, "import_onnxruntime", lambda: library)
    return library


def scenes(count: int) -> np.ndarray:
    tiles = np.random.default_rng(count).integers(0, 255, (count, 8, 16, 3))
    return np.kron(tiles, np.ones((1, 8, 8, 1))).astype(np.uint8)


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_serves_wherever_the_user_lets_it(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, backend: str, device: str
) -> None:
    library = use_gpu(monkeypatch, FakeOnnxRuntimeGpu())
    engine = open_engine(tiny, backend=backend, device=device)
    assert engine.name == ON_GPU
    assert library.preloaded
    assert library.settings["use_tf32"] == "0"
    frames = scenes(3)
    expected = open_engine(tiny, backend="onnxruntime", device="cpu")(frames)
    answer = engine(frames)
    np.testing.assert_array_equal(answer.class_map, expected.class_map)
    np.testing.assert_array_equal(answer.confidence, expected.confidence)
    engine.close()


def test_only_uint8_crosses_and_an_answer_stays_when_the_next_frame_is_run(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = use_gpu(monkeypatch, FakeOnnxRuntimeGpu())
    engine = open_engine(tiny, backend="onnxruntime")
    library.copied.clear()
    first = engine(scenes(1))
    kept = first.class_map.copy()
    engine(scenes(2)[::-1])
    np.testing.assert_array_equal(first.class_map, kept)
    assert len(library.copied) == 9
    assert {array.dtype for array in library.copied} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_the_cpu_is_taken_where_it_is_asked_for(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    use_gpu(monkeypatch, FakeOnnxRuntimeGpu())
    assert "CPU" in open_engine(tiny, backend=backend, device="cpu").name


@pytest.mark.parametrize(
    ("library", "gpus", "installed", "cure"),
    [
        (
            FakeOnnxRuntimeGpu(has_provider=False),
            1,
            False,
            r"run `pip uninstall onnxruntime`, then .*-gpu\[",
        ),
        (
            FakeOnnxRuntimeGpu(has_provider=False),
            1,
            True,
            "lies in the same folder; run `pip uninstall",
        ),
        (FakeOnnxRuntimeGpu(starts=False), 1, True, r"CUDA or cuDNN .* is missing .*onnxruntime-gpu\[cuda,cudnn\]"),
        (FakeOnnxRuntimeGpu(), 0, True, "the driver shows none: check nvidia-smi"),
    ],
)
def test_what_keeps_the_gpu_from_use_is_told_with_its_cure_and_auto_takes_the_cpu(
    tiny: ModelBundle,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    library: FakeOnnxRuntimeGpu,
    gpus: int,
    installed: bool,
    cure: str,
) -> None:
    use_gpu(monkeypatch, library, gpus=gpus)
    monkeypatch.setattr(onnxruntime_cuda, "_is_installed", lambda package: installed)
    with pytest.raises(EngineError, match=cure):
        open_engine(tiny, backend="onnxruntime", device="cuda")
    with pytest.raises(EngineError, match=f"no library can use a GPU: TensorRT .*{cure}"):
        open_engine(tiny, device="cuda")
    with caplog.at_level(logging.INFO):
        assert open_engine(tiny, backend="onnxruntime").name == "onnxruntime 1.31.1 float CPU"
    (record,) = (each for each in caplog.records if "auto does not take ONNX Runtime with CUDA" in each.message)
    assert record.levelname == ("INFO" if library.starts else "WARNING")
    assert open_engine(tiny).name.startswith("openvino ")


def test_a_machine_without_a_driver_is_not_told_of_gpus(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_driver() -> None:
        raise EngineError("there is no driver")

    monkeypatch.setattr(onnxruntime_cuda, "load_driver", no_driver)
    with caplog.at_level(logging.INFO):
        assert open_engine(tiny).name.startswith("openvino ")
    assert "auto does not take" not in caplog.text
    with pytest.raises(EngineError, match="there is no driver"):
        open_engine(tiny, backend="onnxruntime", device="cuda")


def test_a_gpu_that_answers_otherwise_fails_the_golden_frame(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_gpu(monkeypatch, FakeOnnxRuntimeGpu()).wrong_classes = 1
    with pytest.raises(BundleError, match=f"{ON_GPU}, asked for 1 frames, agrees with the golden answer on 0.0%"):
        open_engine(tiny, backend="onnxruntime")


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", DeviceLostError),
        ("CUDA failure 2: out of memory ; GPU=0", EngineError),
    ],
)
def test_a_failure_that_only_a_new_process_mends_is_told_apart(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, failure: str, error: type[Exception]
) -> None:
    library = use_gpu(monkeypatch, FakeOnnxRuntimeGpu())
    engine = open_engine(tiny, backend="onnxruntime")
    library.failure = failure
    with pytest.raises(EngineError, match=r"failed on a frame of \(1, 64, 128, 3\) with CUDA") as raised:
        engine(scenes(1))
    assert type(raised.value) is error
    library.failure = ""
    engine(scenes(1))


def test_frames_of_another_size_never_reach_the_gpu(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    library = use_gpu(monkeypatch, FakeOnnxRuntimeGpu())
    engine = open_engine(tiny, backend="onnxruntime")
    library.copied.clear()
    with pytest.raises(EngineError, match=r"failed on a frame of uint8 \(1, 8, 8, 3\); expected \(1, 64, 128, 3\)"):
        engine(np.zeros((1, 8, 8, 3), np.uint8))
    assert not library.copied


@pytest.mark.parametrize(
    ("backend", "device", "message"),
    [
        ("openvino", "cuda", "openvino runs on the CPU only; choose backend tensorrt or onnxruntime"),
        ("tensorrt", "cpu", "tensorrt runs on a GPU only; choose backend openvino or onnxruntime"),
        ("auto", "gpu", "there is no device 'gpu'; choose one of auto, cpu, cuda"),
    ],
)
def test_a_backend_and_a_device_that_do_not_go_together_are_refused(
    tiny: ModelBundle, backend: str, device: str, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        open_engine(tiny, backend=backend, device=device)
