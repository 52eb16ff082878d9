"""Model bundles: a folder with model.json and the files it names, checked before anything of it runs.

Every fact that an engine fixes (input size, classes, temperature) lives in model.json and nowhere else. A bundle is
data: JSON, ONNX, OpenVINO IR and an .npz without objects, never a pickle. It may come from anybody, so each size is
checked before anything of that size is read, and no path leads out of the folder. docs/security.md says what that
does and does not protect from.
"""

from __future__ import annotations

import json
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.errors import BundleError
from darkseg_ros.model.exposure import GAMMA_STEPS, Exposure
from darkseg_ros.model.graph_files import check_ir, check_onnx
from darkseg_ros.whole_files import sha256_of

SCHEMA_VERSION = 1
"""Of bundles with Cityscapes' classes and of translators, which every version of this package reads."""

OWN_CLASSES_SCHEMA_VERSION = 2
"""Of bundles with a class table of their own: `classes` in the place of `class_names`."""

MANIFEST = "model.json"
SEGMENTATION = "semantic segmentation"
TRANSLATION = "day to night translation"
"""Values of the manifest's `task`: what the bundle's graphs do."""

LOGITS_STRIDE = 4
"""The CPU graph's logits have a quarter of the input's height and width."""

_FILE_BYTES_MAX = 2**30
_MANIFEST_BYTES_MAX = 2**20
_SIDE_PX_MAX = 8192
_NETWORK_PIXELS_MAX = 2**23  # 4096×2048
_NAME_CHARACTERS_MAX = 100
_NPY_HEADER_BYTES_MAX = 2**12
_OLD_CONFIDENCE_DIFFERENCE_MAX = 16.0  # of bundles from before 2026-11-28, which do not record their own
_GOLDEN_OVERHEAD_BYTES = 2**16  # of the archive, and of compression where it makes noise longer


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle: its path, and the size and hash that were checked at loading."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class GoldenMatch:
    """How well an answer matches the golden one: a measurement, or the least that is allowed.

    Attributes:
        agreement: share of the pixels with the recorded class, 0…1.
        confidence_difference: mean absolute difference from the recorded confidence, in steps of 1/255, 0…255.
    """

    agreement: float
    confidence_difference: float

    def reaches(self, least: GoldenMatch) -> bool:
        """Whether it is at least as good in both."""
        return self.agreement >= least.agreement and self.confidence_difference <= least.confidence_difference

    def or_worse(self, other: GoldenMatch) -> GoldenMatch:
        """The worse of two in each."""
        return GoldenMatch(
            agreement=min(self.agreement, other.agreement),
            confidence_difference=max(self.confidence_difference, other.confidence_difference),
        )


EXACT_MATCH = GoldenMatch(agreement=1.0, confidence_difference=0.0)
ANY_MATCH = GoldenMatch(agreement=0.0, confidence_difference=255.0)


@dataclass(frozen=True)
class ModelBundle:
    """A checked bundle.

    Attributes:
        directory: the bundle's folder.
        name: of the model.
        classes: what the values of its class maps mean.
        network_hw: input size of the graphs, (height, width); frames are stretched to it.
        temperature: logits are divided by it before the softmax that gives the confidence.
        fused_onnx: ``frame`` uint8 (1, H, W, 3) BGR → ``class_map`` and ``confidence`` uint8 (1, H, W).
        cpu_graph: OpenVINO IR, int8: ``frame`` uint8 (1, H, W, 3) BGR → ``logits`` float (1, K, H/4, W/4).
        cpu_weights: the IR's weights.
        int8_onnx: the fused graph with symmetric int8 (QuantizeLinear, DequantizeLinear) for TensorRT; None where the
            bundle holds none.
        golden: .npz with a frame and the answer to it.
        fused_match: how well the fused graph must match the golden answer.
        cpu_match: the same for the CPU graph.
        int8_match: the same for the symmetric int8 graph; `EXACT_MATCH` where the bundle holds none.
        fp16_match: the same for the fused graph in fp16; as `fused_match` where it was not measured.
        exposure: what dark frames are brightened to before the graphs see them; None leaves all frames as they are.
    """

    directory: Path
    name: str
    classes: ClassTable
    network_hw: tuple[int, int]
    temperature: float
    fused_onnx: BundleFile
    cpu_graph: BundleFile
    cpu_weights: BundleFile
    int8_onnx: BundleFile | None
    golden: BundleFile
    fused_match: GoldenMatch
    cpu_match: GoldenMatch
    int8_match: GoldenMatch
    fp16_match: GoldenMatch
    exposure: Exposure | None = None


