from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.errors import EngineError
from darkseg_ros.model.backends import EngineOutput
from darkseg_ros.model.segmenter import Segmenter, postprocess, preprocess
from tests.bundles import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (64, 128), (287, 574), (513, 1023), (31, 2000)])
def test_both_maps_have_the_camera_geometry(bundle_folder: Path, size_hw: tuple[int, int]) -> None:
    bgr = np.zeros((*size_hw, 3), np.uint8)
    answer = Segmenter.open(bundle_folder, backend="onnxruntime")(bgr)
    assert answer.class_map.shape == answer.confidence.shape == size_hw
    assert answer.class_map.dtype == answer.confidence.dtype == np.uint8
    assert (answer.class_map == 0).all()  # black is road in the tiny bundle
    assert answer.inference_ms > 0


@pytest.mark.parametrize("size_hw", [(128, 256), (255, 511), (64, 128), (97, 1021)])
def test_the_mask_is_not_shifted(bundle_folder: Path, size_hw: tuple[int, int]) -> None:
    """A vertical and a horizontal edge come back where they were, within one network pixel."""
    height, width = size_hw
    bgr = np.zeros((height, width, 3), np.uint8)
    bgr[: height // 2, : width // 2, 0] = 255
    class_map = Segmenter.open(bundle_folder, backend="openvino")(bgr).class_map
    slack_y, slack_x = np.ceil(4 * height / 64).astype(int), np.ceil(4 * width / 128).astype(int)
    assert (class_map[: height // 2 - slack_y, : width // 2 - slack_x] == 10).all()
    assert (class_map[height // 2 + slack_y :] == 0).all()
    assert (class_map[:, width // 2 + slack_x :] == 0).all()


def test_pixels_below_the_minimum_confidence_are_unlabelled(bundle_folder: Path) -> None:
    bgr = np.zeros((64, 128, 3), np.uint8)
    bgr[:, :64, 1] = 100  # confidence of the fake engine: 100 left, 0 right
    segmenter = Segmenter.open(bundle_folder, backend="fake", min_confidence=0.3)
    class_map = segmenter(bgr).class_map
    assert (class_map[:, :64] == 0).all()
    assert (class_map[:, 64:] == 255).all()
    segmenter.min_confidence = 0.5
    assert (segmenter(bgr).class_map == 255).all()


def test_a_pixel_exactly_at_the_minimum_confidence_keeps_its_class(bundle_folder: Path) -> None:
    bgr = np.zeros((64, 128, 3), np.uint8)
    bgr[:, :64, 1], bgr[:, 64:, 1] = 51, 50
    segmenter = Segmenter.open(bundle_folder, backend="fake", min_confidence=0.2)
    assert segmenter.min_confidence * 255 == 51  # in floating point too
    class_map = segmenter(bgr).class_map
    assert (class_map[:, :64] == 0).all()
    assert (class_map[:, 64:] == 255).all()


@pytest.mark.parametrize(
    "bgr",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_frame_are_refused(bundle_folder: Path, bgr: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8 BGR"):
        Segmenter.open(bundle_folder, backend="fake")(bgr)


def test_frames_of_different_sizes_in_one_batch_get_each_the_answer_they_get_alone(bundle_folder: Path) -> None:
    rng = np.random.default_rng(2)
    bgrs = [rng.integers(0, 255, (*hw, 3)).astype(np.uint8) for hw in ((64, 128), (1, 1), (97, 131), (300, 200))]
    segmenter = Segmenter.open(bundle_folder, backend="onnxruntime", min_confidence=0.1)
    alone = [segmenter(bgr) for bgr in bgrs]
    for bgr, single, answer in zip(bgrs, alone, segmenter.segment_batch(bgrs), strict=True):
        assert answer.class_map.shape == answer.confidence.shape == bgr.shape[:2]
        np.testing.assert_array_equal(answer.class_map, single.class_map)
        np.testing.assert_array_equal(answer.confidence, single.confidence)


def test_a_batch_is_one_call_of_the_engine_and_an_empty_one_is_refused(bundle_folder: Path) -> None:
    segmenter = Segmenter.open(bundle_folder, backend="fake")
    sizes = []
    engine = segmenter.engine

    def counting(frames: np.ndarray) -> EngineOutput:
        sizes.append(len(frames))
        return engine(frames)

    segmenter.engine = counting
    segmenter.segment_batch([np.zeros((4, 4, 3), np.uint8)] * 3)
    assert sizes == [3]
    with pytest.raises(ValueError, match="got none"):
        segmenter.segment_batch([])


def test_the_confidence_is_stretched_to_the_camera_once_and_not_shifted(bundle_folder: Path) -> None:
    bgr = np.zeros((128, 256, 3), np.uint8)
    bgr[:, :128, 1] = 100
    answer = Segmenter.open(bundle_folder, backend="fake")(bgr)
    assert answer.engine_confidence.shape == (64, 128)
    assert (answer.confidence[:, :124] == 100).all()
    assert (answer.confidence[:, 132:] == 0).all()
    assert answer.confidence is answer.confidence


@pytest.mark.parametrize("min_confidence", [0.0, 0.5])
def test_maps_are_written_where_they_are_wanted(bundle_folder: Path, min_confidence: float) -> None:
    segmenter = Segmenter.open(bundle_folder, backend="fake", min_confidence=min_confidence)
    segmentation = segmenter(np.random.default_rng(0).integers(0, 256, (30, 50, 3)).astype(np.uint8))
    memory = np.zeros(2 * 30 * 50 + 7, np.uint8)
    class_map, confidence = memory[7 : 7 + 1500].reshape(30, 50), memory[7 + 1500 :].reshape(30, 50)
    segmentation.write_class_map(class_map)
    segmentation.write_confidence(confidence)
    np.testing.assert_array_equal(class_map, segmentation.class_map)
    np.testing.assert_array_equal(confidence, segmentation.confidence)
    assert (class_map == 255).any() == (min_confidence > 0)
    assert not memory[:7].any()


def test_the_frame_is_left_as_it_was(bundle_folder: Path) -> None:
    bgr = np.random.default_rng(0).integers(0, 255, (50, 60, 3)).astype(np.uint8)
    before = bgr.copy()
    Segmenter.open(bundle_folder, backend="openvino")(bgr)
    np.testing.assert_array_equal(bgr, before)


def test_preprocess_stretches_and_postprocess_inverts_it() -> None:
    bgr = np.zeros((2, 4, 3), np.uint8)
    bgr[0] = 200
    frames = preprocess(bgr, (4, 8))
    assert frames.shape == (1, 4, 8, 3)
    back, _ = postprocess(EngineOutput((frames[..., 0] > 100).astype(np.uint8), frames[..., 0]), (2, 4), CITYSCAPES)
    assert back.tolist() == [[1, 1, 1, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize("camera_hw", [(96, 128), (7, 5), (4, 6), (50, 70)])
def test_a_stretched_class_map_holds_the_class_of_the_nearest_pixel_and_invents_none(
    camera_hw: tuple[int, int],
) -> None:
    network_hw = (12, 18)
    class_map = np.random.default_rng(0).integers(0, 19, (1, *network_hw)).astype(np.uint8)
    rows, columns = (
        np.floor((np.arange(size) + 0.5) * network / size).astype(int)
        for size, network in zip(camera_hw, network_hw, strict=True)
    )
    stretched, _ = postprocess(EngineOutput(class_map, class_map), camera_hw, CITYSCAPES)
    np.testing.assert_array_equal(stretched, class_map[0][np.ix_(rows, columns)])


def test_a_class_that_does_not_exist_is_no_answer() -> None:
    answer = np.full((1, 2, 2), 19, np.uint8)
    with pytest.raises(EngineError, match="answered class 19"):
        postprocess(EngineOutput(answer, answer), (2, 2), CITYSCAPES)
