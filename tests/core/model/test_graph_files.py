from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from darkseg_ros.model import graph_files
from darkseg_ros.model.graph_files import check_ir, check_onnx


def tensor(*, external: bool = False) -> onnx.TensorProto:
    weight = numpy_helper.from_array(np.arange(3, dtype=np.float32), "weight")
    if external:
        onnx.external_data_helper.set_external_data(weight, "*/_ORT_MEM_ADDR_/*", offset=4096, length=12)
        weight.ClearField("raw_data")
    return weight


def graph(nodes: tuple[onnx.NodeProto, ...] = (), weights: tuple[onnx.TensorProto, ...] = ()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", [], [], list(weights))


def sparse(*, external: bool) -> onnx.SparseTensorProto:
    message = onnx.SparseTensorProto(dims=[3])
    message.indices.CopyFrom(tensor(external=external))
    return message


def places(external: bool) -> dict[str, onnx.ModelProto]:
    """A model for each place where ONNX may keep a tensor."""
    weight, inner = tensor(external=external), graph(weights=(tensor(external=external),))
    function = onnx.FunctionProto(name="f", domain="d")
    function.node.append(helper.make_node("Constant", [], ["y"], value=weight))
    default = onnx.FunctionProto(name="f", domain="d")
    default.attribute_proto.append(helper.make_attribute("value", weight))
    training = onnx.TrainingInfoProto()
    training.algorithm.CopyFrom(inner)
    many = helper.make_node("X", [], ["y"])
    many.attribute.append(onnx.AttributeProto(name="many", type=onnx.AttributeProto.TENSORS, tensors=[weight]))
    many.attribute.append(onnx.AttributeProto(name="all", type=onnx.AttributeProto.GRAPHS, graphs=[inner]))
    sparse_node = helper.make_node("X", [], ["y"])
    sparse_node.attribute.append(
        onnx.AttributeProto(name="s", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse(external=external))
    )
    models = {
        "initializer": helper.make_model(graph(weights=(weight,))),
        "attribute": helper.make_model(graph((helper.make_node("Constant", [], ["y"], value=weight),))),
        "branch": helper.make_model(
            graph((helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),))
        ),
        "lists": helper.make_model(graph((many,))),
        "sparse attribute": helper.make_model(graph((sparse_node,))),
        "function": helper.make_model(graph(), functions=[function]),
        "default of a function": helper.make_model(graph(), functions=[default]),
    }
    models["training"] = helper.make_model(graph())
    models["training"].training_info.append(training)
    models["sparse initializer"] = helper.make_model(graph())
    models["sparse initializer"].graph.sparse_initializer.append(sparse(external=external))
    return models


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("place", places(external=False))
def test_external_data_is_found_wherever_a_tensor_may_stand(tmp_path: Path, place: str) -> None:
    path = tmp_path / "a.onnx"
    check_onnx(write(path, places(external=False)[place].SerializeToString()))
    with pytest.raises(ValueError, match="keeps weights in other files"):
        check_onnx(write(path, places(external=True)[place].SerializeToString()))


def field(number: int, content: bytes, *, key_bytes: int = 1, length_bytes: int = 1) -> bytes:
    """A length-delimited field, whose varints may be longer than they need to be."""
    return varint(number << 3 | 2, key_bytes) + varint(len(content), length_bytes) + content


def varint(value: int, size: int) -> bytes:
    digits = [value >> (7 * index) & 0x7F for index in range(size)]
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


@pytest.mark.parametrize(("key_bytes", "length_bytes"), [(1, 1), (2, 1), (1, 2), (5, 5), (2, 5)])
def test_varints_that_are_longer_than_they_need_hide_nothing(tmp_path: Path, key_bytes: int, length_bytes: int) -> None:
    sizes = {"key_bytes": key_bytes, "length_bytes": length_bytes}
    entry = field(1, b"location", **sizes) + field(2, b"/etc/hostname", **sizes)
    weight = (
        field(8, b"weight", **sizes) + field(13, entry, **sizes) + varint(14 << 3, key_bytes) + varint(1, key_bytes)
    )
    model = field(7, field(5, weight, **sizes), **sizes)
    # the reader of the library that opens it does see it
    seen = onnx.load_from_string(model).graph.initializer[0]
    assert (seen.data_location, seen.external_data[0].value) == (TensorProto.EXTERNAL, "/etc/hostname")
    with pytest.raises(ValueError, match="keeps weights in other files"):
        check_onnx(write(tmp_path / "a.onnx", model))