@dataclass(frozen=True)
class TranslatorBundle:
    """A checked bundle of a day→night translator.

    Attributes:
        directory: the bundle's folder.
        name: of the model.
        network_hw: input and output size of the graph, (height, width); frames are stretched to it.
        onnx: ``frame`` uint8 (1, H, W, 3) BGR → ``night`` uint8 (1, H, W, 3) BGR.
        golden: .npz with a frame and the answer to it.
        golden_difference_max: mean absolute difference from the recorded answer, in grey levels, that is allowed.
    """

    directory: Path
    name: str
    network_hw: tuple[int, int]
    onnx: BundleFile
    golden: BundleFile
    golden_difference_max: float


@dataclass(frozen=True)
class Golden:
    """A frame (1, H, W, 3) uint8 BGR and the recorded answer, two (1, H, W) uint8 maps."""

    frames: np.ndarray
    class_map: np.ndarray
    confidence: np.ndarray


def load_bundle(directory: str | Path) -> ModelBundle:
    """Read model.json and check every file it names.

    Raises:
        BundleError: if the folder or a file is missing, a hash or size differs, a path leaves the folder, the schema
            version is unknown, the bundle is for another task, or its classes are no class table.
    """
    directory = Path(directory)
    manifest = _read_manifest(directory, SEGMENTATION)
    files = _field(manifest, directory, "files", dict)
    # neither is in bundles from before there were such graphs and figures
    has_int8_onnx = "int8_onnx" in files
    fp16 = "fp16" if "fp16" in _field(manifest, directory, "golden_agreement_min", dict) else "fused"
    return ModelBundle(
        directory=directory,
        name=_name(manifest, directory),
        classes=_classes(manifest, directory),
        network_hw=_network_hw(manifest, directory),
        temperature=_number(manifest, directory, "temperature", low=0.01, high=100),
        fused_onnx=_checked_graph(files, directory, "fused_onnx", check_onnx),
        cpu_graph=_checked_graph(files, directory, "cpu_graph", check_ir),
        cpu_weights=_checked_file(files, directory, "cpu_weights"),
        int8_onnx=_checked_graph(files, directory, "int8_onnx", check_onnx) if has_int8_onnx else None,
        golden=_checked_file(files, directory, "golden"),
        fused_match=_golden_match(manifest, directory, "fused"),
        cpu_match=_golden_match(manifest, directory, "cpu"),
        int8_match=_golden_match(manifest, directory, "int8") if has_int8_onnx else EXACT_MATCH,
        fp16_match=_golden_match(manifest, directory, fp16),
        exposure=_exposure(manifest, directory),
    )


def load_classes(directory: str | Path) -> ClassTable:
    """The class table of a segmenter's bundle; of its files only model.json is read.

    Raises:
        BundleError: as `load_bundle`, of model.json.
    """
    directory = Path(directory)
    return _classes(_read_manifest(directory, SEGMENTATION), directory)


def load_translator_bundle(directory: str | Path) -> TranslatorBundle:
    """Read the model.json of a translator and check every file it names.

    Raises:
        BundleError: as `load_bundle`, and for a bundle that segments.
    """
    directory = Path(directory)
    manifest = _read_manifest(directory, TRANSLATION)
    files = _field(manifest, directory, "files", dict)
    return TranslatorBundle(
        directory=directory,
        name=_name(manifest, directory),
        network_hw=_network_hw(manifest, directory),
        onnx=_checked_graph(files, directory, "onnx", check_onnx),
        golden=_checked_file(files, directory, "golden"),
        golden_difference_max=_number(manifest, directory, "golden_difference_max", low=0, high=255),
    )


def load_golden(bundle: ModelBundle) -> Golden:
    """The golden frame and answer.

    Raises:
        BundleError: if the file holds other arrays than it should.
    """
    height, width = bundle.network_hw
    return Golden(
        **_golden_arrays(
            bundle.golden,
            {"frames": (1, height, width, 3), "class_map": (1, height, width), "confidence": (1, height, width)},
        )
    )


def load_translator_golden(bundle: TranslatorBundle) -> tuple[np.ndarray, np.ndarray]:
    """The golden frame and the night made of it, (1, H, W, 3) uint8 BGR each.

    Raises:
        BundleError: if the file holds other arrays than it should.
    """
    shape = (1, *bundle.network_hw, 3)
    arrays = _golden_arrays(bundle.golden, {"frames": shape, "night": shape})
    return arrays["frames"], arrays["night"]


