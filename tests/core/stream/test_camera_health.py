from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from darkseg_ros.stream.camera_health import (
    CameraCondition,
    CameraFault,
    CameraHealth,
    HealthThresholds,
    camera_values,
)
from darkseg_ros.synthetic_drive import SyntheticDrive
from tests.core.stream.lens_covers import Side, half_covered, with_noise

DARK, OVER_EXPOSED, BLOCKED, FROZEN = CameraFault
SIZE_HW = (128, 256)
Frames = Callable[[int], np.ndarray]
"""From a frame's number to its picture."""


@pytest.fixture(scope="module")
def day_frames() -> list[np.ndarray]:
    drive = SyntheticDrive(seed=1, size_hw=SIZE_HW, night=False)
    return [drive.frame(index).bgr for index in range(12)]


@pytest.fixture(scope="module")
def night_frames() -> list[np.ndarray]:
    drive = SyntheticDrive(seed=2, size_hw=SIZE_HW, night=True)
    return [drive.frame(index).bgr for index in range(12)]


def flat_frame(level: int, *, seed: int, sigma: float = 4.0) -> np.ndarray:
    return with_noise(np.full((*SIZE_HW, 3), float(level)), seed=seed, sigma=sigma)


def last_condition(frames: list[np.ndarray]) -> CameraCondition:
    health = CameraHealth()
    return [health.check(frame) for frame in frames][-1]


def faults_over(
    frames: Iterator[np.ndarray], thresholds: HealthThresholds | None = None
) -> list[frozenset[CameraFault]]:
    health = CameraHealth(thresholds)
    return [health.check(frame).faults for frame in frames]


@pytest.mark.parametrize("night", [False, True], ids=["day", "night"])
@pytest.mark.parametrize("seed", range(4))
def test_a_drive_is_healthy_by_day_and_by_night(seed: int, night: bool) -> None:
    drive = SyntheticDrive(seed=seed, size_hw=SIZE_HW, night=night)
    assert set(faults_over(drive.frame(3 * index).bgr for index in range(12))) == {frozenset()}


def test_a_night_frame_of_two_lamps_in_black_is_not_dark() -> None:
    def frame(index: int) -> np.ndarray:
        bgr = np.full((512, 1024, 3), 3, np.uint8)
        for left in (300, 700):
            cv2.circle(bgr, (left + index, 250), 25, (120, 160, 180), -1)
        return bgr

    assert set(faults_over(frame(index) for index in range(20))) == {frozenset()}


@pytest.mark.parametrize("sigma", [2.0, 8.0, 16.0])
@pytest.mark.parametrize("level", [0, 10])
def test_a_lens_cap_is_dark_whatever_the_sensors_noise(level: int, sigma: float) -> None:
    assert last_condition([flat_frame(level, seed=seed, sigma=sigma) for seed in range(8)]).faults == {DARK}


def test_a_lens_cap_put_on_by_night_is_dark(night_frames: list[np.ndarray]) -> None:
    capped = [with_noise(frame * 0.02, seed=seed) for seed, frame in enumerate(night_frames)]
    assert last_condition(capped).faults == {DARK}


def test_a_saturated_frame_is_over_exposed_and_not_called_blocked(day_frames: list[np.ndarray]) -> None:
    saturated = [np.clip(frame.astype(np.float32) * 6 + 60, 0, 255).astype(np.uint8) for frame in day_frames]
    condition = last_condition(saturated)
    assert condition.faults == {OVER_EXPOSED}
    assert condition.over_exposed_share > 0.5


