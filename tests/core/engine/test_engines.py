from __future__ import annotations

import numpy as np
import pytest

from darkseg_ros.bundle import ModelBundle, load_bundle
from darkseg_ros.engine import open_engine
from darkseg_ros.engine.fake import FakeEngine
from darkseg_ros.errors import EngineError
from tests.bundles import write_tiny_bundle


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_graph_sees_the_colours_it_was_made_for(tiny: ModelBundle, backend: str) -> None:
    frames = np.zeros((1, 64, 128, 3), np.uint8)
    frames[0, :32, :, 0] = 255  # blue above: sky
    frames[0, 32:, 64:, 2] = 255  # red below right: car
    class_map = open_engine(tiny, backend=backend)(frames).class_map[0]
    assert (class_map[:30] == 10).all()
    assert (class_map[34:, :62] == 0).all()
    assert (class_map[34:, 66:] == 13).all()


def test_openvino_and_onnx_runtime_agree(tiny: ModelBundle) -> None:
    frames = np.random.default_rng(3).integers(0, 255, (2, 64, 128, 3)).astype(np.uint8)
    first, second = (open_engine(tiny, backend=backend, threads=1)(frames) for backend in ("openvino", "onnxruntime"))
    assert first.class_map.shape == (2, 64, 128)
    assert (first.class_map == second.class_map).mean() > 0.999
    assert np.abs(first.confidence.astype(int) - second.confidence).max() <= 1


def test_auto_says_what_it_chose(tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # test_tensorrt.py has the machines with a GPU
    assert open_engine(tiny).name.startswith("openvino ")


def test_an_unknown_backend_names_the_known_ones(tiny: ModelBundle) -> None:
    with pytest.raises(EngineError, match=r"no backend 'cuda'.*auto, tensorrt, openvino, onnxruntime"):
        open_engine(tiny, backend="cuda")


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_frames_of_another_size_are_an_engine_error(tiny: ModelBundle, backend: str) -> None:
    engine = open_engine(tiny, backend=backend)
    with pytest.raises(EngineError, match=r"failed on"):
        engine(np.zeros((1, 32, 32, 3), np.uint8))


def test_the_fake_engine_answers_from_the_pixels() -> None:
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    frames[0, 0, 0] = (20, 77, 3)
    output = FakeEngine()(frames)
    assert output.class_map[0].tolist() == [[1, 0], [0, 0]]  # 20 mod 19
    assert output.confidence[0].tolist() == [[77, 0], [0, 0]]


def test_the_fake_engine_fails_on_magenta() -> None:
    with pytest.raises(EngineError, match="magenta"):
        FakeEngine()(np.full((1, 2, 2, 3), (255, 0, 255), np.uint8))
