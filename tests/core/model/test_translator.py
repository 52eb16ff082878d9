from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from darkseg_ros.errors import BundleError, EngineError
from darkseg_ros.model.bundle import load_bundle
from darkseg_ros.model.translator import TRANSLATOR_BACKENDS, Translator
from engines.bundle_writer import sha256_of
from tests.bundles import write_tiny_bundle, write_tiny_translator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_translator(tmp_path, (16, 32))


@pytest.mark.parametrize("backend", TRANSLATOR_BACKENDS)
def test_a_frame_of_the_graphs_size_is_translated_by_the_graph(folder: Path, backend: str) -> None:
    bgr = np.random.default_rng(1).integers(0, 256, (16, 32, 3)).astype(np.uint8)
    translator = Translator.open(folder, backend=backend)
    night = translator(bgr)
    np.testing.assert_array_equal(night, 255 - bgr)
    translator(np.zeros_like(bgr))
    np.testing.assert_array_equal(night, 255 - bgr)  # the next frame leaves it alone


@pytest.mark.parametrize("size_hw", [(1, 1), (7, 5), (16, 33), (90, 40)])
def test_the_night_has_the_size_of_the_day(folder: Path, size_hw: tuple[int, int]) -> None:
    night = Translator.open(folder)(np.full((*size_hw, 3), (10, 20, 30), np.uint8))
    assert night.shape == (*size_hw, 3)
    assert (night == (245, 235, 225)).all()


def test_left_stays_left_and_up_stays_up(folder: Path) -> None:
    bgr = np.zeros((64, 128, 3), np.uint8)
    bgr[:32, :64] = 255
    night = Translator.open(folder)(bgr)
    assert night[10, 20, 0] == 0
    assert night[50, 20, 0] == night[10, 100, 0] == night[50, 100, 0] == 255


def test_a_bundle_that_segments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"for 'semantic segmentation', expected one for 'day to night translation'"):
        Translator.open(write_tiny_bundle(tmp_path))


def test_a_segmenter_refuses_a_bundle_that_translates(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"for 'day to night translation', expected one for 'semantic segmentation'"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_one_changed_byte_is_noticed(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match="was altered: sha256"):
        Translator.open(folder)


def test_another_answer_than_the_recorded_one_is_refused(folder: Path) -> None:
    frames = np.zeros((1, 16, 32, 3), np.uint8)
    np.savez_compressed(folder / "golden.npz", frames=frames, night=frames + 250)
    manifest = json.loads((folder / "model.json").read_text())
    golden = folder / "golden.npz"
    manifest["files"]["golden"].update(sha256=sha256_of(golden), size_bytes=golden.stat().st_size)
    (folder / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"differs from the golden answer by 5\.00 grey levels"):
        Translator.open(folder)


def test_a_graph_with_other_names_is_refused(folder: Path, tmp_path: Path) -> None:
    segmenter = write_tiny_bundle(tmp_path / "other", (16, 32)) / "model.onnx"
    (folder / "model.onnx").write_bytes(segmenter.read_bytes())
    manifest = json.loads((folder / "model.json").read_text())
    manifest["files"]["onnx"].update(sha256=sha256_of(segmenter), size_bytes=segmenter.stat().st_size)
    (folder / "model.json").write_text(json.dumps(manifest))
    for backend in TRANSLATOR_BACKENDS[1:]:
        with pytest.raises(EngineError, match="expected frame → night"):
            Translator.open(folder, backend=backend)


@pytest.mark.parametrize("bgr", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_frame_is_refused(folder: Path, bgr: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        Translator.open(folder)(bgr)


def test_an_unknown_backend_is_refused(folder: Path) -> None:
    with pytest.raises(EngineError, match="no backend 'abacus'; choose one of auto, openvino, onnxruntime"):
        Translator.open(folder, backend="abacus")


def test_a_closed_translator_translates_no_more(folder: Path) -> None:
    translator = Translator.open(folder)
    translator.close()
    with pytest.raises(EngineError, match="closed"):
        translator(np.zeros((16, 32, 3), np.uint8))