def test_one_saturated_quarter_is_no_fault(day_frames: list[np.ndarray]) -> None:
    def with_low_sun(frame: np.ndarray) -> np.ndarray:
        glaring = frame.copy()
        glaring[: SIZE_HW[0] // 2, : SIZE_HW[1] // 2] = 255
        return glaring

    condition = last_condition([with_low_sun(frame) for frame in day_frames])
    assert condition.healthy
    assert condition.over_exposed_share == 0.25


@pytest.mark.parametrize("level", [0, 60, 150])
def test_dirt_over_half_of_the_lens_by_day_is_blocked(day_frames: list[np.ndarray], level: int) -> None:
    covered = [half_covered(frame, level=level, seed=seed) for seed, frame in enumerate(day_frames)]
    assert last_condition(covered).faults == {BLOCKED}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("level", [0, 10, 40])
def test_a_cover_over_half_of_the_lens_by_night_is_blocked_however_dark_it_is(
    night_frames: list[np.ndarray], side: Side, level: int
) -> None:
    covered = [half_covered(frame, side=side, level=level, seed=seed) for seed, frame in enumerate(night_frames)]
    condition = last_condition(covered)
    assert condition.faults == {BLOCKED}
    assert condition.covered_share in (7 / 16, 8 / 16)


def test_a_black_lower_half_may_be_the_vehicles_own(night_frames: list[np.ndarray]) -> None:
    covered = [half_covered(frame, side="lower", seed=seed) for seed, frame in enumerate(night_frames)]
    assert last_condition(covered).healthy


def test_a_cover_over_a_quarter_of_the_lens_is_none_over_half(night_frames: list[np.ndarray]) -> None:
    covered = [half_covered(frame, share=0.25, seed=seed) for seed, frame in enumerate(night_frames)]
    assert last_condition(covered).covered_share == pytest.approx(0.25, abs=1 / 16)
    assert last_condition(covered).healthy


def test_a_cover_that_is_wiped_off_ends_the_fault(night_frames: list[np.ndarray]) -> None:
    covered = [half_covered(frame, seed=seed) for seed, frame in enumerate(night_frames)]
    faults = faults_over(iter([*covered, *night_frames]))
    assert (faults[11], faults[-1]) == (frozenset({BLOCKED}), frozenset())


def test_lit_dirt_over_half_of_the_lens_by_night_is_blocked(night_frames: list[np.ndarray]) -> None:
    covered = [half_covered(frame, level=70, seed=seed) for seed, frame in enumerate(night_frames)]
    assert last_condition(covered).faults == {BLOCKED}


def test_a_textureless_wall_of_light_is_blocked_and_not_dark() -> None:
    condition = last_condition([flat_frame(120, seed=seed) for seed in range(8)])
    assert condition.faults == {BLOCKED}
    assert condition.blocked_share == 1.0


def test_the_blocked_share_is_of_all_tiles_below_the_sky_also_of_those_too_dark_to_judge() -> None:
    """One of eight columns of tiles is lit and flat, the others are black: 3 of the 24 tiles below the sky."""
    frame = np.zeros((*SIZE_HW, 3), np.uint8)
    frame[:, : SIZE_HW[1] // 8] = 100
    assert last_condition([frame]).blocked_share == 3 / 24


def test_dirt_in_the_sky_is_not_told_from_the_sky(day_frames: list[np.ndarray]) -> None:
    def with_grey_sky(frame: np.ndarray) -> np.ndarray:
        overcast = frame.copy()
        overcast[: SIZE_HW[0] // 4] = 150
        return overcast

    before, after = last_condition(day_frames), last_condition([with_grey_sky(frame) for frame in day_frames])
    assert after.healthy
    assert after.blocked_share == pytest.approx(before.blocked_share, abs=1 / 24)


# --- frozen


def repeats_of(frames: Iterator[np.ndarray]) -> list[int]:
    health = CameraHealth()
    return [health.check(frame).repeats for frame in frames]


def test_frozen_begins_with_the_tenth_repeat_and_ends_after_five_new_frames(day_frames: list[np.ndarray]) -> None:
    stream = [day_frames[0]] * 13 + day_frames[1:8]
    frozen = [FROZEN in faults for faults in faults_over(iter(stream))]
    assert frozen == [False] * 10 + [True] * 3 + [True] * 4 + [False] * 3


def test_a_standing_camera_with_sensor_noise_is_not_frozen(day_frames: list[np.ndarray]) -> None:
    assert set(repeats_of(with_noise(day_frames[0], seed=seed, sigma=0.5) for seed in range(30))) == {0}


def test_a_driver_that_sends_each_frame_three_times_is_not_frozen(day_frames: list[np.ndarray]) -> None:
    stream = [frame for frame in day_frames for _ in range(3)]
    assert set(faults_over(iter(stream))) == {frozenset()}
    assert repeats_of(iter(stream[:6])) == [0, 1, 2, 0, 1, 2]


def test_a_change_of_size_ends_frozen_at_once(day_frames: list[np.ndarray]) -> None:
    health = CameraHealth()
    for _ in range(15):
        frozen = health.check(day_frames[0])
    assert frozen.faults == {FROZEN}
    smaller = health.check(day_frames[0][:-2])
    assert (smaller.faults, smaller.repeats) == (frozenset(), 0)
    assert health.check(day_frames[0]).repeats == 0


def test_a_caller_that_reuses_its_buffer_is_not_frozen(day_frames: list[np.ndarray]) -> None:
    buffer = np.empty_like(day_frames[0])

    def filled(frame: np.ndarray) -> np.ndarray:
        buffer[...] = frame
        return buffer

    assert repeats_of(filled(frame) for frame in day_frames) == [0] * len(day_frames)


# --- hysteresis


def test_four_flashes_in_a_row_are_no_fault_and_five_are() -> None:
    def dark_after(count: int) -> list[bool]:
        capped = [flat_frame(0, seed=seed) for seed in range(count)]
        return [DARK in faults for faults in faults_over(iter(capped))]

    assert dark_after(4) == [False] * 4
    assert dark_after(6) == [False] * 4 + [True] * 2


def test_one_clear_frame_restarts_the_count(day_frames: list[np.ndarray]) -> None:
    capped = [flat_frame(0, seed=seed) for seed in range(8)]
    stream = capped[:4] + day_frames[:1] + capped[4:]
    assert not any(DARK in faults for faults in faults_over(iter(stream)))


def test_a_fault_ends_with_the_fifth_clear_frame(day_frames: list[np.ndarray]) -> None:
    stream = [flat_frame(0, seed=seed) for seed in range(5)] + day_frames[:6]
    assert [DARK in faults for faults in faults_over(iter(stream))] == [False] * 4 + [True] * 5 + [False] * 2


@pytest.mark.parametrize("before", ["healthy", "over-exposed"])
def test_between_the_thresholds_nothing_changes(day_frames: list[np.ndarray], before: str) -> None:
    def saturated(share: float, frame: np.ndarray) -> np.ndarray:
        glaring = frame.copy()
        glaring[:, : int(SIZE_HW[1] * share)] = 255
        return glaring

    start = 0.75 if before == "over-exposed" else 0.0
    stream = [saturated(start, frame) for frame in day_frames] + [saturated(0.45, frame) for frame in day_frames]
    faults = faults_over(iter(stream))
    assert faults[11] == faults[-1] == (frozenset({OVER_EXPOSED}) if start else frozenset())


@given(
    exposed=st.lists(st.booleans(), min_size=1, max_size=40),
    enter_frames=st.integers(1, 6),
    leave_frames=st.integers(1, 6),
)
@settings(deadline=None, max_examples=60)
def test_a_fault_changes_only_after_as_many_signs_in_a_row(
    exposed: list[bool], enter_frames: int, leave_frames: int
) -> None:
    thresholds = HealthThresholds(enter_frames=enter_frames, leave_frames=leave_frames, frozen_repeats=1000)
    white, grey = np.full((16, 16, 3), 255, np.uint8), np.full((16, 16, 3), 128, np.uint8)
    held = [OVER_EXPOSED in faults for faults in faults_over((white if it else grey for it in exposed), thresholds)]
    for index, (before, after) in enumerate(itertools.pairwise([False, *held])):
        needed = leave_frames if before else enter_frames
        if after != before:
            assert exposed[max(0, index + 1 - needed) : index + 1] == [after] * needed


@given(before=st.lists(st.booleans(), max_size=12), sign=st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_lasting_state_is_always_told_in_the_end(before: list[bool], sign: bool) -> None:
    white, grey = np.full((16, 16, 3), 255, np.uint8), np.full((16, 16, 3), 128, np.uint8)
    stream = [*before, *[sign] * 5]
    assert (OVER_EXPOSED in faults_over(white if it else grey for it in stream)[-1]) == sign


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dark_contrast_enter": 30.0}, "dark_contrast_leave"),
        ({"over_exposed_share_leave": 0.6}, "over_exposed_share_leave"),
        ({"blocked_share_leave": 0.9}, "blocked_share_leave"),
        ({"covered_share_leave": 0.5}, "covered_share_leave"),
        ({"enter_frames": 0}, "enter_frames is 0, expected 1 or more"),
    ],
)
def test_thresholds_that_contradict_each_other_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HealthThresholds(**wrong)  # type: ignore[arg-type]


# --- any input


@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)).flatmap(
        lambda size_hw: arrays.arrays(np.uint8, (*size_hw, 3), elements=st.integers(0, 255), fill=st.integers(0, 255))
    )
)
@settings(deadline=None, max_examples=150)
def test_any_frame_gets_figures_within_their_ranges(bgr: np.ndarray) -> None:
    before = bgr.copy()
    condition = CameraHealth(HealthThresholds(enter_frames=1)).check(bgr)
    assert 0 <= condition.median_level <= 255
    assert 0 <= condition.contrast <= 255
    assert 0 <= condition.over_exposed_share <= 1
    assert 0 <= condition.blocked_share <= 1
    assert 0 <= condition.covered_share < 1
    assert not {DARK, OVER_EXPOSED} <= condition.faults
    assert condition.healthy == (condition.summary == "healthy")
    np.testing.assert_array_equal(bgr, before)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 2000), (2000, 1), (31, 63), (33, 65), (287, 574)])