def _golden_arrays(golden: BundleFile, expected: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    size_max = sum(math.prod(shape) for shape in expected.values()) + _GOLDEN_OVERHEAD_BYTES
    if golden.size_bytes > size_max:
        raise BundleError(
            f"{golden.path} has {golden.size_bytes} bytes, expected at most {size_max} for the model's input size; "
            "export the model again"
        )
    try:
        with zipfile.ZipFile(golden.path) as archive:
            return {name: _array_of(archive, name, shape, golden.path) for name, shape in expected.items()}
    # RuntimeError: encrypted; NotImplementedError: an unknown compression
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        RuntimeError,
        OverflowError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise BundleError(f"{golden.path} is no golden archive ({error}); export the model again") from error


def _array_of(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """One array of an .npz. np.load would allocate what the array's own header asks for, however little follows."""
    member = archive.getinfo(f"{name}.npy")
    if member.file_size > math.prod(shape) + _NPY_HEADER_BYTES_MAX:
        raise BundleError(
            f"{path}: {name} unpacks to {member.file_size} bytes, expected {math.prod(shape)} and a header; "
            "export the model again"
        )
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed by method {member.compress_type}")  # LZMA's dictionary may take gigabytes
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} is of an unknown version of the .npy format")
        header = file.read(int.from_bytes(file.read(2), "little")).decode("latin-1").strip()
        # compared and not evaluated: a literal may nest until the parser gives up
        if header != f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}":
            raise BundleError(f"{path}: {name} is {header[:200]!r}, expected uint8 {shape}; export the model again")
        content = file.read(math.prod(shape))  # without a number, zipfile unpacks a bomb before it looks at the size
    return np.frombuffer(bytearray(content), np.uint8).reshape(shape)


def _read_manifest(directory: Path, task: str) -> dict[str, Any]:
    path = directory / MANIFEST
    if not path.is_file():
        writer = "engines.export" if task == SEGMENTATION else "engines.export_translator"
        raise BundleError(f"{directory} is no model bundle: it has no {MANIFEST}; name a folder that {writer} wrote")
    if not path.resolve().is_relative_to(directory.resolve()):
        raise BundleError(f"{path} is a link to a file outside the bundle; such a bundle is refused")
    with path.open("rb") as file:
        content = file.read(_MANIFEST_BYTES_MAX + 1)
    if len(content) > _MANIFEST_BYTES_MAX:
        raise BundleError(f"{path} is larger than {_MANIFEST_BYTES_MAX} bytes; it is no {MANIFEST} of this package")
    try:
        manifest = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is no valid JSON ({error}); restore it or export the model again") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{path} holds a {type(manifest).__name__}, expected an object; export the model again")
    version = manifest.get("schema_version")
    if version not in (SCHEMA_VERSION, OWN_CLASSES_SCHEMA_VERSION):
        raise BundleError(
            f"{path} has schema version {version!r}, this package reads {SCHEMA_VERSION} and "
            f"{OWN_CLASSES_SCHEMA_VERSION}; export the model again with this version of the package"
        )
    if manifest.get("task") != task:
        raise BundleError(
            f"{directory} is a bundle for {manifest.get('task')!r}, expected one for {task!r}; segmentation_node takes "
            "what engines.export writes, day2night_node what engines.export_translator writes"
        )
    return manifest


def _classes(manifest: dict[str, Any], directory: Path) -> ClassTable:
    if manifest["schema_version"] == OWN_CLASSES_SCHEMA_VERSION:
        try:
            return ClassTable.from_json(_field(manifest, directory, "classes", list))
        except ValueError as error:
            raise BundleError(f"{directory / MANIFEST}: classes: {error}; export the model again") from error
    names = _field(manifest, directory, "class_names", list)
    if names != list(CITYSCAPES.names):
        raise BundleError(
            f"{directory / MANIFEST} lists {len(names)} classes, expected the {len(CITYSCAPES)} of Cityscapes in their "
            f"order, or schema version {OWN_CLASSES_SCHEMA_VERSION} with a class table; export the model again"
        )
    return CITYSCAPES


def _network_hw(manifest: dict[str, Any], directory: Path) -> tuple[int, int]:
    network_input = _field(manifest, directory, "input", dict)
    height, width = (_field(network_input, directory, key, int) for key in ("height", "width"))
    sides_fit = all(0 < side <= _SIDE_PX_MAX and side % LOGITS_STRIDE == 0 for side in (height, width))
    if not sides_fit or height * width > _NETWORK_PIXELS_MAX:
        raise BundleError(
            f"{directory / MANIFEST} gives the input size {height}×{width}; expected multiples of {LOGITS_STRIDE} "
            f"up to {_SIDE_PX_MAX}, and at most {_NETWORK_PIXELS_MAX} pixels"
        )
    return height, width


