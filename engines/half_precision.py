"""How a bundle's fused graph answers in fp16, told on a CPU: what a plan in fp16 is judged by when it is opened.

    python -m engines.half_precision engines/darkseg_slim

measures it for a bundle from before there was such a figure, and writes it into its model.json. `engines.export` does
so for each new bundle.

A CPU has no fp16 convolutions, and ONNX Runtime computes an fp16 graph in float32 without rounding in between. Here
each tensor that a plan holds in fp16 is rounded to it, sums within a layer are float32, as on a GPU's matrix units.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from darkseg_ros.errors import EngineError, InputError
from darkseg_ros.model.backends.tensorrt.plan_graph import graph_for_plan
from darkseg_ros.model.bundle import MANIFEST, Golden, GoldenMatch, load_bundle, load_golden
from darkseg_ros.whole_files import write_whole
from training.runs.results import one_line_errors

_AGREEMENT_MARGIN, _CONFIDENCE_MARGIN = 0.005, 3.0  # GPUs add in another order
_AGREEMENT_LEAST = 0.95
"""No plan that answers otherwise on more pixels is to serve, whatever fp16 makes of the network."""


def main(arguments: list[str] | None = None) -> None:
    """Run the measurement from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="folder of the bundle; its model.json is changed")
    parsed = parser.parse_args(arguments)
    with one_line_errors("half_precision"):
        bundle = load_bundle(parsed.bundle)
        measured = match_in_half(bundle.fused_onnx.path, load_golden(bundle))
        path = parsed.bundle / MANIFEST
        manifest = json.loads(path.read_text(encoding="utf-8"))
        least = least_fp16_match_of(measured)
        manifest["golden_agreement_min"]["fp16"] = least.agreement
        if "golden_confidence_difference_max" in manifest:  # not in bundles from before 2026-11-28
            manifest["golden_confidence_difference_max"]["fp16"] = least.confidence_difference
        write_whole(path, (json.dumps(manifest, indent=2) + "\n").encode())
    print(f"fp16 gives {measured.agreement:.3%} of the golden frame's pixels the class of fp32")


def measured_fp16_match(fused_onnx: Path, golden: Golden) -> GoldenMatch | None:
    """`least_fp16_match_of` a graph; None, with a line on why, where no plan can be built of it in fp16."""
    try:
        measured = match_in_half(fused_onnx, golden)
    except EngineError as error:
        print(f"warning: no plan in fp16 can be built of this graph: {error}")
        return None
    if measured.agreement < _AGREEMENT_LEAST:
        print(
            f"warning: fp16 gives {measured.agreement:.1%} of the golden frame's pixels the class of fp32, and a plan "
            f"with less than {_AGREEMENT_LEAST:.0%} is refused; build with --precision fp32"
        )
    return least_fp16_match_of(measured)


def least_fp16_match_of(measured: GoldenMatch) -> GoldenMatch:
    """How well a plan in fp16 must match the golden answer, from how well fp16 does here."""
    return GoldenMatch(
        agreement=round(max(measured.agreement - _AGREEMENT_MARGIN, _AGREEMENT_LEAST), 3),
        confidence_difference=round(measured.confidence_difference + _CONFIDENCE_MARGIN, 1),
    )


def match_in_half(fused_onnx: Path, golden: Golden) -> GoldenMatch:
    """How well the graph in fp16 matches the golden answer.

    Raises:
        EngineError: if the graph cannot be had in fp16.
        InputError: if ONNX Runtime cannot run it.
    """
    rounded = rounding_to_half(graph_for_plan(fused_onnx, precision="fp16", batch=1))
    try:
        session = onnxruntime.InferenceSession(rounded.SerializeToString(), providers=["CPUExecutionProvider"])
        class_map, confidence = session.run(["class_map", "confidence"], {"frame": golden.frames})
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise InputError(f"ONNX Runtime cannot run {fused_onnx} in fp16: {error}") from error
    return GoldenMatch(
        agreement=float((class_map == golden.class_map).mean()),
        confidence_difference=float(np.abs(confidence.astype(np.int16) - golden.confidence).mean()),
    )


def rounding_to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph with fp16 tensors as a float32 graph that rounds each of them to fp16.

    Args:
        model: as `graph_for_plan` gives it, not quantised.
    """
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    half = {value.name for value in inferred.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    nodes = []
    for node in model.graph.node:
        exact = onnx.NodeProto()
        exact.CopyFrom(node)
        nodes.append(exact)
        for position, name in enumerate(node.output):
            if name in half:
                exact.output[position] = f"{name}_exact"
                nodes.append(helper.make_node("Cast", [f"{name}_exact"], [f"{name}_16"], to=TensorProto.FLOAT16))
                nodes.append(helper.make_node("Cast", [f"{name}_16"], [name], to=TensorProto.FLOAT))
    weights = [
        numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), weight.name)
        if weight.data_type == TensorProto.FLOAT16
        else weight
        for weight in model.graph.initializer
    ]
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, weights)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


if __name__ == "__main__":
    main()