def test_every_size_can_be_judged(size_hw: tuple[int, int]) -> None:
    white = np.full((*size_hw, 3), 255, np.uint8)
    assert last_condition([white] * 5).faults == {OVER_EXPOSED}


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
    ids=["grey", "float", "empty"],
)
def test_what_is_no_bgr_frame_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8"):
        CameraHealth().check(wrong)


def test_a_view_with_strides_is_judged_as_its_copy(day_frames: list[np.ndarray]) -> None:
    mirrored = day_frames[0][:, ::-1]
    assert CameraHealth().check(mirrored) == CameraHealth().check(np.ascontiguousarray(mirrored))


def test_the_summary_names_every_fault_with_its_figure() -> None:
    black = np.zeros((8, 8, 3), np.uint8)
    assert last_condition([black] * 11).summary == (
        "dark: nothing stands out by more than 0 levels; frozen: the same frame 10 times again"
    )


@pytest.mark.parametrize(("size_hw", "budget_ms"), [((512, 1024), 1.0), ((1024, 2048), 2.0)])
def test_a_check_stays_within_its_budget(size_hw: tuple[int, int], budget_ms: float) -> None:
    health = CameraHealth()
    frames = [np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8) for seed in range(2)]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        cpu_ms = []
        for index in range(40):
            started = time.thread_time()
            health.check(frames[index % 2])
            cpu_ms.append((time.thread_time() - started) * 1000)
    finally:
        cv2.setNumThreads(threads)
    # CPU time of this thread: a busy machine hardly lengthens it (0.15 ms measured on 2026-11-22)
    assert float(np.median(cpu_ms)) < budget_ms


