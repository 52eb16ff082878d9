"""Whether a file of a bundle is in the format it is to be in, and reads nothing else: judged by its content.

Inference libraries open whatever they know, also formats and references that a bundle has no use for: ONNX may name
further files, or addresses in memory, as the place of its weights. Loops are refused since a graph with one may run
for ever on some frame, and no trial on another would tell.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

_FIELDS_MAX = 1_000_000  # shipped graphs have 10,000; ten million would take half a minute to walk
_DEPTH_MAX = 64
_VARINT_BYTES_MAX = 10
_XML_BYTES_MAX = 2**26

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}

_MESSAGES: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
"""Of each message of onnx.proto the fields that lead to nodes and tensors; a test holds it against the real one."""

_GRAPH = 7  # of ModelProto
_OP_TYPE = 4  # of NodeProto
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of TensorProto
_LOOPS = (b"Loop", b"Scan")
_IR_LOOPS = ("loop", "tensoriterator")


def check_onnx(path: Path) -> None:
    """Refuse what is no ONNX file that stands alone and ends.

    Raises:
        ValueError: if its name does not end in .onnx, it is no model in protobuf's wire format, keeps weights in other
            files, or has a loop.
        OSError: if it cannot be read.

    Source: protobuf.dev, "Encoding"; onnx.proto of ONNX 1.19.
    """
    if path.suffix != ".onnx":
        raise ValueError(f"its name must end in .onnx, not {path.suffix!r}")
    if not path.stat().st_size:
        raise ValueError("it is empty, expected ONNX")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
    ):
        _OnnxWalk(content).check()


class _OnnxWalk:
    """One pass over a file's fields; weights are stepped over and not read."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._fields = 0

    def check(self) -> None:
        end = len(self._content)
        if not any(number == _GRAPH and kind == _LENGTH for number, kind, _, _ in self._fields_of(0, end)):
            raise ValueError("it is no ONNX: it holds no graph")
        self._check_message("ModelProto", 0, end, depth=0)

    def _check_message(self, message: str, start: int, end: int, *, depth: int) -> None:
        if depth > _DEPTH_MAX:
            raise ValueError(f"its graphs lie more than {_DEPTH_MAX} deep in each other")
        inner = _MESSAGES[message]
        for number, kind, first, last in self._fields_of(start, end):
            if kind == _LENGTH and number in inner:
                self._check_message(inner[number], first, last, depth=depth + 1)
            elif message == "NodeProto" and number == _OP_TYPE and bytes(self._content[first:last][:8]) in _LOOPS:
                raise ValueError("it has a loop, which may never end")
            elif message == "TensorProto" and (
                (number == _EXTERNAL_DATA and kind == _LENGTH)
                or (number == _DATA_LOCATION and kind == _VARINT and self._varint(first, last)[0])
            ):
                raise ValueError("it keeps weights in other files")

    def _fields_of(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, wire type, and bounds of the value of each field."""
        at = start
        while at < end:
            self._fields += 1
            if self._fields > _FIELDS_MAX:
                raise ValueError(f"it has more than {_FIELDS_MAX} fields")
            key, at = self._varint(at, end)
            number, kind = key >> 3, key & 7
            first = at
            if kind == _VARINT:
                _, at = self._varint(at, end)
            elif kind == _LENGTH:
                length, first = self._varint(at, end)
                at = first + length
            elif kind in _FIXED_BYTES:
                at += _FIXED_BYTES[kind]
            else:
                raise _wrong_at(first)
            if at > end or not number:
                raise _wrong_at(first)
            yield number, kind, first, at

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """The number that begins there, and where it ends."""
        value = 0
        for index in range(min(_VARINT_BYTES_MAX, end - at)):
            byte = self._content[at + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & (2**64 - 1), at + index + 1
        raise _wrong_at(at)


def _wrong_at(at: int) -> ValueError:
    return ValueError(f"it is no ONNX: its protobuf ends or is wrong at byte {at}")


def check_ir(path: Path) -> None:
    """Refuse what is no OpenVINO IR, the XML part, without loops.

    Raises:
        ValueError: if its name does not end in .xml, it is no well-formed XML with the root ``net`` and
            without a document type, or a layer is a loop.
        OSError: if it cannot be read.
    """
    if path.suffix != ".xml":
        raise ValueError(f"its name must end in .xml, not {path.suffix!r}")
    if path.stat().st_size > _XML_BYTES_MAX:
        raise ValueError(f"it has more than {_XML_BYTES_MAX} bytes")
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        if not depth and name != "net":
            raise ValueError(f"it is no OpenVINO IR: its root is {name[:100]!r}")
        depth += 1
        if name == "layer" and attributes.get("type", "").casefold() in _IR_LOOPS:
            raise ValueError("it has a loop, which may never end")

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*_: object) -> None:
        raise ValueError("it is no OpenVINO IR: it has a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = doctype
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except expat.ExpatError as error:
        raise ValueError(f"it is no OpenVINO IR: its XML is wrong ({error})") from error
