"""Model bundles: a folder with model.json and the files it names, checked before anything of it runs.

Every fact that an engine fixes (input size, classes, temperature) lives in model.json and nowhere else. A bundle is
data: JSON, ONNX, OpenVINO IR and an .npz without objects, never a pickle.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.classes import CLASS_NAMES
from darkseg_ros.errors import BundleError

SCHEMA_VERSION = 1
MANIFEST = "model.json"
LOGITS_STRIDE = 4
"""The CPU graph's logits have a quarter of the input's height and width."""

_FILE_BYTES_MAX = 2**30
_MANIFEST_BYTES_MAX = 2**20


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle: its path, and the size and hash that were checked at loading."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class ModelBundle:
    """A checked bundle.

    Attributes:
        directory: the bundle's folder.
        name: of the model.
        network_hw: input size of the graphs, (height, width); frames are stretched to it.
        temperature: logits are divided by it before the softmax that gives the confidence.
        fused_onnx: ``frame`` uint8 (1, H, W, 3) BGR → ``class_map`` and ``confidence`` uint8 (1, H, W).
        cpu_graph: OpenVINO IR, int8: ``frame`` uint8 (1, H, W, 3) BGR → ``logits`` float (1, 19, H/4, W/4).
        cpu_weights: the IR's weights.
        golden: .npz with a frame and the answer to it.
        fused_agreement_min: share of golden pixels on which the fused graph must give the recorded class.
        cpu_agreement_min: the same for the CPU graph.
    """

    directory: Path
    name: str
    network_hw: tuple[int, int]
    temperature: float
    fused_onnx: BundleFile
    cpu_graph: BundleFile
    cpu_weights: BundleFile
    golden: BundleFile
    fused_agreement_min: float
    cpu_agreement_min: float


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
            version is unknown, or the classes are not this package's 19.
    """
    directory = Path(directory)
    manifest = _read_manifest(directory)
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{directory / MANIFEST} has schema version {version!r}, this package reads {SCHEMA_VERSION}; "
            "export the model again with this version's `python -m engines.export`"
        )
    classes = _field(manifest, directory, "class_names", list)
    if classes != list(CLASS_NAMES):
        raise BundleError(
            f"{directory / MANIFEST} lists {len(classes)} classes, expected the {len(CLASS_NAMES)} of "
            "darkseg_ros.classes in their order; train and export with this class table"
        )
    files = _field(manifest, directory, "files", dict)
    network_input = _field(manifest, directory, "input", dict)
    agreement = _field(manifest, directory, "golden_agreement_min", dict)
    height, width = (_field(network_input, directory, key, int) for key in ("height", "width"))
    if not (0 < height <= 8192 and 0 < width <= 8192) or height % LOGITS_STRIDE or width % LOGITS_STRIDE:
        raise BundleError(
            f"{directory / MANIFEST} gives the input size {height}×{width}; expected multiples of {LOGITS_STRIDE} "
            "up to 8192"
        )
    temperature = float(_field(manifest, directory, "temperature", (int, float)))
    if not 0.01 <= temperature <= 100:
        raise BundleError(f"{directory / MANIFEST} gives the temperature {temperature}; expected 0.01…100")
    return ModelBundle(
        directory=directory,
        name=_field(manifest, directory, "name", str),
        network_hw=(height, width),
        temperature=temperature,
        fused_onnx=_checked_file(files, directory, "fused_onnx"),
        cpu_graph=_checked_file(files, directory, "cpu_graph"),
        cpu_weights=_checked_file(files, directory, "cpu_weights"),
        golden=_checked_file(files, directory, "golden"),
        fused_agreement_min=float(_field(agreement, directory, "fused", (int, float))),
        cpu_agreement_min=float(_field(agreement, directory, "cpu", (int, float))),
    )


def load_golden(bundle: ModelBundle) -> Golden:
    """The golden frame and answer.

    Raises:
        BundleError: if the file holds other arrays than it should.
    """
    height, width = bundle.network_hw
    expected = {
        "frames": (1, height, width, 3),
        "class_map": (1, height, width),
        "confidence": (1, height, width),
    }
    try:
        with np.load(bundle.golden.path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in expected}
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"{bundle.golden.path} is no golden archive ({error}); export the model again") from error
    for name, shape in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype != np.uint8:
            raise BundleError(
                f"{bundle.golden.path}: {name} is {arrays[name].dtype} {arrays[name].shape}, expected uint8 {shape}; "
                "export the model again"
            )
    return Golden(**arrays)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    if not path.is_file():
        raise BundleError(
            f"{directory} is no model bundle: it has no {MANIFEST}; name a folder that engines.export wrote"
        )
    if path.stat().st_size > _MANIFEST_BYTES_MAX:
        raise BundleError(f"{path} is larger than {_MANIFEST_BYTES_MAX} bytes; it is no {MANIFEST} of this package")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path} is no valid JSON ({error}); restore it or export the model again") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{path} holds a {type(manifest).__name__}, expected an object; export the model again")
    return manifest


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
    if not path.resolve().is_relative_to(directory.resolve()):
        raise BundleError(
            f"{directory / MANIFEST}: {role} points outside the bundle ({name}); such a bundle is refused"
        )
    if not path.is_file():
        raise BundleError(f"{directory} lacks {name}; copy the whole bundle folder or export the model again")
    found_bytes = path.stat().st_size
    if found_bytes != size_bytes or size_bytes > _FILE_BYTES_MAX:
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