def share_frame(share: float, *, inside: int, outside: int) -> np.ndarray:
    """Columns of one level from the left, the others of another."""
    bgr = np.full((*SIZE_HW, 3), outside, np.uint8)
    bgr[:, : round(share * SIZE_HW[1])] = inside
    return bgr


def faults_at(frame: np.ndarray, **limits: float) -> frozenset[CameraFault]:
    return CameraHealth(HealthThresholds(enter_frames=1, leave_frames=1, **limits)).check(frame).faults


def test_a_figure_that_just_reaches_its_threshold_begins_no_fault() -> None:
    dark = share_frame(0.25, inside=20, outside=10)  # contrast 10 at a median of 10
    assert DARK not in faults_at(dark, dark_contrast_enter=10)
    assert DARK in faults_at(dark, dark_contrast_enter=10.5)
    assert DARK not in faults_at(dark, dark_contrast_enter=14, lit_level=10)
    bright, shares = share_frame(0.25, inside=255, outside=100), {"over_exposed_share_leave": 0.2}
    assert OVER_EXPOSED not in faults_at(bright, over_exposed_share_enter=0.25, **shares)
    assert OVER_EXPOSED in faults_at(bright, over_exposed_share_enter=0.24, **shares)
    assert OVER_EXPOSED in faults_at(bright, over_exposed_share_enter=0.24, over_exposed_level=255, **shares)
    assert OVER_EXPOSED not in faults_at(bright, over_exposed_share_enter=0.24, over_exposed_level=255.5, **shares)


def test_a_figure_that_just_reaches_its_threshold_ends_no_fault() -> None:
    bright = share_frame(0.75, inside=255, outside=100)
    limits = HealthThresholds(enter_frames=1, leave_frames=1, over_exposed_share_leave=0.25)
    health = CameraHealth(limits)
    assert OVER_EXPOSED in health.check(bright).faults
    assert OVER_EXPOSED in health.check(share_frame(0.25, inside=255, outside=100)).faults
    assert OVER_EXPOSED not in health.check(share_frame(0.2, inside=255, outside=100)).faults


