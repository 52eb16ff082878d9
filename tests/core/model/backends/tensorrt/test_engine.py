from __future__ import annotations

import json
import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from darkseg_ros.commands import build_plan as build_plan_command
from darkseg_ros.errors import BundleError, DeviceLostError, EngineError
from darkseg_ros.model.backends import open as backends
from darkseg_ros.model.backends import open_engine
from darkseg_ros.model.backends.tensorrt import cuda
from darkseg_ros.model.backends.tensorrt import engine as tensorrt
from darkseg_ros.model.backends.tensorrt import library as tensorrt_library
from darkseg_ros.model.backends.tensorrt.cuda import CudaDevice
from darkseg_ros.model.backends.tensorrt.engine import Gpu, TensorRtEngine, plan_key
from darkseg_ros.model.backends.tensorrt.plan_builder import PlanOrder
from darkseg_ros.model.backends.tensorrt.plan_cache import PlanCache, StoredPlan
from darkseg_ros.model.backends.tensorrt.plan_graph import graph_for_plan
from darkseg_ros.model.bundle import GoldenMatch, ModelBundle, load_bundle
from tests.bundles import write_tiny_bundle
from tests.core.model.backends.tensorrt.fake_gpu import FakeDriver, FakeTensorRt, FakeTensorRtRtx


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def plan_of(bundle: ModelBundle, gpu: Gpu, *, batch: int = 1) -> StoredPlan:
    """What the fake library takes for a plan: the graph itself."""
    content = graph_for_plan(bundle.fused_onnx.path, precision="fp32", batch=batch).SerializeToString()
    key = plan_key(bundle, gpu.library, gpu=gpu.device.name, capabilities=("SM86",), precision="fp32", batch=batch)
    return StoredPlan(key, content, built_now=True)


def use_fake_gpu(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver, **settings: Any) -> list[PlanOrder]:
    """Let the package find a fake GPU and library; returns the list that plan orders are added to."""
    orders = []

    def build_plan(order: PlanOrder, *, progress: Any) -> None:
        orders.append(order)
        precision = "int8" if order.precision == "int8" else "fp32"
        model = graph_for_plan(Path(order.onnx), precision=precision, batch=order.batch)
        Path(order.plan).write_bytes(model.SerializeToString())

    monkeypatch.setattr(tensorrt_library, "find_spec", lambda name: name == "tensorrt" or None)
    monkeypatch.setattr(backends, "find_spec", lambda name: True)
    monkeypatch.setattr(tensorrt, "load_driver", lambda: driver)
    monkeypatch.setattr(tensorrt, "import_library", lambda name: FakeTensorRt(driver, **settings))
    monkeypatch.setattr(tensorrt, "build_plan", build_plan)
    return orders


def test_a_plan_that_answers_what_no_softmax_can_gives_no_class_map(tiny: ModelBundle) -> None:
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver), CudaDevice(driver))
    plan = plan_of(tiny, gpu)
    model = onnx.load_from_string(plan.content)
    (bias,) = (weight for weight in model.graph.initializer if weight.name == "bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(19, np.nan, np.float32), "bias"))
    engine = TensorRtEngine(tiny, replace(plan, content=model.SerializeToString()), gpu)
    with pytest.raises(EngineError, match="a confidence of 0 is below 255 / 19"):
        engine(np.zeros((1, 64, 128, 3), np.uint8))
    engine.close()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_plan_is_judged_by_what_its_precision_gave_at_export(tiny: ModelBundle, precision: str) -> None:
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver), CudaDevice(driver))
    plan = plan_of(tiny, gpu)
    plan = replace(plan, key=replace(plan.key, precision=precision))
    half = GoldenMatch(agreement=0.97, confidence_difference=4)
    engine = TensorRtEngine(replace(tiny, fp16_match=half), plan, gpu)
    assert engine.golden_match == {"fp32": tiny.fused_match, "fp16": half, "int8": tiny.int8_match}[precision]
    engine.close()


