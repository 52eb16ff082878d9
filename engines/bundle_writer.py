"""Writes a bundle folder: the counterpart of `darkseg_ros.model.bundle`."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.errors import InputError
from darkseg_ros.model.bundle import (
    EXACT_MATCH,
    MANIFEST,
    OWN_CLASSES_SCHEMA_VERSION,
    SCHEMA_VERSION,
    SEGMENTATION,
    TRANSLATION,
    Golden,
    GoldenMatch,
)
from darkseg_ros.model.exposure import Exposure
from darkseg_ros.whole_files import sha256_of


@dataclass(frozen=True)
class BundleContent:
    """What goes into a bundle; the graphs are files that get copied.

    Attributes:
        name: of the model, also the folder's.
        network_hw: input size of the graphs.
        temperature: of the confidence.
        fused_onnx: see `darkseg_ros.model.bundle.ModelBundle`.
        cpu_graph: OpenVINO .xml with its .bin beside it.
        golden: frame and answer of the fused graph.
        fused_match: see `ModelBundle`.
        cpu_match: see `ModelBundle`; `ANY_MATCH` in a draft whose graph is still to be measured.
        model_card: Markdown.
        int8_onnx: see `ModelBundle`.
        int8_match: see `ModelBundle`.
        fp16_match: see `ModelBundle`; None where it was not measured.
        classes: what the values of its class maps mean.
        exposure: see `ModelBundle`.
    """

    name: str
    network_hw: tuple[int, int]
    temperature: float
    fused_onnx: Path
    cpu_graph: Path
    golden: Golden
    fused_match: GoldenMatch
    cpu_match: GoldenMatch
    model_card: str
    int8_onnx: Path | None = None
    int8_match: GoldenMatch = EXACT_MATCH
    fp16_match: GoldenMatch | None = None
    classes: ClassTable = CITYSCAPES
    exposure: Exposure | None = None


@dataclass(frozen=True)
class TranslatorContent:
    """What goes into a translator's bundle; the graph is a file that gets copied.

    Attributes:
        name: of the model, also the folder's.
        network_hw: input and output size of the graph.
        onnx: see `darkseg_ros.model.bundle.TranslatorBundle`.
        golden_frames: (1, H, W, 3) uint8 BGR.
        golden_night: the graph's answer to it, of the same shape.
        golden_difference_max: see `TranslatorBundle`.
        model_card: Markdown.
    """

    name: str
    network_hw: tuple[int, int]
    onnx: Path
    golden_frames: np.ndarray
    golden_night: np.ndarray
    golden_difference_max: float
    model_card: str


def write_bundle(parent: Path, content: BundleContent) -> Path:
    """Write ``parent/<name>/``, replacing an earlier bundle only once the new one is whole.

    Raises:
        InputError: if ``parent/<name>`` exists and is no bundle.
    """
    with _new_folder(parent, content.name) as folder:
        shutil.copyfile(content.fused_onnx, folder / "model.onnx")
        shutil.copyfile(content.cpu_graph, folder / "cpu_int8.xml")
        shutil.copyfile(content.cpu_graph.with_suffix(".bin"), folder / "cpu_int8.bin")
        if content.int8_onnx is not None:
            shutil.copyfile(content.int8_onnx, folder / "int8.onnx")
        np.savez_compressed(
            folder / "golden.npz",
            frames=content.golden.frames,
            class_map=content.golden.class_map,
            confidence=content.golden.confidence,
        )
        (folder / "MODEL_CARD.md").write_text(content.model_card, encoding="utf-8")
        _write_manifest(folder, _manifest(content, folder))
    return parent / content.name


def write_translator_bundle(parent: Path, content: TranslatorContent) -> Path:
    """Write ``parent/<name>/``, replacing an earlier bundle only once the new one is whole.

    Raises:
        InputError: if ``parent/<name>`` exists and is no bundle.
    """
    with _new_folder(parent, content.name) as folder:
        shutil.copyfile(content.onnx, folder / "model.onnx")
        np.savez_compressed(folder / "golden.npz", frames=content.golden_frames, night=content.golden_night)
        (folder / "MODEL_CARD.md").write_text(content.model_card, encoding="utf-8")
        manifest = {
            **_head(content.name, TRANSLATION, content.network_hw),
            "output": {"name": "night", "dtype": "uint8", "layout": "NHWC", "colour": "BGR", "resize": "bilinear"},
            "golden_difference_max": content.golden_difference_max,
            "files": {"onnx": _entry(folder / "model.onnx"), "golden": _entry(folder / "golden.npz")},
        }
        _write_manifest(folder, manifest)
    return parent / content.name


def check_name(parent: Path, name: str) -> None:
    """Whether a bundle may be written to ``parent/<name>``: exports ask before their minutes of work.

    Raises:
        InputError: if the name is none of a folder, or ``parent/<name>`` exists and is no bundle.
    """
    if name != Path(name).name:
        raise InputError(f"a bundle's name is that of its folder, got {name!r}; leave out the path, which --out names")
    target = parent / name
    if target.exists() and not (target / MANIFEST).is_file():
        raise InputError(f"{target} exists and is no model bundle; choose another --name or remove it")


@contextmanager
def _new_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder to fill; at the end of the block it takes the place of ``parent/<name>``."""
    check_name(parent, name)
    target = parent / name
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{name}-") as temporary:
        staging = Path(temporary) / name
        staging.mkdir()
        yield staging
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)


def _write_manifest(folder: Path, manifest: dict[str, object]) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _entry(path: Path) -> dict[str, object]:
    return {"path": path.name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size}


def _head(name: str, task: str, network_hw: tuple[int, int]) -> dict[str, Any]:
    height, width = network_hw
    return {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "task": task,
        "input": {
            "name": "frame",
            "dtype": "uint8",
            "layout": "NHWC",
            "colour": "BGR",
            "height": height,
            "width": width,
            "resize": "stretch, bilinear",
        },
    }


def _classes(classes: ClassTable) -> dict[str, object]:
    if classes == CITYSCAPES:  # readable for packages from before there were other tables
        return {"class_names": list(classes.names)}
    return {"schema_version": OWN_CLASSES_SCHEMA_VERSION, "classes": classes.to_json()}


def _manifest(content: BundleContent, folder: Path) -> dict[str, object]:
    least = {"fused": content.fused_match, "cpu": content.cpu_match}
    files = {
        "fused_onnx": _entry(folder / "model.onnx"),
        "cpu_graph": _entry(folder / "cpu_int8.xml"),
        "cpu_weights": _entry(folder / "cpu_int8.bin"),
        "golden": _entry(folder / "golden.npz"),
    }
    if content.fp16_match is not None:
        least["fp16"] = content.fp16_match
    if content.int8_onnx is not None:
        least["int8"] = content.int8_match
        files["int8_onnx"] = _entry(folder / "int8.onnx")
    head = _head(content.name, SEGMENTATION, content.network_hw)
    network_input: dict[str, object] = head["input"]
    if content.exposure is not None:
        network_input["exposure"] = asdict(content.exposure)
    return {
        **head,
        "output": {
            "upsampling": "bilinear, half-pixel, x4",
            "confidence": "max softmax at 1/4, bilinear",
            "resize": "nearest",
        },
        **_classes(content.classes),
        "temperature": content.temperature,
        "golden_agreement_min": {graph: match.agreement for graph, match in least.items()},
        "golden_confidence_difference_max": {graph: match.confidence_difference for graph, match in least.items()},
        "files": files,
    }