def test_diagnostics_hold_a_summary_and_three_digits_of_every_figure() -> None:
    condition = CameraHealth().check(share_frame(0.25, inside=255, outside=100))
    assert camera_values(condition) == {
        "camera": "healthy",
        "camera_median_level": "100",
        "camera_contrast": "155",
        "camera_over_exposed_share": "0.25",
        "camera_blocked_share": f"{condition.blocked_share:.3g}",
        "camera_repeats": "0",
        "camera_covered_share": f"{condition.covered_share:.3g}",
    }
    assert camera_values(None) == {"camera": ""}


def test_cameras_are_judged_by_the_thresholds_that_real_frames_were_judged_by() -> None:
    """Others would make the published count of healthy night frames untrue."""
    assert asdict(HealthThresholds()) == {
        "lit_level": 25,
        "dark_contrast_enter": 14,
        "dark_contrast_leave": 20,
        "over_exposed_level": 250,
        "over_exposed_share_enter": 0.5,
        "over_exposed_share_leave": 0.4,
        "texture_level": 2.5,
        "daylit_level": 60,
        "blocked_share_enter": 0.4,
        "blocked_share_leave": 0.3,
        "detail_level": 1.6,
        "covered_share_enter": 0.4,
        "covered_share_leave": 0.35,
        "frozen_repeats": 10,
        "enter_frames": 5,
        "leave_frames": 5,
    }


def test_a_fault_may_end_where_it_begins_and_counts_begin_at_one() -> None:
    HealthThresholds(
        dark_contrast_leave=14,
        over_exposed_share_leave=0.5,
        blocked_share_leave=0.4,
        covered_share_leave=0.4,
        frozen_repeats=1,
        enter_frames=1,
        leave_frames=1,
    )
    for name in ("frozen_repeats", "leave_frames"):
        with pytest.raises(ValueError, match=f"{name} is 0, expected 1 or more"):
            HealthThresholds(**{name: 0})


CELL_PX = 4


def cells_frame(levels: np.ndarray) -> np.ndarray:
    """A frame whose 32 × 64 cells have these grey levels."""
    grey = levels.astype(np.uint8).repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)
    return np.repeat(grey[..., None], 3, axis=2)


def checked(level: float, contrast: float) -> np.ndarray:
    """Cells like a chessboard: of root mean square `contrast` around the level."""
    rows, columns = np.mgrid[:32, :64]
    return level + contrast * (-1.0) ** (rows + columns)


def blocked_share(levels: np.ndarray) -> float:
    return last_condition([cells_frame(levels)]).blocked_share


def flat_tiles(count: int) -> np.ndarray:
    """A textured frame with so many flat tiles below the sky, none at its sides."""
    levels = checked(100, 20)
    for tile in range(count):
        row, column = 1 + tile // 6, 1 + tile % 6
        levels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 100
    return cells_frame(levels)


def covered(strips: int, side: Side = "left") -> np.ndarray:
    """An unlit frame of faint detail that shows nothing in so many of its 16 strips."""
    levels = checked(8, 4)
    levels[:, : 4 * strips] = 8
    return cells_frame(levels if side == "left" else levels[:, ::-1])


def blocked_after(*frames: np.ndarray) -> list[bool]:
    health = CameraHealth(HealthThresholds(enter_frames=1, leave_frames=1))
    return [BLOCKED in health.check(frame).faults for frame in frames]


def test_a_lens_is_blocked_above_two_fifths_of_the_tiles_until_less_than_three_tenths_are() -> None:
    assert last_condition([flat_tiles(9)]).blocked_share == 9 / 24
    assert blocked_after(flat_tiles(9), flat_tiles(10), flat_tiles(8), flat_tiles(7)) == [False, True, True, False]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_lens_is_covered_above_two_fifths_of_its_width_until_less_than_a_third_is(side: Side) -> None:
    assert last_condition([covered(6, side)]).covered_share == 6 / 16
    stream = [covered(strips, side) for strips in (6, 7, 6, 5)]
    assert blocked_after(*stream) == [False, True, True, False]


def test_a_lens_is_blocked_until_neither_tiles_nor_sides_say_so() -> None:
    assert blocked_after(covered(8), flat_tiles(8), covered(6), flat_tiles(0)) == [True, True, True, False]


def test_a_frame_that_shows_nothing_anywhere_is_covered_from_no_side() -> None:
    assert last_condition([covered(16)]).covered_share == 0
    assert last_condition([covered(15)]).covered_share == 15 / 16


