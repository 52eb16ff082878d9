from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest

from darkseg_ros.errors import EngineError
from darkseg_ros.model.backends import open_engine
from darkseg_ros.model.backends import openvino as openvino_engine
from darkseg_ros.model.backends.cpu_settings import SettingsKey
from darkseg_ros.model.backends.fake import FakeEngine
from darkseg_ros.model.backends.finish.kernel import FinishKernel
from darkseg_ros.model.backends.finish.logits_finish import fastest_finish
from darkseg_ros.model.backends.onnxruntime import OnnxRuntimeEngine
from darkseg_ros.model.backends.openvino import OpenVinoEngine
from darkseg_ros.model.backends.protocol import check_confidence
from darkseg_ros.model.bundle import ModelBundle, load_bundle
from tests.bundles import write_tiny_bundle

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_graph_sees_the_colours_it_was_made_for(tiny: ModelBundle, backend: str) -> None:
    frames = np.zeros((1, 64, 128, 3), np.uint8)
    frames[0, :32, :, 0] = 255  # blue above: sky
    frames[0, 32:, 64:, 2] = 255  # red below right: car
    class_map = open_engine(tiny, backend=backend)(frames).class_map[0]
    assert (class_map[:30] == 10).all()
    assert (class_map[34:, :62] == 0).all()
    assert (class_map[34:, 66:] == 13).all()


def test_openvino_and_onnx_runtime_agree(tiny: ModelBundle) -> None:
    frames = np.random.default_rng(3).integers(0, 255, (2, 64, 128, 3)).astype(np.uint8)
    first, second = (open_engine(tiny, backend=backend, threads=1)(frames) for backend in ("openvino", "onnxruntime"))
    assert first.class_map.shape == (2, 64, 128)
    assert (first.class_map == second.class_map).mean() > 0.999
    assert np.abs(first.confidence.astype(int) - second.confidence).max() <= 1


def test_auto_says_what_it_chose(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # test_tensorrt.py has the machines with a GPU
    assert open_engine(tiny).name.startswith("openvino ")


def test_an_unknown_backend_names_the_known_ones(tiny: ModelBundle) -> None:
    with pytest.raises(EngineError, match=r"no backend 'cuda'.*auto, tensorrt, openvino, onnxruntime"):
        open_engine(tiny, backend="cuda")


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_frames_of_another_size_are_an_engine_error(tiny: ModelBundle, backend: str) -> None:
    engine = open_engine(tiny, backend=backend)
    with pytest.raises(EngineError, match=r"failed on"):
        engine(np.zeros((1, 32, 32, 3), np.uint8))


def test_the_fake_engine_answers_from_the_pixels() -> None:
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    frames[0, 0, 0] = (20, 77, 3)
    output = FakeEngine()(frames)
    assert output.class_map[0].tolist() == [[1, 0], [0, 0]]  # 20 mod 19
    assert output.confidence[0].tolist() == [[77, 0], [0, 0]]


def test_the_fake_engine_fails_on_magenta() -> None:
    with pytest.raises(EngineError, match="magenta"):
        FakeEngine()(np.full((1, 2, 2, 3), (255, 0, 255), np.uint8))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_many_frames_are_answered_as_one_by_one(tiny: ModelBundle, backend: str) -> None:
    frames = np.random.default_rng(4).integers(0, 255, (5, 64, 128, 3)).astype(np.uint8)
    engine = open_engine(tiny, backend=backend)
    together = engine(frames)
    for index in range(5):
        alone = engine(frames[index : index + 1])
        np.testing.assert_array_equal(together.class_map[index], alone.class_map[0])
        np.testing.assert_array_equal(together.confidence[index], alone.confidence[0])


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_frames_that_are_views_are_answered_like_copies(tiny: ModelBundle, backend: str) -> None:
    mirrored = np.random.default_rng(5).integers(0, 255, (2, 64, 128, 3)).astype(np.uint8)[:, :, ::-1]
    engine = open_engine(tiny, backend=backend)
    np.testing.assert_array_equal(engine(mirrored).class_map, engine(mirrored.copy()).class_map)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_an_engine_survives_frames_that_fail(tiny: ModelBundle, backend: str) -> None:
    frames = np.random.default_rng(6).integers(0, 255, (2, 64, 128, 3)).astype(np.uint8)
    engine = open_engine(tiny, backend=backend)
    before = engine(frames)
    with pytest.raises(EngineError, match="failed on"):
        engine(np.zeros((2, 8, 8, 3), np.uint8))
    np.testing.assert_array_equal(engine(frames).class_map, before.class_map)


def test_one_answer_that_is_none_fails_the_batch_and_not_the_engine(tiny: ModelBundle) -> None:
    class SecondIsNan:
        """The graph, but for its second frame."""

        def __init__(self, graph: Callable[[np.ndarray], np.ndarray]) -> None:
            self.graph, self.calls = graph, 0

        def __call__(self, frame: np.ndarray) -> np.ndarray:
            self.calls += 1
            logits = self.graph(frame)
            return logits * np.float32(np.nan) if self.calls == 2 else logits

    frames = np.random.default_rng(7).integers(0, 255, (3, 64, 128, 3)).astype(np.uint8)
    engine = OpenVinoEngine(tiny)
    before = engine(frames)
    engine._graphs.put(SecondIsNan(engine._graphs.get()))
    with pytest.raises(EngineError, match="NaN or infinity"):
        engine(frames)
    np.testing.assert_array_equal(engine(frames).class_map, before.class_map)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_fused_graph_with_weights_that_are_no_numbers_gives_no_class_map(tmp_path: Path, value: float) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path))
    graph = onnx.load(bundle.fused_onnx.path)
    (bias,) = (weight for weight in graph.graph.initializer if weight.name == "bias")
    broken = np.where(np.arange(19) == 4, value, onnx.numpy_helper.to_array(bias)).astype(np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(broken, "bias"))
    onnx.save(graph, bundle.fused_onnx.path)
    engine = OnnxRuntimeEngine(bundle)
    with pytest.raises(EngineError, match=r"a confidence of 0 is below 255 / 19, .* NaN or infinity"):
        engine(np.zeros((1, 64, 128, 3), np.uint8))