@pytest.mark.parametrize("capturable", [True, False])
def test_frames_go_through_the_gpu_and_come_back_as_from_onnx_runtime(tiny: ModelBundle, capturable: bool) -> None:
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver, capturable=capturable), CudaDevice(driver))
    engine = TensorRtEngine(tiny, plan_of(tiny, gpu, batch=3), gpu)
    reference = open_engine(tiny, backend="onnxruntime")
    rng = np.random.default_rng(5)
    # each size of batch twice, so that recorded runs are launched too; 5 takes two goes
    for count in (1, 3, 1, 3, 2, 5, 2):
        frames = rng.integers(0, 255, (count, 64, 128, 3)).astype(np.uint8)
        answer, expected = engine(frames), reference(frames)
        np.testing.assert_array_equal(answer.class_map, expected.class_map)
        np.testing.assert_array_equal(answer.confidence, expected.confidence)
    assert (driver.launches > 0) == capturable
    engine.close()
    assert not driver.memory
    assert not driver.graphs
    assert driver.contexts == driver.streams == 0


def scenes(count: int, *, seed: int) -> np.ndarray:
    """Frames of coloured tiles, which the tiny network tells apart."""
    tiles = np.random.default_rng(seed).integers(0, 255, (count, 8, 16, 3))
    return np.kron(tiles, np.ones((1, 8, 8, 1))).astype(np.uint8)


def test_a_library_that_fails_while_it_is_recorded_runs_without_a_graph(tiny: ModelBundle) -> None:
    """The recording then holds the upload alone: launched, it would give the first frame's class map for ever."""
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver, refuses_capture=True), CudaDevice(driver))
    engine, reference = (
        TensorRtEngine(tiny, plan_of(tiny, gpu), gpu),
        open_engine(tiny, backend="onnxruntime"),
    )
    for seed in range(3):
        frames = scenes(1, seed=seed)
        np.testing.assert_array_equal(engine(frames).class_map, reference(frames).class_map)
    assert driver.launches == 0
    assert not driver.graphs


def test_a_recording_that_lacks_the_network_is_found_out(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver = FakeDriver()

    def only_copies(stream: Any, graph: Any) -> int:
        graph._obj.value = 100
        assert driver.recording is not None
        driver.graphs[100], driver.recording = [driver.recording[0], *driver.recording[2:]], None
        return 0

    monkeypatch.setattr(driver, "cuStreamEndCapture", only_copies, raising=False)
    gpu = Gpu(FakeTensorRt(driver), CudaDevice(driver))
    engine, reference = (
        TensorRtEngine(tiny, plan_of(tiny, gpu), gpu),
        open_engine(tiny, backend="onnxruntime"),
    )
    for seed in range(3):
        frames = scenes(1, seed=seed)
        np.testing.assert_array_equal(engine(frames).class_map, reference(frames).class_map)
    assert "gives other answers than the run it records" in caplog.text
    assert not driver.graphs


def test_a_recording_that_cannot_be_launched_is_not_used(tiny: ModelBundle) -> None:
    driver = FakeDriver()
    driver.failing["cuGraphLaunch"] = 801
    gpu = Gpu(FakeTensorRt(driver), CudaDevice(driver))
    engine, reference = (
        TensorRtEngine(tiny, plan_of(tiny, gpu), gpu),
        open_engine(tiny, backend="onnxruntime"),
    )
    for seed in range(2):
        frames = scenes(1, seed=seed)
        np.testing.assert_array_equal(engine(frames).class_map, reference(frames).class_map)
    assert not driver.graphs


def test_a_thread_that_did_not_open_the_engine_can_run_and_close_it(tiny: ModelBundle) -> None:
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver), CudaDevice(driver))
    engine = TensorRtEngine(tiny, plan_of(tiny, gpu), gpu)
    expected = engine(scenes(1, seed=0)).class_map
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(engine, scenes(1, seed=0)).result()
    np.testing.assert_array_equal(answer.class_map, expected)
    with ThreadPoolExecutor(1) as another:
        another.submit(engine.close).result()
    assert not driver.memory


def test_the_contexts_of_all_batches_share_one_buffer_of_activations(tiny: ModelBundle) -> None:
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver), CudaDevice(driver))
    engine = TensorRtEngine(tiny, plan_of(tiny, gpu, batch=3), gpu)
    before = len(driver.memory)
    for count in (1, 2, 3):
        engine(scenes(count, seed=count))
    assert len(driver.memory) == before