def _exposure(manifest: dict[str, Any], directory: Path) -> Exposure | None:
    network_input = _field(manifest, directory, "input", dict)
    if "exposure" not in network_input:  # nor in any bundle from before there was such a fact
        return None
    exposure = _field(network_input, directory, "exposure", dict)
    return Exposure(
        target_mean=_number(exposure, directory, "target_mean", low=1, high=254),
        gamma_min=_number(exposure, directory, "gamma_min", low=float(GAMMA_STEPS[0]), high=1),
    )


def _golden_match(manifest: dict[str, Any], directory: Path, graph: str) -> GoldenMatch:
    agreements = _field(manifest, directory, "golden_agreement_min", dict)
    agreement = _number(agreements, directory, graph, low=0, high=1)
    if "golden_confidence_difference_max" not in manifest:
        return GoldenMatch(agreement, _OLD_CONFIDENCE_DIFFERENCE_MAX)
    differences = _field(manifest, directory, "golden_confidence_difference_max", dict)
    return GoldenMatch(agreement, _number(differences, directory, graph, low=0, high=255))


def _name(manifest: dict[str, Any], directory: Path) -> str:
    name: str = _field(manifest, directory, "name", str)
    # it goes into log lines and diagnostics
    if not name.isprintable() or not 0 < len(name) <= _NAME_CHARACTERS_MAX:
        raise BundleError(
            f"{directory / MANIFEST}: name is {name[:_NAME_CHARACTERS_MAX]!r}, expected up to {_NAME_CHARACTERS_MAX} "
            "printable characters; export the model under another name"
        )
    return name


def _number(holder: dict[str, Any], directory: Path, key: str, *, low: float, high: float) -> float:
    value = _field(holder, directory, key, (int, float))
    if not low <= value <= high:  # false for NaN, which JSON as Python reads it may hold
        raise BundleError(f"{directory / MANIFEST}: {key} is {value}, expected {low}…{high}; export the model again")
    return float(value)


def _field(holder: dict[str, Any], directory: Path, key: str, kind: type | tuple[type, ...]) -> Any:
    value = holder.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BundleError(
            f"{directory / MANIFEST}: {key} is {value!r}, expected {getattr(kind, '__name__', 'a number')}; "
            "restore the file or export the model again"
        )
    return value


def _checked_file(files: dict[str, Any], directory: Path, role: str) -> BundleFile:
    entry = _field(files, directory, role, dict)
    name, sha256 = (_field(entry, directory, key, str) for key in ("path", "sha256"))
    size_bytes = _field(entry, directory, "size_bytes", int)
    path = directory / name
    try:
        inside = path.resolve().is_relative_to(directory.resolve())
        found_bytes = path.stat().st_size if inside and path.is_file() else None
    # RuntimeError: links in a circle; ValueError: a null character; OSError: a name too long, a folder without access
    except (OSError, ValueError, RuntimeError) as error:
        raise BundleError(f"{directory / MANIFEST}: {role} names no file of the bundle ({error})") from error
    if not inside:
        raise BundleError(
            f"{directory / MANIFEST}: {role} points outside the bundle ({name}); such a bundle is refused"
        )
    if found_bytes is None:
        raise BundleError(f"{directory} lacks {name}; copy the whole bundle folder or export the model again")
    if found_bytes > _FILE_BYTES_MAX:
        raise BundleError(f"{path} has {found_bytes} bytes, expected at most {_FILE_BYTES_MAX}; export a smaller model")
    if found_bytes != size_bytes:
        raise BundleError(
            f"{path} has {found_bytes} bytes, {MANIFEST} says {size_bytes}; "
            "copy the bundle again or export the model again"
        )
    found = sha256_of(path)
    if found != sha256:
        raise BundleError(
            f"{path} was altered: sha256 {found[:12]}…, {MANIFEST} says {sha256[:12]}…; "
            "copy the bundle again or export the model again"
        )
    return BundleFile(path, sha256, size_bytes)


def _checked_graph(files: dict[str, Any], directory: Path, role: str, check: Callable[[Path], None]) -> BundleFile:
    """As `_checked_file`; besides, the file is in its format, see `darkseg_ros.model.graph_files`."""
    checked = _checked_file(files, directory, role)
    try:
        check(checked.path)
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{checked.path} is refused as {role}: {error}; export the model again, as one file each"
        ) from error
    return checked