@pytest.mark.parametrize(("class_count", "lowest"), [(19, 13), (11, 23), (2, 127), (1, 255), (255, 1)])
def test_the_least_confidence_of_a_softmax_is_that_of_equal_classes(class_count: int, lowest: int) -> None:
    check_confidence(np.full((1, 2, 2), lowest, np.uint8), class_count)
    with pytest.raises(EngineError, match=f"a confidence of {lowest - 1} is below 255 / {class_count}"):
        check_confidence(np.array([[[255, lowest - 1]]], np.uint8), class_count)


def test_the_kernel_is_ready_before_the_first_frame(tiny: ModelBundle) -> None:
    fastest_finish.cache_clear()
    OpenVinoEngine(tiny)
    assert fastest_finish.cache_info().currsize == 1
    assert isinstance(fastest_finish(), FinishKernel)


def test_a_slow_finish_shows_in_the_engines_name(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "slow" not in OpenVinoEngine(tiny).name
    monkeypatch.setattr(openvino_engine, "is_slow", lambda: True)
    assert OpenVinoEngine(tiny).name.endswith(", slow finish")


def file_of(bundle: ModelBundle, role: str, path: Path) -> ModelBundle:
    """The bundle with another file in one role, as if model.json named it."""
    return replace(bundle, **{role: replace(getattr(bundle, role), path=path)})


def renamed_ir(tiny: ModelBundle, folder: Path, old: str, new: str) -> ModelBundle:
    graph = openvino.Core().read_model(str(tiny.cpu_graph.path))
    (port,) = [port for port in [*graph.inputs, *graph.outputs] if old in port.names]
    port.get_tensor().set_names({new} if new else set())
    openvino.save_model(graph, str(folder / "renamed.xml"), compress_to_fp16=False)
    bundle = file_of(tiny, "cpu_graph", folder / "renamed.xml")
    return file_of(bundle, "cpu_weights", folder / "renamed.bin")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("frame", "image", r"inputs \['image'\] and outputs \['logits'\]"),
        ("logits", "scores", r"inputs \['frame'\] and outputs \['scores'\]"),
        ("logits", "", r"inputs \['frame'\] and outputs \['\(no name\)'\]"),
    ],
)
def test_an_ir_with_other_names_is_refused(tiny: ModelBundle, tmp_path: Path, old: str, new: str, found: str) -> None:
    bundle = renamed_ir(tiny, tmp_path, old, new)
    with pytest.raises(EngineError, match=found + r"; expected frame → logits: export the model again"):
        open_engine(bundle, backend="openvino")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("frame", "image", r"inputs \['image'\] and outputs \['class_map', 'confidence'\]"),
        ("class_map", "labels", r"inputs \['frame'\] and outputs \['labels', 'confidence'\]"),
    ],
)
def test_an_onnx_with_other_names_is_refused(tiny: ModelBundle, tmp_path: Path, old: str, new: str, found: str) -> None:
    model = onnx.load(tiny.fused_onnx.path)
    for port in [*model.graph.input, *model.graph.output]:
        port.name = new if port.name == old else port.name
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    onnx.save(model, tmp_path / "renamed.onnx")
    bundle = file_of(tiny, "fused_onnx", tmp_path / "renamed.onnx")
    with pytest.raises(EngineError, match=found + r"; expected frame → class_map, confidence: export the model again"):
        open_engine(bundle, backend="onnxruntime")