def test_what_tensorrt_for_rtx_compiles_is_kept_for_the_next_start(tiny: ModelBundle, tmp_path: Path) -> None:
    driver = FakeDriver()
    library = FakeTensorRtRtx(driver)
    gpu = Gpu(library, CudaDevice(driver))
    kernels = tmp_path / "plan.kernels"
    for expected in (1, 1):
        engine = TensorRtEngine(tiny, plan_of(tiny, gpu), gpu, kernels=kernels)
        engine(scenes(1, seed=0))
        engine.close()
        assert library.compiled == expected
    assert kernels.stat().st_mode & 0o777 == 0o600
    kernels.write_bytes(b"of another driver")
    engine = TensorRtEngine(tiny, plan_of(tiny, gpu), gpu, kernels=kernels)
    engine(scenes(1, seed=0))
    engine.close()
    assert library.compiled == 2
    assert kernels.read_bytes() == b"kernel"


@pytest.mark.parametrize("status", [226, 700, 702, 714, 719, 721, 810, 911])
def test_a_gpu_that_is_lost_to_this_process_is_told_apart(tiny: ModelBundle, status: int) -> None:
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver), CudaDevice(driver))
    engine = TensorRtEngine(tiny, plan_of(tiny, gpu), gpu)
    engine(scenes(1, seed=0))
    driver.lost = status
    with pytest.raises(DeviceLostError, match=f"error {status}.*start a new one"):
        engine(scenes(1, seed=1))
    engine.close()


def test_a_library_that_fails_since_the_gpu_is_lost_is_told_apart(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver, capturable=False), CudaDevice(driver))
    engine = TensorRtEngine(tiny, plan_of(tiny, gpu), gpu)
    engine(scenes(1, seed=0))
    monkeypatch.setattr(engine._runs[1]._context, "execute_async_v3", lambda stream: False)
    with pytest.raises(EngineError, match="TensorRT failed on 1 frames") as caught:
        engine(scenes(1, seed=1))
    assert not isinstance(caught.value, DeviceLostError)
    driver.failing["cuStreamQuery"] = 700
    with pytest.raises(DeviceLostError):
        engine(scenes(1, seed=1))


@pytest.mark.parametrize("failing", ["cuGraphExecDestroy", "cuMemFree_v2", "cuMemFreeHost", "cuStreamDestroy_v2"])
def test_a_release_that_fails_does_not_keep_the_others(tiny: ModelBundle, failing: str) -> None:
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver), CudaDevice(driver))
    engine = TensorRtEngine(tiny, plan_of(tiny, gpu), gpu)
    engine(scenes(1, seed=0))
    held = {"cuMemFree_v2": 4, "cuMemFreeHost": 3}.get(failing, 0)
    driver.failing[failing] = 1
    engine.close()
    assert driver.contexts == 0
    assert len(driver.memory) == held
    assert driver.streams == (failing == "cuStreamDestroy_v2")


def test_an_answer_stays_when_the_next_frame_is_run(tiny: ModelBundle) -> None:
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver), CudaDevice(driver))
    engine = TensorRtEngine(tiny, plan_of(tiny, gpu), gpu)
    blue = np.zeros((1, 64, 128, 3), np.uint8)
    blue[..., 0] = 255
    sky = engine(blue).class_map
    engine(np.zeros_like(blue))
    assert (sky == 10).all()


def test_closing_twice_or_after_a_failed_opening_frees_everything_once(tiny: ModelBundle) -> None:
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver), CudaDevice(driver))
    broken = StoredPlan(plan_of(tiny, gpu).key, b"no plan", built_now=True)
    with pytest.raises(EngineError, match=r"cannot make an engine of the plan .*Serialization assertion failed"):
        TensorRtEngine(tiny, broken, gpu)
    assert driver.contexts == driver.streams == 0
    engine = TensorRtEngine(tiny, plan_of(tiny, gpu), gpu)
    engine.close()
    engine.close()
    assert driver.contexts == driver.streams == 0


