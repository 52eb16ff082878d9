from __future__ import annotations

import signal
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from darkseg_ros.errors import BundleError, DarksegError, EngineError
from darkseg_ros.model.backends.tensorrt import plan_builder
from darkseg_ros.model.backends.tensorrt.plan_builder import PlanOrder, build_plan
from darkseg_ros.model.backends.tensorrt.plan_graph import (
    _half_weight,
    convert_to_half,
    graph_for_plan,
    with_dynamic_batch,
)
from darkseg_ros.model.bundle import ModelBundle, load_bundle
from tests.bundles import write_tiny_bundle

SHIPPED = Path(__file__).resolve().parents[5] / "engines" / "darkseg_slim" / "model.onnx"

needs_rtx = pytest.mark.skipif(not find_spec("tensorrt_rtx"), reason="TensorRT for RTX is not installed")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("bundle")))


def answer_of(model: onnx.ModelProto, frames: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # ONNX Runtime would quantise biases too, with scales that float16 does not hold
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["class_map", "confidence"], {"frame": frames})


def order_of(onnx_path: Path, plan: Path, **changes: object) -> PlanOrder:
    values = {"library": "tensorrt_rtx", "precision": "fp16", "batch": 1, "capabilities": ("SM86",)} | changes
    return PlanOrder(onnx=str(onnx_path), plan=str(plan), **values)  # type: ignore[arg-type]


def built(onnx_path: Path, folder: Path, **changes: object) -> bytes:
    plan = folder / "a.plan"
    build_plan(order_of(onnx_path, plan, **changes), progress=print)
    return plan.read_bytes()


def changed_graph(bundle: ModelBundle, folder: Path, change: object) -> Path:
    model = onnx.load(str(bundle.fused_onnx.path))
    change(model.graph)  # type: ignore[operator]
    path = folder / "changed.onnx"
    onnx.save(model, path)
    return path


# The graph


@pytest.mark.parametrize(("precision", "agreement_min"), [("fp32", 1.0), ("fp16", 0.995)])
def test_the_shipped_graph_answers_a_batch_as_it_answers_each_frame(precision: str, agreement_min: float) -> None:
    with np.load(SHIPPED.parent / "golden.npz") as golden:
        frame = golden["frames"]
    frames = np.concatenate([frame, frame[:, ::-1, ::-1]])
    batch = answer_of(graph_for_plan(SHIPPED, precision=precision, batch=2), frames)
    one_by_one = [answer_of(onnx.load(str(SHIPPED)), np.ascontiguousarray(each[None])) for each in frames]
    for index, (class_map, confidence) in enumerate(one_by_one):
        assert (batch[0][index] == class_map[0]).mean() >= agreement_min
        assert np.abs(batch[1][index].astype(int) - confidence[0]).max() <= (1 if precision == "fp32" else 12)


def test_the_shipped_int8_graph_answers_a_batch_nearly_as_the_float_graph_answers_each_frame() -> None:
    with np.load(SHIPPED.parent / "golden.npz") as golden:
        frame = golden["frames"]
    frames = np.concatenate([frame, frame[:, :, ::-1]])
    class_map, _ = answer_of(graph_for_plan(SHIPPED.with_name("int8.onnx"), precision="int8", batch=2), frames)
    for index, each in enumerate(frames):
        expected, _ = answer_of(onnx.load(str(SHIPPED)), np.ascontiguousarray(each[None]))
        assert (class_map[index] == expected[0]).mean() > 0.95