def test_an_ir_of_another_size_is_refused(tiny: ModelBundle, tmp_path: Path) -> None:
    other = load_bundle(write_tiny_bundle(tmp_path, (32, 64)))
    bundle = replace(tiny, cpu_graph=other.cpu_graph, cpu_weights=other.cpu_weights)
    expected = re.escape("maps [1,32,64,3] to [1,19,8,16], model.json says 64×128")
    with pytest.raises(EngineError, match=expected + ".*export the model again"):
        open_engine(bundle, backend="openvino")


class Stopwatch:
    """Stands in for `time_ratio`: ratios to give, by number of threads of the rival."""

    def __init__(self, **ratios: float) -> None:
        self.ratios = {int(name.removeprefix("threads_")): ratio for name, ratio in ratios.items()}
        self.measured: list[int] = []

    def choose_rivals(self, librarys: int, *, cpus: int, cores: int) -> tuple[int, ...]:
        return tuple(self.ratios)

    def __call__(self, rival: Callable[[], object], reference: Callable[[], object]) -> float:
        rival()
        reference()
        self.measured.append(tuple(self.ratios)[len(self.measured) % len(self.ratios)])
        return self.ratios[self.measured[-1]]


@pytest.fixture
def opened_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Threads of the graphs as they are opened, 0 for the library's choice; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(openvino_engine, "try_graph", lambda *_, **__: None)  # test_trial.py has it
    opened: list[int] = []
    original = openvino_engine._open

    def open_noting(bundle: ModelBundle, *, threads: int, streams: int = 1) -> openvino_engine.OpenVinoGraph:
        opened.append(threads)
        return original(bundle, threads=threads)

    monkeypatch.setattr(openvino_engine, "_open", open_noting)
    return opened


def use(monkeypatch: pytest.MonkeyPatch, stopwatch: Stopwatch) -> None:
    monkeypatch.setattr(openvino_engine, "time_ratio", stopwatch)
    monkeypatch.setattr(openvino_engine, "rival_threads", stopwatch.choose_rivals)


@pytest.mark.parametrize(
    ("ratios", "kept"),
    [
        ({"threads_2": 0.96, "threads_1": 1.4}, 0),  # not clearly faster
        ({"threads_2": 1.1, "threads_1": 0.9}, 1),
        ({"threads_2": 0.8, "threads_1": 0.9}, 2),
    ],
)
def test_the_first_start_measures_and_the_second_knows(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, opened_with: list[int], ratios: dict[str, float], kept: int
) -> None:
    stopwatch = Stopwatch(**ratios)
    use(monkeypatch, stopwatch)
    first = OpenVinoEngine(tiny)
    assert opened_with == [0, 2, 1]
    second = OpenVinoEngine(tiny)
    assert opened_with == [0, 2, 1, kept]
    assert stopwatch.measured == [2, 1]
    assert first.name == second.name
    frames = np.random.default_rng(8).integers(0, 255, (1, 64, 128, 3)).astype(np.uint8)
    np.testing.assert_array_equal(first(frames).class_map, second(frames).class_map)


