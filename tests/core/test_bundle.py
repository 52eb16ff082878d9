from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkseg_ros.bundle import load_bundle, load_golden
from darkseg_ros.engine import open_engine
from darkseg_ros.errors import BundleError
from engines.bundle_writer import sha256_of
from tests.bundles import write_tiny_bundle


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path)


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_whole_bundle_loads_with_its_facts(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    assert bundle.name == "tiny"
    assert bundle.network_hw == (64, 128)
    assert bundle.temperature == 1.0
    assert bundle.fused_onnx.path == bundle_folder / "model.onnx"


@pytest.mark.parametrize("name", ["model.onnx", "cpu_int8.xml", "cpu_int8.bin", "golden.npz", "model.json"])
def test_a_missing_file_is_named(bundle_folder: Path, name: str) -> None:
    (bundle_folder / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("name", ["model.onnx", "cpu_int8.xml", "cpu_int8.bin", "golden.npz"])
def test_one_changed_byte_is_noticed(bundle_folder: Path, name: str) -> None:
    path = bundle_folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="was altered: sha256"):
        load_bundle(bundle_folder)


def test_a_truncated_file_is_noticed(bundle_folder: Path) -> None:
    path = bundle_folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BundleError, match=r"model\.onnx has \d+ bytes, model\.json says"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=2), "schema version 2, this package reads 1"),
        (lambda m: m.pop("schema_version"), "schema version None"),
        (lambda m: m["class_names"].pop(), "lists 18 classes, expected the 19"),
        (lambda m: m["class_names"].reverse(), "in their order"),
        (lambda m: m["files"]["fused_onnx"].update(path="../model.onnx"), "points outside the bundle"),
        (lambda m: m["files"]["fused_onnx"].update(path="/etc/hostname"), "points outside the bundle"),
        (lambda m: m["files"].pop("cpu_graph"), "cpu_graph is None"),
        (lambda m: m["input"].update(height=-4), "input size -4"),
        (lambda m: m["input"].update(height=10**9), "up to 8192"),
        (lambda m: m["input"].update(height="64"), "height is '64'"),
        (lambda m: m.update(temperature=0), "temperature 0"),
        (lambda m: m.update(name=None), "name is None"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    bundle_folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    change_manifest(bundle_folder, change)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\0"])
def test_a_manifest_that_is_no_json_object_is_refused(bundle_folder: Path, content: str) -> None:
    (bundle_folder / "model.json").write_text(content)
    with pytest.raises(BundleError, match=r"JSON|expected an object"):
        load_bundle(bundle_folder)


def test_a_link_out_of_the_bundle_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    (bundle_folder / "model.onnx").rename(outside)
    (bundle_folder / "model.onnx").symlink_to(outside)
    with pytest.raises(BundleError, match="points outside the bundle"):
        load_bundle(bundle_folder)


def replace_golden(folder: Path, **arrays: np.ndarray) -> None:
    path = folder / "golden.npz"
    with np.load(path) as archive:
        content = {**archive, **arrays}
    np.savez(path, **content)
    entry = {"path": "golden.npz", "sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    change_manifest(folder, lambda manifest: manifest["files"].update(golden=entry))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_graph_that_answers_otherwise_than_recorded_is_refused(bundle_folder: Path, backend: str) -> None:
    answer = load_golden(load_bundle(bundle_folder)).class_map
    replace_golden(bundle_folder, class_map=(answer + 1) % 19)
    with pytest.raises(BundleError, match=r"agrees with the golden answer on 0\.0%"):
        open_engine(load_bundle(bundle_folder), backend=backend)


def test_a_golden_answer_of_another_shape_is_refused(bundle_folder: Path) -> None:
    replace_golden(bundle_folder, class_map=np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(BundleError, match=r"class_map is uint8 \(1, 2, 2\), expected uint8 \(1, 64, 128\)"):
        load_golden(load_bundle(bundle_folder))


def test_a_pickle_in_the_golden_archive_is_never_loaded(bundle_folder: Path) -> None:
    replace_golden(bundle_folder, frames=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BundleError, match="no golden archive"):
        load_golden(load_bundle(bundle_folder))