def test_half_precision_reaches_from_the_first_convolution_to_the_last() -> None:
    model = graph_for_plan(SHIPPED, precision="fp16", batch=1)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    kinds |= {weight.name: weight.data_type for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Clip", "Add", "Relu"):
            assert {kinds[name] for name in node.input} == {TensorProto.FLOAT16}, node.name
        if node.op_type in ("ArgMax", "Softmax", "Sub", "Div"):
            assert {kinds[name] for name in node.input} == {TensorProto.FLOAT}, node.name
    # frame, into the network, out of it, class map twice, confidence
    assert [node.op_type for node in model.graph.node].count("Cast") == 6
    assert [port.type.tensor_type.elem_type for port in (*model.graph.input, *model.graph.output)] == [
        TensorProto.UINT8
    ] * 3


def test_batch_1_in_float32_is_the_bundles_graph_as_it_is(tiny: ModelBundle) -> None:
    assert graph_for_plan(tiny.fused_onnx.path, precision="fp32", batch=1) == onnx.load(str(tiny.fused_onnx.path))


def test_a_weight_too_large_for_half_precision_is_named(tiny: ModelBundle, tmp_path: Path) -> None:
    def enlarge(graph: onnx.GraphProto) -> None:
        next(w for w in graph.initializer if w.name == "bias").CopyFrom(
            numpy_helper.from_array(np.full(19, 70000, np.float32), "bias")
        )

    path = changed_graph(tiny, tmp_path, enlarge)
    with pytest.raises(EngineError, match=r"weight 'bias' reaches 7e\+04.*build with --precision fp32"):
        graph_for_plan(path, precision="fp16", batch=1)


@pytest.mark.parametrize(("limit", "half"), [(3.4028235e38, 65504.0), (-3.4028235e38, -65504.0), (6.0, 6.0)])
def test_a_limit_that_means_infinity_is_the_end_of_half_precision(limit: float, half: float) -> None:
    converted = _half_weight(numpy_helper.from_array(np.array(limit, np.float32), "limit"))
    assert numpy_helper.to_array(converted) == np.float16(half)


@pytest.mark.parametrize(
    ("mixing", "axis", "complaint"),
    [
        ("ReduceMax", 0, r"ReduceMax 'mixer', its output is \(1, 19, 16, 32\) for one frame and \(1, 19, 16, 32\)"),
        ("Squeeze", 0, "inconsistent"),
    ],
)
def test_a_graph_that_mixes_frames_is_refused_for_batches(
    tiny: ModelBundle, tmp_path: Path, mixing: str, axis: int, complaint: str
) -> None:
    def mix(graph: onnx.GraphProto) -> None:
        index = next(i for i, node in enumerate(graph.node) if node.op_type == "Conv")
        graph.node.insert(index + 1, helper.make_node(mixing, ["logits", "mixed_axis"], ["mixed"], name="mixer"))
        graph.initializer.append(numpy_helper.from_array(np.array([axis], np.int64), "mixed_axis"))

    path = changed_graph(tiny, tmp_path, mix)
    with pytest.raises(EngineError, match=f"(?s)one frame at a time.*{complaint}.*build with --batch 1"):
        graph_for_plan(path, precision="fp32", batch=2)


def test_a_graph_with_other_names_is_refused(tiny: ModelBundle, tmp_path: Path) -> None:
    def rename(graph: onnx.GraphProto) -> None:
        graph.input[0].name = graph.node[0].input[0] = "image"

    path = changed_graph(tiny, tmp_path, rename)
    with pytest.raises(BundleError, match=r"\['image'\].*expected frame → class_map, confidence"):
        graph_for_plan(path, precision="fp16", batch=1)


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(BundleError, match="is no ONNX file"):
        graph_for_plan(tmp_path / "a.onnx", precision="fp16", batch=1)


def test_int8_without_a_quantised_graph_is_refused_with_its_cure(tiny: ModelBundle) -> None:
    with pytest.raises(EngineError, match=r"no quantised graph.*--precision fp16, or use backend openvino"):
        graph_for_plan(tiny.fused_onnx.path, precision="int8", batch=1)


def quantised(bundle: ModelBundle, folder: Path, zero_point: int) -> Path:
    def quantise(graph: onnx.GraphProto) -> None:
        index = next(i for i, node in enumerate(graph.node) if node.op_type == "Conv")
        graph.node[index].input[0] = "dequantised"
        for op_type, inputs, output in (
            ("DequantizeLinear", ["quantised", "scale", "zero"], "dequantised"),
            ("QuantizeLinear", ["pooled", "scale", "zero"], "quantised"),
        ):
            graph.node.insert(index, helper.make_node(op_type, inputs, [output], name=f"{output}_node"))
        graph.initializer.append(numpy_helper.from_array(np.array(2.0, np.float32), "scale"))
        graph.initializer.append(numpy_helper.from_array(np.array(zero_point, np.int8), "zero"))

    return changed_graph(bundle, folder, quantise)


@pytest.mark.parametrize("batch", [1, 4])
def test_an_int8_graph_is_float16_between_its_convolutions_and_int8_within(tiny: ModelBundle, batch: int) -> None:
    model = graph_for_plan(int8_of(tiny), precision="int8", batch=batch)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    kinds |= {weight.name: weight.data_type for weight in model.graph.initializer}
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    maker = {name: node for node in model.graph.node for name in node.output}
    # nothing between the dequantisers and the convolution: TensorRT joins them
    assert [maker[name].op_type for name in convolution.input[:2]] == ["DequantizeLinear"] * 2
    assert [kinds[name] for name in convolution.input] == [TensorProto.FLOAT16] * 3
    assert kinds["weight_int8"] == kinds["pooled_quantised"] == TensorProto.INT8
    assert kinds["pooled"] == kinds["logits"] == TensorProto.FLOAT


def test_an_int8_graph_answers_a_batch_as_it_answers_each_frame(tiny: ModelBundle) -> None:
    rng = np.random.default_rng(3)
    frames = np.kron(rng.integers(0, 255, (3, 8, 16, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    class_map, confidence = answer_of(graph_for_plan(int8_of(tiny), precision="int8", batch=3), frames)
    for index, frame in enumerate(frames):
        alone = answer_of(onnx.load(str(int8_of(tiny))), frame[None])
        assert (class_map[index] == alone[0][0]).mean() > 0.98
        assert np.abs(confidence[index].astype(int) - alone[1][0]).max() <= 4
        # and int8 is close to float: steps of 2 in 255 grey levels
        assert (class_map[index] == answer_of(onnx.load(str(tiny.fused_onnx.path)), frame[None])[0][0]).mean() > 0.95


def int8_of(bundle: ModelBundle) -> Path:
    assert bundle.int8_onnx is not None
    return bundle.int8_onnx.path


def test_a_scale_that_float16_does_not_hold_is_named(tiny: ModelBundle, tmp_path: Path) -> None:
    model = onnx.load(str(int8_of(tiny)))
    next(w for w in model.graph.initializer if w.name == "weight_scale").CopyFrom(
        numpy_helper.from_array(np.full(19, 1e-9, np.float32), "weight_scale")
    )
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(EngineError, match=r"scale 'weight_scale' reaches from 1e-09 .*export the model again"):
        graph_for_plan(tmp_path / "a.onnx", precision="int8", batch=1)


def test_asymmetric_int8_is_refused(tiny: ModelBundle, tmp_path: Path) -> None:
    path = quantised(tiny, tmp_path, zero_point=3)
    with pytest.raises(EngineError, match=r"QuantizeLinear 'quantised_node'.*symmetric int8 only"):
        graph_for_plan(path, precision="int8", batch=1)


def test_a_quantised_graph_is_not_built_in_another_precision(tiny: ModelBundle, tmp_path: Path) -> None:
    path = quantised(tiny, tmp_path, zero_point=0)
    with pytest.raises(EngineError, match="is a quantised graph; build it with --precision int8"):
        graph_for_plan(path, precision="fp16", batch=1)


def test_half_and_batch_together_pass_onnx_own_checker(tiny: ModelBundle) -> None:
    model = with_dynamic_batch(convert_to_half(onnx.load(str(tiny.fused_onnx.path))))
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


# The plan


@needs_rtx
def test_the_same_order_gives_the_same_bytes_and_four_gpus_share_a_plan(tiny: ModelBundle, tmp_path: Path) -> None:
    four = ("SM80", "SM86", "SM89", "SM120")
    first, second = (built(tiny.fused_onnx.path, tmp_path, capabilities=four) for _ in range(2))
    assert len(first) > 1000
    assert first == second


@needs_rtx
def test_a_plan_for_batches_is_built(tiny: ModelBundle, tmp_path: Path) -> None:
    lines: list[str] = []
    plan = tmp_path / "a.plan"
    build_plan(order_of(tiny.fused_onnx.path, plan, batch=4), progress=lines.append)
    assert plan.stat().st_size > 1000
    assert lines[0] == "preparing the graph: fp16, batch 1…4"
    assert "Building engine" in lines


@needs_rtx
@pytest.mark.parametrize("batch", [1, 4])
def test_a_symmetric_int8_graph_is_built(tiny: ModelBundle, tmp_path: Path, batch: int) -> None:
    assert len(built(int8_of(tiny), tmp_path, precision="int8", batch=batch)) > 1000


@needs_rtx
def test_an_int8_plan_has_the_same_bytes_twice(tiny: ModelBundle, tmp_path: Path) -> None:
    first, second = (built(int8_of(tiny), tmp_path, precision="int8") for _ in range(2))
    assert first == second


@needs_rtx
def test_an_operator_that_the_library_lacks_is_named_with_its_node(tiny: ModelBundle, tmp_path: Path) -> None:
    def add_foreign(graph: onnx.GraphProto) -> None:
        index = next(i for i, node in enumerate(graph.node) if node.op_type == "AveragePool")
        graph.node[index].input[0] = "foreign"
        graph.node.insert(index, helper.make_node("Det", ["bgr"], ["foreign"], name="the_foreign_node"))

    path = changed_graph(tiny, tmp_path, add_foreign)
    with pytest.raises(
        EngineError, match=r"cannot take .*'the_foreign_node' \(Det\).*choose another backend"
    ) as caught:
        built(path, tmp_path, precision="fp32")
    assert "\n" not in str(caught.value)


@needs_rtx
def test_a_full_disk_is_named_with_its_cure(tiny: ModelBundle) -> None:
    with pytest.raises(EngineError, match=r"the disk is full: /dev has no room .*set XDG_CACHE_HOME"):
        build_plan(order_of(tiny.fused_onnx.path, Path("/dev/full")), progress=print)


def test_a_refused_bundle_stays_a_bundle_error_across_the_process(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(BundleError, match="is no ONNX file"):
        built(tmp_path / "a.onnx", tmp_path)


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        (f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", "killed by signal 9.*lack of memory"),
        ("raise SystemError('boom')", "failed with status 1: .*SystemError: boom"),
    ],
)
def test_a_builder_that_dies_takes_nobody_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, complaint: str
) -> None:
    monkeypatch.setattr(plan_builder, "_PROCESS", program)
    with pytest.raises(DarksegError, match=f"(?s){complaint}"):
        built(tmp_path / "a.onnx", tmp_path)


def test_a_machine_without_onnx_is_told_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = "import sys; sys.modules['onnx'] = None; "
    monkeypatch.setattr(plan_builder, "_PROCESS", without + plan_builder._PROCESS)
    with pytest.raises(EngineError, match=r"building a plan needs onnx.*run `pip install onnx`"):
        built(tmp_path / "a.onnx", tmp_path)