def test_threads_that_the_user_gives_are_not_measured(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, opened_with: list[int], tmp_path: Path
) -> None:
    use(monkeypatch, Stopwatch(threads_2=0.5))
    engine = OpenVinoEngine(tiny, threads=1)
    assert opened_with == [1]
    assert re.fullmatch(r"openvino \d{4}\.\d\S* int8 CPU, 1 thread", engine.name)
    assert not (tmp_path / "cache").exists()


def test_a_damaged_choice_is_measured_again(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, opened_with: list[int], tmp_path: Path
) -> None:
    stopwatch = Stopwatch(threads_1=0.5)
    use(monkeypatch, stopwatch)
    OpenVinoEngine(tiny)
    (choice,) = (tmp_path / "cache").rglob("*.json")
    choice.write_bytes(choice.read_bytes()[:20])
    OpenVinoEngine(tiny)
    OpenVinoEngine(tiny)
    assert opened_with == [0, 1, 0, 1, 1]


def test_where_no_choice_can_be_kept_each_start_measures_and_says_so(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, opened_with: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tiny.golden.path))  # a file: no folder can be made in it
    use(monkeypatch, Stopwatch(threads_1=0.5))
    for _ in range(2):
        open_engine(tiny, backend="openvino")
    assert opened_with == [0, 1, 0, 1]
    assert caplog.text.count("measured again at each start") == 2


def test_where_there_is_no_rival_nothing_is_measured_or_kept(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, opened_with: list[int], tmp_path: Path
) -> None:
    use(monkeypatch, Stopwatch())
    OpenVinoEngine(tiny)
    assert opened_with == [0]
    assert not (tmp_path / "cache").exists()


def test_the_choice_belongs_to_this_graph_library_and_machine(tiny: ModelBundle) -> None:
    key = openvino_engine._settings_key(tiny)
    assert isinstance(key, SettingsKey)
    assert key.graph_sha256 == tiny.cpu_graph.sha256
    assert key.library_version == openvino.__version__
    assert key.cpu
    assert key.cpus


def test_a_small_graph_is_measured_in_no_time(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, opened_with: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openvino_engine, "rival_threads", lambda *_, **__: (2, 1))
    fastest_finish()
    started = time.perf_counter()
    with caplog.at_level("INFO"):
        OpenVinoEngine(tiny)
    assert time.perf_counter() - started < 1.0  # 0.1 on an idle machine
    assert opened_with == [0, 2, 1]
    assert re.search(r"needs \d+\.\d\d of its time with 2, \d+\.\d\d of its time with 1: \d are used", caplog.text)


def test_engines_closed_in_any_order_leave_a_process_that_survives_a_signal(tiny: ModelBundle) -> None:
    process = """
import signal, subprocess, sys
import faulthandler
from darkseg_ros.model.bundle import load_bundle
from darkseg_ros.model.backends.onnxruntime import OnnxRuntimeEngine
from darkseg_ros.model.backends.openvino import OpenVinoEngine
from darkseg_ros.model.backends.protocol import check_confidence
faulthandler.enable()
first, second = (OpenVinoEngine(load_bundle(sys.argv[1])) for _ in range(2))
first.close()
second.close()
del first, second
signal.signal(signal.SIGCHLD, lambda *_: None)
subprocess.run([sys.executable, "-c", ""], check=True)
"""
    ended = subprocess.run([sys.executable, "-c", process, str(tiny.directory)], capture_output=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


def test_two_streams_answer_side_by_side_what_one_answers(tiny: ModelBundle) -> None:
    frames = np.random.default_rng(11).integers(0, 255, (12, 64, 128, 3)).astype(np.uint8)
    one, two = OpenVinoEngine(tiny, threads=1), OpenVinoEngine(tiny, streams=2)
    assert (one.streams, two.streams) == (1, 2)
    assert "in 2 streams" in two.name
    expected = one(frames)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(two, frames[:, None]))
    np.testing.assert_array_equal(np.concatenate([answer.class_map for answer in answers]), expected.class_map)
    np.testing.assert_array_equal(np.concatenate([answer.confidence for answer in answers]), expected.confidence)