def test_a_second_graph_that_merges_with_the_first_hides_nothing(tmp_path: Path) -> None:
    parts = [helper.make_model(graph(weights=(tensor(external=external),))) for external in (False, True)]
    model = b"".join(part.SerializeToString() for part in parts)
    assert len(onnx.load_from_string(model).graph.initializer) == 2
    with pytest.raises(ValueError, match="keeps weights in other files"):
        check_onnx(write(tmp_path / "a.onnx", model))


@pytest.mark.parametrize("loop", ["Loop", "Scan"])
def test_a_loop_is_refused_also_within_a_branch(tmp_path: Path, loop: str) -> None:
    inner = graph((helper.make_node(loop, ["n"], ["y"], body=graph()),))
    model = helper.make_model(graph((helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=graph()),)))
    with pytest.raises(ValueError, match="it has a loop"):
        check_onnx(write(tmp_path / "a.onnx", model.SerializeToString()))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"ORTM" * 20,
        b"<?xml version='1.0'?><net/>",
        b"PK\x03\x04" + bytes(60),
        b"\x08\x0a",
        field(7, b"")[:1] + b"\xff\x7f",
        field(7, b"") + b"\x0b",
        b"\xff" * 64,
        field(7, b"\x0a\x7f"),
    ],
    ids=["empty", "ort", "xml", "zip", "no graph", "cut off", "group", "no varint", "cut off within"],
)
def test_what_is_no_onnx_is_refused_by_its_content(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"no ONNX|expected ONNX"):
        check_onnx(write(tmp_path / "a.onnx", content))


@pytest.mark.parametrize("name", ["a.ort", "a.pb", "a", "a.ONNX"])
def test_a_name_that_the_library_may_read_as_another_format_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"must end in \.onnx"):
        check_onnx(write(tmp_path / name, helper.make_model(graph()).SerializeToString()))


def test_a_million_fields_are_not_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_files, "_FIELDS_MAX", 1000)
    with pytest.raises(ValueError, match="more than 1000 fields"):
        check_onnx(write(tmp_path / "a.onnx", field(7, b"\x08\x01" * 1000, length_bytes=5)))


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    model = b""
    for _ in range(100):
        model = field(1, field(5, field(6, model, length_bytes=5), length_bytes=5), length_bytes=5)
    with pytest.raises(ValueError, match="deep in each other"):
        check_onnx(write(tmp_path / "a.onnx", field(7, model, length_bytes=5)))


def test_the_walk_knows_every_way_to_a_tensor_that_onnx_has() -> None:
    def leads_on(message: Any) -> bool:
        return message.name in graph_files._MESSAGES

    known, found = graph_files._MESSAGES, {}
    waiting = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        fields = {each.number: each.message_type for each in message.fields if each.message_type is not None}
        found[message.name] = {number: kind.name for number, kind in fields.items() if leads_on(kind)}
        waiting += [kind for kind in fields.values() if kind.name not in found]
    assert {name: found[name] for name in known} == known
    # and no message that the walk steps over leads back to one that it knows
    assert not [name for name, fields in found.items() if name not in known and fields]


IR = '<?xml version="1.0"?><net name="n" version="11"><layers><layer id="0" type="{}"/></layers></net>'


def test_the_xml_of_an_ir_passes(tmp_path: Path) -> None:
    check_ir(write(tmp_path / "a.xml", IR.format("Convolution").encode()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (helper.make_model(graph(weights=(tensor(external=True),))).SerializeToString(), "no OpenVINO IR"),
        (b"<\x00\x00\x00TFL3", "no OpenVINO IR"),
        (b"", "no OpenVINO IR"),
        (b"<net>", "XML is wrong"),
        (b"<layers/>", "its root is 'layers'"),
        (IR.format("Loop").encode(), "has a loop"),
        (IR.format("L&#111;op").encode(), "has a loop"),
        (IR.format("TensorIterator").encode(), "has a loop"),
        (b"<!DOCTYPE net [<!ENTITY a 'b'>]><net/>", "document type"),
        (IR.format("Loop").encode("utf-16"), "has a loop"),
    ],
    ids=["onnx", "tflite", "empty", "cut off", "root", "loop", "escaped loop", "iterator", "entities", "utf-16"],
)
def test_what_is_no_ir_is_refused_by_its_content(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_ir(write(tmp_path / "a.xml", content))


def test_an_ir_of_another_name_or_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = IR.format("Convolution").encode()
    with pytest.raises(ValueError, match=r"must end in \.xml"):
        check_ir(write(tmp_path / "a.onnx", content))
    monkeypatch.setattr(graph_files, "_XML_BYTES_MAX", 10)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        check_ir(write(tmp_path / "a.xml", content))