def test_frames_of_another_size_are_refused(tiny: ModelBundle) -> None:
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver), CudaDevice(driver))
    engine = TensorRtEngine(tiny, plan_of(tiny, gpu), gpu)
    with pytest.raises(EngineError, match=r"failed on frames of uint8 \(1, 32, 32, 3\)"):
        engine(np.zeros((1, 32, 32, 3), np.uint8))


def test_a_plan_with_other_ports_is_refused(tiny: ModelBundle) -> None:
    driver = FakeDriver()
    gpu = Gpu(FakeTensorRt(driver), CudaDevice(driver))
    model = onnx.load(str(tiny.fused_onnx.path))
    model.graph.output.pop()
    plan = StoredPlan(plan_of(tiny, gpu).key, model.SerializeToString(), built_now=True)
    with pytest.raises(EngineError, match=r"the plan has inputs and outputs .* expected .*confidence.*build it again"):
        TensorRtEngine(tiny, plan, gpu)


def test_a_failing_cuda_call_names_itself() -> None:
    device = CudaDevice(FakeDriver())
    device.open_stream()
    with pytest.raises(EngineError, match=r"cuMemFree_v2 failed with error 1, invalid argument"):
        device.free(12345)


def test_auto_takes_tensorrt_where_a_gpu_is_and_builds_once(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = use_fake_gpu(monkeypatch, FakeDriver())
    for _ in range(2):
        engine = open_engine(tiny)
        assert engine.name == "tensorrt 11.4.1 fp16 batch 1 NVIDIA Fake 1 (SM86)"
        engine.close()
    assert [(order.precision, order.batch, order.capabilities) for order in orders] == [("fp16", 1, ("SM86",))]


def test_a_plan_of_another_gpu_is_not_taken(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = use_fake_gpu(monkeypatch, FakeDriver())
    open_engine(tiny).close()
    for driver in (FakeDriver(name="NVIDIA Fake 2"), FakeDriver(capability=(8, 9))):
        monkeypatch.setattr(tensorrt, "load_driver", lambda driver=driver: driver)
        monkeypatch.setattr(tensorrt, "import_library", lambda name, driver=driver: FakeTensorRt(driver))
        open_engine(tiny).close()
    assert len(orders) == 3


def test_the_plan_that_build_plan_named_last_is_run(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_fake_gpu(monkeypatch, FakeDriver())
    for options, expected in (
        (["--precision", "fp32"], "fp32 batch 1"),
        (["--batch", "4"], "fp16 batch 4"),
        (["--precision", "int8"], "int8 batch 1"),
        (["--precision", "fp32"], "fp32 batch 1"),
    ):
        assert build_plan_command.main(["--bundle", str(tiny.directory), *options]) == 0
        agreement = "" if "int8" in options else " 100.00%"
        assert f"tested: agrees with the golden answer on{agreement}" in capsys.readouterr().out
        engine = open_engine(tiny, backend="tensorrt")
        assert f" {expected} " in engine.name
        engine.close()


def test_int8_plans_are_built_from_the_bundles_int8_graph(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    orders = use_fake_gpu(monkeypatch, FakeDriver())
    assert tiny.int8_onnx is not None
    assert build_plan_command.main(["--bundle", str(tiny.directory), "--precision", "int8"]) == 0
    assert [Path(order.onnx).name for order in orders] == ["int8.onnx"]
    (key,) = PlanCache().newest_keys()
    assert key.onnx_sha256 == tiny.int8_onnx.sha256
    assert key.precision == "int8"


def test_a_bundle_without_an_int8_graph_is_told_how_to_get_one_and_runs_no_int8_plan(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders = use_fake_gpu(monkeypatch, FakeDriver())
    assert build_plan_command.main(["--bundle", str(tiny.directory), "--precision", "int8"]) == 0
    folder = shutil.copytree(tiny.directory, tmp_path / "old")
    manifest = json.loads((folder / "model.json").read_text())
    del manifest["files"]["int8_onnx"]
    (folder / "model.json").write_text(json.dumps(manifest))
    capsys.readouterr()
    assert build_plan_command.main(["--bundle", str(folder), "--precision", "int8"]) == 1
    error = capsys.readouterr().err
    assert "holds no int8 graph for TensorRT" in error
    assert "export the model again" in error
    assert "--precision fp16" in error
    open_engine(load_bundle(folder), backend="tensorrt").close()
    assert orders[-1].precision == "fp16"


def test_a_plan_that_fails_the_golden_frame_is_dropped(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver()
    use_fake_gpu(monkeypatch, driver)

    def build_blind(order: PlanOrder, *, progress: Any) -> None:
        model = onnx.load(order.onnx)
        bias = next(weight for weight in model.graph.initializer if weight.name == "bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(np.arange(19, dtype=np.float32) * 99, "bias"))
        Path(order.plan).write_bytes(model.SerializeToString())

    monkeypatch.setattr(tensorrt, "build_plan", build_blind)
    with pytest.raises(BundleError, match="agrees with the golden answer on"):
        open_engine(tiny)
    assert not PlanCache().newest_keys()
    assert not driver.memory


def test_a_plan_with_another_confidence_fails_the_golden_frame(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_gpu(monkeypatch, FakeDriver())

    class Unsure(TensorRtEngine):
        def answers(self, count: int) -> tuple[np.ndarray, np.ndarray]:
            class_map, confidence = super().answers(count)
            return class_map, confidence // 2

    monkeypatch.setattr(tensorrt, "TensorRtEngine", Unsure)
    with pytest.raises(BundleError, match=r"its confidence is .* of 255 off"):
        open_engine(tiny)


def test_the_golden_frame_is_asked_in_every_size_of_batch(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_gpu(monkeypatch, FakeDriver())
    assert build_plan_command.main(["--bundle", str(tiny.directory), "--batch", "3"]) == 0

    class WrongInThrees(TensorRtEngine):
        def answers(self, count: int) -> tuple[np.ndarray, np.ndarray]:
            class_map, confidence = super().answers(count)
            if count == 3:
                class_map[2] = 0
            return class_map, confidence

    monkeypatch.setattr(tensorrt, "TensorRtEngine", WrongInThrees)
    with pytest.raises(BundleError, match="asked for 3 frames"):
        open_engine(tiny)


def test_auto_takes_the_cpu_where_a_plan_cannot_be_built_and_says_so(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_fake_gpu(monkeypatch, FakeDriver())

    def refuse(order: PlanOrder, *, progress: Any) -> None:
        raise EngineError("the plan builder was killed by signal 9")

    monkeypatch.setattr(tensorrt, "build_plan", refuse)
    assert open_engine(tiny).name.startswith("openvino ")
    assert "auto does not take TensorRT: the plan builder was killed" in caplog.text
    with pytest.raises(EngineError, match="killed by signal 9"):
        open_engine(tiny, backend="tensorrt")


def store_plan_of_another_driver(bundle: ModelBundle) -> None:
    """What the fake library does not load, though the cache's hash of it is right."""
    gpu = Gpu.find()
    key = plan_key(bundle, gpu.library, gpu=gpu.device.name, capabilities=("SM86",), precision="fp16", batch=1)
    PlanCache().plan(key, lambda path: path.write_bytes(b"of another driver") and None, progress=print)


def test_an_intact_plan_that_does_not_load_is_built_again(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = FakeDriver()
    orders = use_fake_gpu(monkeypatch, driver)
    store_plan_of_another_driver(tiny)
    open_engine(tiny).close()
    assert len(orders) == 1
    PlanCache().discard(PlanCache().newest_keys()[0])
    store_plan_of_another_driver(tiny)
    for rebuilt in (True, False):
        capsys.readouterr()
        assert build_plan_command.main(["--bundle", str(tiny.directory)]) == 0
        shown = capsys.readouterr().out
        assert ("the plan from the cache does not load, it is built again: " in shown) == rebuilt
        assert "tested: agrees with the golden answer on 100.00%" in shown
        assert len(orders) == 2
    assert driver.contexts == driver.streams == 0


@pytest.mark.parametrize("complaint", ["CUDA driver version is insufficient", "CUDA error 46: all devices are busy"])
def test_a_plan_outlives_a_driver_that_fails(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, complaint: str
) -> None:
    use_fake_gpu(monkeypatch, FakeDriver())
    open_engine(tiny).close()
    (key,) = PlanCache().newest_keys()
    orders = use_fake_gpu(monkeypatch, FakeDriver(), complaint=complaint)
    with pytest.raises(EngineError, match=r"driver is older than|all devices are busy"):
        open_engine(tiny, backend="tensorrt")
    assert orders == []
    assert PlanCache().newest_keys() == [key]


def test_an_engine_opens_and_runs_in_a_thread_of_its_own(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_gpu(monkeypatch, FakeDriver())
    answers = []

    def serve() -> None:
        engine = open_engine(tiny)
        answers.append(engine(np.zeros((1, 64, 128, 3), np.uint8)))
        engine.close()

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(60)
    assert (answers[0].class_map == 0).all()


def test_a_driver_older_than_the_library_is_named(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    complaint = "CUDA initialization failure with error: 35 (cudaError 35: CUDA driver version is insufficient ...)"
    use_fake_gpu(monkeypatch, FakeDriver(), complaint=complaint)
    with pytest.raises(EngineError, match=r"older than tensorrt 11\.4\.1 needs: it runs CUDA up to 13\.2; update"):
        open_engine(tiny, backend="tensorrt")


def test_a_missing_library_is_named_with_its_cure(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_library, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"TensorRT is not installed; run `pip install tensorrt`"):
        open_engine(tiny, backend="tensorrt")


def test_a_missing_driver_is_named_with_its_cure(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_library, "find_spec", lambda name: True)
    monkeypatch.setattr(cuda, "_LIBRARY", "libcuda-missing.so.1")
    with pytest.raises(EngineError, match=r"no NVIDIA driver .*install the driver.*or choose backend"):
        open_engine(tiny, backend="tensorrt")


def test_a_machine_whose_driver_shows_no_gpu_is_told_so() -> None:
    with pytest.raises(EngineError, match="the driver shows none: check nvidia-smi"):
        CudaDevice(FakeDriver(gpus=0))


def test_auto_stays_on_the_cpu_without_a_gpu_and_says_why(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_fake_gpu(monkeypatch, FakeDriver(gpus=0))
    with caplog.at_level(logging.INFO):
        assert open_engine(tiny).name.startswith("openvino ")
    assert "auto does not take TensorRT: CUDA needs an NVIDIA GPU" in caplog.text


def test_an_unsupported_gpu_is_named_with_what_is_supported() -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    with pytest.raises(EngineError, match=r"does not support GPUs of SM90, it supports SM75, .*install the full"):
        tensorrt_library.check_supported("tensorrt_rtx", rtx, "SM90")
    tensorrt_library.check_supported("tensorrt_rtx", rtx, "SM86")


def test_the_real_library_refuses_a_plan_in_one_line(tiny: ModelBundle) -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    log = tensorrt_library.LibraryLog(rtx)
    runtime = log.created(lambda: rtx.Runtime(log.logger), "its runtime")
    with pytest.raises(EngineError) as caught:
        log.created(lambda: runtime.deserialize_cuda_engine(b"no plan" * 99), "an engine")
    assert "\n" not in str(caught.value)


def test_a_real_gpu_answers_as_onnx_runtime(tiny: ModelBundle) -> None:
    try:
        Gpu.find()
    except EngineError as error:
        pytest.skip(f"runs on a GPU only: {error}")
    engine, reference = open_engine(tiny, backend="tensorrt"), open_engine(tiny, backend="onnxruntime")
    rng = np.random.default_rng(6)
    for count in (1, 1, 3):
        frames = rng.integers(0, 255, (count, 64, 128, 3)).astype(np.uint8)
        answer, expected = engine(frames), reference(frames)
        assert (answer.class_map == expected.class_map).mean() > 0.99
        assert np.abs(answer.confidence.astype(int) - expected.confidence).max() <= 4
    engine.close()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--batch", "0"], "expected 1…64, got '0'"),
        (["--for", "turing"], "expected names such as SM86,SM89"),
        (["--precision", "fp8"], "invalid choice"),
    ],
)
def test_a_wrong_command_line_ends_with_status_2(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        build_plan_command.main(options)
    assert complaint in capsys.readouterr().err


def test_the_command_without_a_gpu_points_to_for(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_fake_gpu(monkeypatch, FakeDriver(gpus=0))
    assert build_plan_command.main(["--bundle", str(tiny.directory)]) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "build with --for, such as --for SM86" in errors
