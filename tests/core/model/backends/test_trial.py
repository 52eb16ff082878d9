from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from darkseg_ros.errors import EngineError
from darkseg_ros.model.backends import trial as trials
from darkseg_ros.model.backends.onnxruntime import OnnxRuntimeEngine
from darkseg_ros.model.backends.trial import Trial, try_once
from darkseg_ros.model.bundle import load_bundle
from darkseg_ros.model.graph_files import check_onnx
from tests.bundles import write_tiny_bundle


def greedy_onnx(path: Path, *, elements: int) -> Path:
    """A few hundred bytes that ask for four times as many bytes as elements."""
    nodes = [
        helper.make_node("ConstantOfShape", ["count"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Cast", ["zero"], ["nothing"], to=TensorProto.UINT8),
        helper.make_node("ReduceMax", ["frame", "channels"], ["brightest"], keepdims=0),
        helper.make_node("Add", ["brightest", "nothing"], ["class_map"]),
        helper.make_node("Identity", ["class_map"], ["confidence"]),
    ]
    weights = {"count": np.array([elements], np.int64), "channels": np.array([3], np.int64)}
    graph = helper.make_graph(
        nodes,
        "greedy",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 8, 8, 3])],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 8, 8]) for name in ("class_map", "confidence")],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    assert path.stat().st_size < 500
    check_onnx(path)  # nothing in the file tells
    return path


def trial_of(path: Path) -> Trial:
    return Trial(
        library="onnxruntime",
        library_version="1",
        graph=str(path),
        graph_sha256=str(path),
        outputs=("class_map", "confidence"),
        network_hw=(8, 8),
    )


def test_a_graph_of_few_bytes_that_asks_for_four_gigabytes_is_refused(tmp_path: Path) -> None:
    trial = trial_of(greedy_onnx(tmp_path / "a.onnx", elements=2**30))
    with pytest.raises(EngineError, match=r"a\.onnx.*2\.0 GiB|allocate"):
        try_once(trial)
    assert not trial.path.exists()


def test_a_graph_that_passes_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trial_of(greedy_onnx(tmp_path / "a.onnx", elements=8))
    try_once(trial)
    monkeypatch.setattr(trials, "_run", lambda _: pytest.fail("it was tried again"))
    try_once(trial)


@pytest.mark.parametrize(
    "other", [{"graph_sha256": "b"}, {"library_version": "2"}, {"weights_sha256": "c"}, {"network_hw": (16, 16)}]
)
def test_what_passed_says_nothing_of_another_graph_or_library(tmp_path: Path, other: dict) -> None:
    trial = trial_of(tmp_path / "a.onnx")
    assert replace(trial, **other).path != trial.path
    assert replace(trial, graph="/elsewhere/a.onnx").path == trial.path


def test_a_graph_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "WALL_S_MAX", 0.05)  # no process starts Python and a library in that time
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"a\.onnx is refused: .* did not end in time .*export a smaller model"):
        try_once(trial_of(greedy_onnx(tmp_path / "a.onnx", elements=8)))
    assert time.monotonic() - started < 30


def test_a_graph_that_computes_without_end_is_ended_by_its_processor_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "CPU_S_MAX", 0)  # the kernel takes it for a second
    side = np.array([4096, 4096], np.int64)
    chain = [helper.make_node("ConstantOfShape", ["side"], ["m0"])]
    chain += [helper.make_node("MatMul", [f"m{step}", "m0"], [f"m{step + 1}"]) for step in range(200)]
    chain.append(helper.make_node("Cast", ["m200"], ["class_map"], to=TensorProto.UINT8))
    graph = helper.make_graph(
        chain,
        "endless",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("class_map", TensorProto.UINT8, [4096, 4096])],
        [numpy_helper.from_array(side, "side")],
    )
    path = tmp_path / "a.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    with pytest.raises(EngineError, match=r"a\.onnx is refused: .*(processor time|status|did not end)"):
        try_once(replace(trial_of(path), outputs=("class_map",)))


def test_a_cache_that_cannot_be_written_costs_a_line_and_not_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    try_once(trial_of(greedy_onnx(tmp_path / "a.onnx", elements=8)))
    assert "tried again at each start" in caplog.text


def test_no_module_of_the_working_folder_runs_in_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit(77)")
    monkeypatch.chdir(tmp_path)
    try_once(trial_of(greedy_onnx(tmp_path / "a.onnx", elements=8)))


def test_an_engine_opens_no_graph_before_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path, (32, 32)))
    monkeypatch.setattr(trials, "WALL_S_MAX", 0.01)
    with pytest.raises(EngineError, match="did not end in time"):
        OnnxRuntimeEngine(bundle)
