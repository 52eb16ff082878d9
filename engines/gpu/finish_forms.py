"""The finish of a fused graph in another form: the class of the largest logit without ArgMax.

TensorRT and others compute ArgMax by a kernel of its own, which reads all enlarged logits from memory once more.
ReduceMax, Equal, Mul and ReduceMax again can be fused with the enlargement.
"""

from __future__ import annotations

import copy

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from darkseg_ros.errors import EngineError


def with_reduce_max(model: onnx.ModelProto, class_count: int) -> onnx.ModelProto:
    """The graph with ReduceMax in the place of its one ArgMax over the classes; ties go to the lowest class as before.

    Class c counts K − c where its logit is the largest, else 0; the class is K less the largest of these.

    Raises:
        EngineError: if the graph has not exactly one ArgMax along axis 1.
    """
    changed = copy.deepcopy(model)
    nodes = list(changed.graph.node)
    places = [index for index, node in enumerate(nodes) if node.op_type == "ArgMax"]
    if len(places) != 1 or helper.get_node_attr_value(nodes[places[0]], "axis") != 1:
        raise EngineError(f"the graph has {len(places)} ArgMax nodes, expected one along the classes")
    (place,) = places
    logits, index = nodes[place].input[0], nodes[place].output[0]
    new = [
        helper.make_node("ReduceMax", [logits, "finish_axis"], ["finish_largest"], keepdims=1),
        helper.make_node("Equal", [logits, "finish_largest"], ["finish_is_largest"]),
        helper.make_node("Cast", ["finish_is_largest"], ["finish_one"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["finish_one", "finish_ranks"], ["finish_ranked"]),
        helper.make_node("ReduceMax", ["finish_ranked", "finish_axis"], ["finish_rank"], keepdims=0),
        helper.make_node("Sub", ["finish_count", "finish_rank"], [index]),
    ]
    ranks = np.arange(class_count, 0, -1, dtype=np.float32).reshape(1, class_count, 1, 1)
    changed.graph.initializer.extend(
        numpy_helper.from_array(values, name)
        for name, values in (
            ("finish_axis", np.array([1], np.int64)),
            ("finish_ranks", ranks),
            ("finish_count", np.array(class_count, np.float32)),
        )
    )
    del changed.graph.node[:]
    changed.graph.node.extend([*nodes[:place], *new, *nodes[place + 1 :]])
    return changed


def finish_alone(model: onnx.ModelProto) -> onnx.ModelProto:
    """The part of a fused graph behind its logits, which are then its input ``frame``.

    The logits are what the largest enlargement reads.

    Raises:
        EngineError: if the graph does not enlarge its logits.
    """
    enlarged = next((node for node in reversed(model.graph.node) if node.output[0] == _read_by_finish(model)), None)
    if enlarged is None or enlarged.op_type != "Resize":
        raise EngineError("the graph does not enlarge its logits before it takes the largest")
    logits = enlarged.input[0]
    behind, nodes = {logits}, []
    for node in model.graph.node:
        if behind.intersection(node.input):
            node = copy.deepcopy(node)
            for position, name in enumerate(node.input):
                if name == logits:
                    node.input[position] = "frame"
            nodes.append(node)
            behind.update(node.output)
    graph = helper.make_graph(nodes, "finish", [], model.graph.output, model.graph.initializer)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _read_by_finish(model: onnx.ModelProto) -> str:
    for node in model.graph.node:
        if node.op_type == "ArgMax" or (node.op_type == "ReduceMax" and node.output[0] == "finish_largest"):
            name: str = node.input[0]
            return name
    return ""