@pytest.mark.parametrize(("contrast", "share"), [(2, 1.0), (3, 0.0)])
def test_texture_is_what_deviates_by_more_than_its_level(contrast: float, share: float) -> None:
    assert blocked_share(checked(100, contrast)) == share


@pytest.mark.parametrize(("contrast", "strips"), [(1, 0), (2, 8)])
def test_detail_is_what_deviates_by_more_than_its_level(contrast: float, strips: int) -> None:
    levels = checked(8, contrast)
    levels[:, :32] = 8
    assert last_condition([cells_frame(levels)]).covered_share == strips / 16


@pytest.mark.parametrize(("level", "share"), [(25, 0.0), (26, 1.0), (249, 1.0), (250, 0.0)])
def test_only_what_is_lit_and_not_saturated_ought_to_show_texture(level: int, share: float) -> None:
    assert blocked_share(np.full((32, 64), level)) == share


@pytest.mark.parametrize(("level", "tiles", "share"), [(61, 8, 1.0), (60, 8, 0.0), (61, 7, 0.0)])
def test_by_day_what_is_dark_ought_to_show_texture_too(level: int, tiles: int, share: float) -> None:
    """By day a quarter of the tiles, eight of 32, are brighter than 60; here those of the sky."""
    levels = np.full((32, 64), 10)
    levels[:8, : 8 * tiles] = level
    assert blocked_share(levels) == share


def test_brightness_that_changes_evenly_is_no_texture() -> None:
    rows, columns = np.mgrid[:32, :64]
    assert blocked_share(60 + 2 * columns) == blocked_share(60 + 3 * rows) == blocked_share(60 + columns + rows) == 1.0


def test_a_saturated_side_is_not_covered() -> None:
    levels = checked(8, 4)
    levels[:, :32] = 250
    assert last_condition([cells_frame(levels)]).covered_share == 0
    levels[:, :32] = 249
    assert last_condition([cells_frame(levels)]).covered_share == 8 / 16


@pytest.mark.parametrize(("cells", "contrast"), [(20, 0), (21, 150)])
def test_contrast_is_that_of_the_brightest_hundredth(cells: int, contrast: float) -> None:
    levels = np.full((32, 64), 50)
    levels.flat[:cells] = 200
    assert last_condition([cells_frame(levels)]).contrast == contrast


def test_a_dark_frame_is_dark_until_something_stands_out_or_it_is_lit() -> None:
    def dark_after(last: np.ndarray) -> bool:
        health = CameraHealth(HealthThresholds(enter_frames=1, leave_frames=1))
        assert DARK in health.check(share_frame(0.25, inside=23, outside=10)).faults
        return DARK in health.check(last).faults

    assert dark_after(share_frame(0.25, inside=30, outside=10))
    assert not dark_after(share_frame(0.25, inside=31, outside=10))
    assert dark_after(share_frame(0.25, inside=24, outside=24))
    assert not dark_after(share_frame(0.25, inside=25, outside=25))


@pytest.mark.parametrize("row", [0, 1, 29, 30, 58, 59])
def test_one_byte_that_changes_anywhere_in_a_small_frame_tells_it_from_a_frozen_one(row: int) -> None:
    frame = np.full((60, 80, 3), 90, np.uint8)
    other = frame.copy()
    other[row, -1, 2] = 91
    assert repeats_of(iter([frame, frame, other, other, frame])) == [0, 1, 0, 1, 0]


def test_noise_in_every_other_row_of_a_large_frame_tells_it_from_a_frozen_one() -> None:
    frames = [np.full((720, 40, 3), 90, np.uint8) for _ in range(3)]
    for seed, frame in enumerate(frames):
        frame[:, 0] += np.random.default_rng(seed).integers(0, 2, (720, 3), np.uint8)
    assert repeats_of(iter(frames)) == [0, 0, 0]


def test_summaries_of_light_and_dirt_hold_their_shares() -> None:
    white = CameraHealth(HealthThresholds(enter_frames=1)).check(np.full((8, 8, 3), 255, np.uint8))
    assert white.summary == "over_exposed: 100% of the frame is saturated"
    wall = CameraHealth(HealthThresholds(enter_frames=1)).check(flat_tiles(18))
    assert wall.summary == "blocked: 75% of the tiles without texture, 0% from one side without any detail"
