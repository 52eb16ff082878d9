from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from darkseg_ros.errors import EngineError
from darkseg_ros.installed_files import default_bundle
from darkseg_ros.model.backends.tensorrt.plan_graph import graph_for_plan
from darkseg_ros.model.bundle import load_bundle, load_golden
from engines.gpu.finish_forms import finish_alone, with_reduce_max
from engines.gpu.torch_graph import TorchGraph
from tests.bundles import write_tiny_bundle


def answers(model: onnx.ModelProto, frames: np.ndarray) -> list[np.ndarray]:
    with torch.inference_mode():
        return [answer.numpy() for answer in TorchGraph(model)(torch.from_numpy(frames))]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    path = write_tiny_bundle(tmp_path_factory.mktemp("bundle")) / "model.onnx"
    return onnx.load(str(path))


def frames_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, 64, 128, 3)).astype(np.uint8)


def test_torch_answers_the_shipped_graph_as_onnx_runtime_does() -> None:
    bundle = load_bundle(default_bundle())
    golden = load_golden(bundle)
    class_map, confidence = answers(onnx.load(str(bundle.fused_onnx.path)), golden.frames)
    assert (class_map == golden.class_map).mean() > 0.9999
    assert np.abs(confidence.astype(int) - golden.confidence).max() <= 1


def test_a_graph_for_several_frames_gives_each_its_own_answer(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save(tiny, str(tmp_path / "tiny.onnx"))
    several = graph_for_plan(tmp_path / "tiny.onnx", precision="fp32", batch=3)
    frames = frames_of(3)
    together = answers(several, frames)[0]
    for index in range(3):
        np.testing.assert_array_equal(together[index : index + 1], answers(tiny, frames[index : index + 1])[0])


def test_the_largest_by_reduce_max_is_that_by_arg_max_ties_included(tiny: onnx.ModelProto) -> None:
    other = with_reduce_max(tiny, 19)
    assert "ArgMax" not in {node.op_type for node in other.graph.node}
    onnx.checker.check_model(other)
    session = onnxruntime.InferenceSession(other.SerializeToString(), providers=["CPUExecutionProvider"])
    grey = np.repeat(frames_of(1, seed=3)[..., :1], 3, axis=-1)  # sky, vegetation and car share their logits
    for frames in (frames_of(1), grey):
        expected = answers(tiny, frames)
        for answer in (session.run(None, {"frame": frames}), answers(other, frames)):
            np.testing.assert_array_equal(answer[0], expected[0])


def test_the_finish_alone_gives_the_graph_s_answer_to_its_logits(tiny: onnx.ModelProto) -> None:
    expected = answers(tiny, frames_of(1))
    inner = onnx.ModelProto()
    inner.CopyFrom(tiny)
    inner.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None))
    *_, logits = answers(inner, frames_of(1))
    for form in (tiny, with_reduce_max(tiny, 19)):
        for answer, right in zip(answers(finish_alone(form), logits), expected, strict=True):
            np.testing.assert_array_equal(answer, right)


def test_an_operator_that_is_not_known_is_named(tiny: onnx.ModelProto) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(tiny)
    model.graph.node[0].op_type = "Loop"
    with pytest.raises(EngineError, match="knows no Loop; add the operator there"):
        TorchGraph(model)


def test_a_graph_without_an_arg_max_has_no_other_form(tiny: onnx.ModelProto) -> None:
    with pytest.raises(EngineError, match="has 0 ArgMax nodes"):
        with_reduce_max(with_reduce_max(tiny, 19), 19)
