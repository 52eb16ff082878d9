"""Generated drives: exact, repeatable, and photographed plausibly."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.synthetic_drive import Scene, SyntheticDrive
from darkseg_ros.synthetic_drive.camera import Camera, clip_to_near

SIZE_HW = (96, 192)


@pytest.fixture(scope="module")
def night_drive() -> SyntheticDrive:
    return SyntheticDrive(seed=3, size_hw=SIZE_HW, night=True)


@pytest.fixture(scope="module")
def day_drive() -> SyntheticDrive:
    return SyntheticDrive(seed=3, size_hw=SIZE_HW, night=False)


@pytest.fixture(scope="module")
def night_scenes(night_drive: SyntheticDrive) -> list[Scene]:
    """One scene each 1.5 s, over two and a half blocks."""
    return [night_drive.frame(index) for index in range(0, 765, 45)]


def mean_luma(scene: Scene) -> float:
    return float(cv2.cvtColor(scene.bgr, cv2.COLOR_BGR2GRAY).mean())


def assert_same_scene(scene: Scene, other: Scene) -> None:
    np.testing.assert_array_equal(scene.bgr, other.bgr)
    np.testing.assert_array_equal(scene.label_map, other.label_map)


def test_frame_does_not_depend_on_frames_drawn_before(night_drive: SyntheticDrive) -> None:
    alone = SyntheticDrive(seed=3, size_hw=SIZE_HW, night=True).frame(10)
    night_drive.frame(400)
    night_drive.frame(9)
    assert_same_scene(night_drive.frame(10), alone)


def test_same_moment_has_the_same_labels_at_any_rate(night_drive: SyntheticDrive) -> None:
    faster = SyntheticDrive(seed=3, size_hw=SIZE_HW, night=True, rate_hz=60.0)
    np.testing.assert_array_equal(faster.frame(40).label_map, night_drive.frame(20).label_map)


def test_seeds_make_different_streets(night_drive: SyntheticDrive) -> None:
    other = SyntheticDrive(seed=4, size_hw=SIZE_HW).frame(0)
    assert (other.label_map != night_drive.frame(0).label_map).mean() > 0.02
    assert (other.bgr != night_drive.frame(0).bgr).any()


@pytest.mark.parametrize("index", [0, 77, 1234])
def test_day_and_night_have_the_same_labels(day_drive: SyntheticDrive, night_drive: SyntheticDrive, index: int) -> None:
    day, night = day_drive.frame(index), night_drive.frame(index)
    np.testing.assert_array_equal(day.label_map, night.label_map)
    assert mean_luma(day) > 2 * mean_luma(night)


def test_every_pixel_has_a_class(night_scenes: list[Scene]) -> None:
    assert all(int(scene.label_map.max()) < len(CITYSCAPES) for scene in night_scenes)


@pytest.mark.parametrize(
    "name",
    [
        "road",
        "sidewalk",
        "building",
        "wall",
        "fence",
        "pole",
        "traffic light",
        "traffic sign",
        "vegetation",
        "terrain",
        "sky",
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "bicycle",
    ],
)
def test_class_occurs_over_a_drive(night_scenes: list[Scene], name: str) -> None:
    assert any((scene.label_map == CITYSCAPES.train_ids[name]).any() for scene in night_scenes)


def test_sky_lies_above_the_horizon_and_flat_ground_below(night_scenes: list[Scene]) -> None:
    horizon = 44  # 0.46 · 96 = 44.16
    flat = [CITYSCAPES.train_ids[name] for name in ("road", "sidewalk", "terrain")]
    for scene in night_scenes:
        assert not (scene.label_map[horizon:] == CITYSCAPES.train_ids["sky"]).any()
        assert not np.isin(scene.label_map[:horizon], flat).any()


def test_road_lies_in_front_of_the_vehicle(night_scenes: list[Scene]) -> None:
    middle = SIZE_HW[1] // 2
    assert all((scene.label_map[-8:, middle] == CITYSCAPES.train_ids["road"]).all() for scene in night_scenes)


def test_night_is_dark_but_not_black(night_scenes: list[Scene]) -> None:
    lumas = [mean_luma(scene) for scene in night_scenes]
    assert min(lumas) > 25.0
    assert max(lumas) < 50.0
    assert 28.0 < float(np.mean(lumas)) < 45.0


def test_headlamps_light_the_road_ahead_by_night(night_scenes: list[Scene]) -> None:
    for scene in night_scenes:
        road = scene.label_map == CITYSCAPES.train_ids["road"]
        sky = scene.label_map == CITYSCAPES.train_ids["sky"]
        assert np.median(scene.bgr[road]) > 1.3 * np.median(scene.bgr[sky])


def test_lamps_glow_by_night(night_scenes: list[Scene]) -> None:
    assert all(int(scene.bgr.max()) > 220 for scene in night_scenes)


def test_day_is_bright(day_drive: SyntheticDrive) -> None:
    assert all(90.0 < mean_luma(day_drive.frame(index)) < 140.0 for index in (0, 150, 300, 450))


def test_drive_moves_as_a_sequence(night_drive: SyntheticDrive) -> None:
    scenes = [night_drive.frame(index) for index in range(100, 112)]
    overlaps = [float((scene.label_map == after.label_map).mean()) for scene, after in pairwise(scenes)]
    assert min(overlaps) > 0.9
    assert max(overlaps) < 1.0
    assert (scenes[0].label_map == scenes[-1].label_map).mean() < min(overlaps)


def test_noise_is_new_in_each_frame(night_drive: SyntheticDrive) -> None:
    first, second = night_drive.frame(0), night_drive.frame(1)
    sky = (first.label_map == second.label_map) & (first.label_map == CITYSCAPES.train_ids["sky"])
    assert (first.bgr[sky] != second.bgr[sky]).mean() > 0.3


@pytest.mark.parametrize(
    ("size_hw", "night"), [((16, 16), True), ((17, 61), False), ((90, 16), True), ((16, 200), False)]
)
def test_any_size_from_16_pixels_is_drawn(size_hw: tuple[int, int], night: bool) -> None:
    scene = SyntheticDrive(seed=1, size_hw=size_hw, night=night).frame(5)
    assert scene.bgr.shape == (*size_hw, 3)
    assert scene.label_map.shape == size_hw
    assert scene.bgr.dtype == scene.label_map.dtype == np.uint8


@pytest.mark.parametrize("size_hw", [(15, 16), (16, 15), (0, 0), (-512, 1024)])
def test_smaller_sizes_are_refused(size_hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 16 x 16"):
        SyntheticDrive(size_hw=size_hw)


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan"), float("inf")])
def test_rates_that_are_no_rate_are_refused(rate_hz: float) -> None:
    with pytest.raises(ValueError, match="rate_hz above 0"):
        SyntheticDrive(rate_hz=rate_hz)


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed of 0 or more"):
        SyntheticDrive(seed=-1)


def test_negative_index_is_refused(night_drive: SyntheticDrive) -> None:
    with pytest.raises(ValueError, match="index of 0 or more"):
        night_drive.frame(-1)


def test_ground_ten_metres_ahead_is_seen_where_the_pinhole_puts_it() -> None:
    # focal length 0.8 · 1024 = 819.2 px; 1.4 m below the axis at 10 m: 114.7 px under the horizon at row 236
    camera = Camera(size_hw=(512, 1024), x_m=2.0, z_m=50.0, bend_per_m=0.0, heading_rad=0.0)
    pixels = camera.to_pixels(camera.to_camera(np.array([(2.0, 0.0, 60.0), (3.0, 1.4, 60.0)])))
    np.testing.assert_allclose(pixels, [(512.0, 236 + 114.688), (512.0 + 81.92, 236.0)])


def test_bend_moves_what_is_far_sideways() -> None:
    # half of 1/200 per metre times (20 m)² is 1 m to the right
    camera = Camera(size_hw=(512, 1024), x_m=0.0, z_m=0.0, bend_per_m=1 / 200, heading_rad=0.0)
    np.testing.assert_allclose(camera.to_camera(np.array([(0.0, 1.4, 20.0)])), [(1.0, 0.0, 20.0)])


def test_polygon_is_cut_at_the_near_plane() -> None:
    # a strip of ground from 2 m behind to 6 m ahead keeps what is 2 m or more ahead
    strip = np.array([(-1.0, 0.0, -2.0), (1.0, 0.0, -2.0), (1.0, 0.0, 6.0), (-1.0, 0.0, 6.0)])
    np.testing.assert_allclose(clip_to_near(strip), [(1, 0, 2), (1, 0, 6), (-1, 0, 6), (-1, 0, 2)])
    assert clip_to_near(strip - (0.0, 0.0, 5.0)).shape == (0, 3)
