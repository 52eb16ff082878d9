"""Writes a bundle folder: the counterpart of `darkseg_ros.bundle`."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from darkseg_ros.bundle import MANIFEST, SCHEMA_VERSION, Golden, sha256_of
from darkseg_ros.classes import CLASS_NAMES
from darkseg_ros.errors import InputError


@dataclass(frozen=True)
class BundleContent:
    """What goes into a bundle; the graphs are files that get copied.

    Attributes:
        name: of the model, also the folder's.
        network_hw: input size of the graphs.
        temperature: of the confidence.
        fused_onnx: see `darkseg_ros.bundle.ModelBundle`.
        cpu_graph: OpenVINO .xml with its .bin beside it.
        golden: frame and answer of the fused graph.
        fused_agreement_min: see `ModelBundle`.
        cpu_agreement_min: see `ModelBundle`.
        model_card: Markdown.
    """

    name: str
    network_hw: tuple[int, int]
    temperature: float
    fused_onnx: Path
    cpu_graph: Path
    golden: Golden
    fused_agreement_min: float
    cpu_agreement_min: float
    model_card: str


def write_bundle(parent: Path, content: BundleContent) -> Path:
    """Write ``parent/<name>/``, replacing an earlier bundle only once the new one is whole.

    Raises:
        InputError: if ``parent/<name>`` exists and is no bundle.
    """
    target = parent / content.name
    if target.exists() and not (target / MANIFEST).is_file():
        raise InputError(f"{target} exists and is no model bundle; choose another --name or remove it")
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{content.name}-") as temporary:
        staging = Path(temporary) / content.name
        staging.mkdir()
        shutil.copyfile(content.fused_onnx, staging / "model.onnx")
        shutil.copyfile(content.cpu_graph, staging / "cpu_int8.xml")
        shutil.copyfile(content.cpu_graph.with_suffix(".bin"), staging / "cpu_int8.bin")
        np.savez_compressed(
            staging / "golden.npz",
            frames=content.golden.frames,
            class_map=content.golden.class_map,
            confidence=content.golden.confidence,
        )
        (staging / "MODEL_CARD.md").write_text(content.model_card, encoding="utf-8")
        (staging / MANIFEST).write_text(json.dumps(_manifest(content, staging), indent=2) + "\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    return target


def _manifest(content: BundleContent, folder: Path) -> dict[str, object]:
    def entry(name: str) -> dict[str, object]:
        path = folder / name
        return {"path": name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size}

    height, width = content.network_hw
    return {
        "schema_version": SCHEMA_VERSION,
        "name": content.name,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "task": "semantic segmentation",
        "input": {
            "name": "frame",
            "dtype": "uint8",
            "layout": "NHWC",
            "colour": "BGR",
            "height": height,
            "width": width,
            "resize": "stretch, bilinear",
        },
        "output": {
            "upsampling": "bilinear, half-pixel, x4",
            "confidence": "max softmax at 1/4, bilinear",
            "resize": "nearest",
        },
        "class_names": list(CLASS_NAMES),
        "temperature": content.temperature,
        "golden_agreement_min": {"fused": content.fused_agreement_min, "cpu": content.cpu_agreement_min},
        "files": {
            "fused_onnx": entry("model.onnx"),
            "cpu_graph": entry("cpu_int8.xml"),
            "cpu_weights": entry("cpu_int8.bin"),
            "golden": entry("golden.npz"),
        },
    }
