from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.errors import EngineError
from darkseg_ros.model import compiled_library
from darkseg_ros.model.backends.finish import kernel as kernel_module
from darkseg_ros.model.backends.finish import logits_finish
from darkseg_ros.model.backends.finish.kernel import INSTRUCTION_SETS, FinishKernel, check, kernel_library
from darkseg_ros.model.backends.finish.logits_finish import fastest_finish, finish_logits, is_slow
from darkseg_ros.model.backends.finish.numpy_finish import axis_blend, finish_logits_numpy
from darkseg_ros.model.backends.finish.opencv_finish import finish_logits_opencv

LANES = 8
"""Source pixels that the kernel takes at a time, at most."""

ROUNDING = 4e-6
"""Relative; float32 interpolation in any order stays within it, `align_corners` at these sizes included."""

Finish = Callable[..., tuple[np.ndarray, np.ndarray]]


def kernels() -> list[FinishKernel]:
    """One for each instruction set that this processor has."""
    best = FinishKernel(kernel_library()).instruction_set
    return [FinishKernel(kernel_library(), instruction_set=number) for number in range(best + 1)]


def finish_logits_compiled(logits: np.ndarray, **options: float) -> tuple[np.ndarray, np.ndarray]:
    """The kernel's answer, the same whatever the instruction set."""
    first, *others = [kernel(logits, **options) for kernel in kernels()]
    for other in others:
        np.testing.assert_array_equal(other[0], first[0])
        np.testing.assert_array_equal(other[1], first[1])
    return first


both_finishes = pytest.mark.parametrize("finish", [finish_logits_compiled, finish_logits_numpy])
both_alignments = pytest.mark.parametrize("align_corners", [False, True])
sizes = {"classes": st.integers(1, 21), "height": st.integers(1, 9), "width": st.integers(1, 40)}


def interpolate_with_torch(planes: np.ndarray, *, align_corners: bool) -> np.ndarray:
    """(K, h, w) → (K, 4h, 4w) by an independent implementation."""
    torch = pytest.importorskip("torch")
    size = (planes.shape[1] * 4, planes.shape[2] * 4)
    batch = torch.from_numpy(np.ascontiguousarray(planes))[None]
    full = torch.nn.functional.interpolate(batch, size=size, mode="bilinear", align_corners=align_corners)
    return full[0].numpy()


def expected_confidence(logits: np.ndarray, *, temperature: float, align_corners: bool) -> np.ndarray:
    """255 · maximum softmax probability at quarter resolution, upsampled; float, in double precision before that."""
    exact = logits.astype(np.float64) / temperature
    exact = np.exp(exact - exact.max(0))
    probability = (exact.max(0) / exact.sum(0)).astype(np.float32)
    return interpolate_with_torch(probability[None], align_corners=align_corners)[0] * 255


def assert_is_the_argmax(class_map: np.ndarray, full: np.ndarray) -> None:
    """The class of every pixel is the reference's, or its value is the best one but for rounding."""
    expected = full.argmax(0)
    differs = class_map != expected
    chosen = np.take_along_axis(full, class_map[None].astype(int), 0)[0]
    assert (full.max(0) - chosen)[differs].max(initial=0) <= ROUNDING * np.abs(full).max()


def assert_the_kernel_gives_numpys_answer(logits: np.ndarray, *, align_corners: bool, temperature: float = 1.3) -> None:
    compiled, plain = (
        finish(logits, temperature=temperature, align_corners=align_corners)
        for finish in (finish_logits_compiled, finish_logits_numpy)
    )
    np.testing.assert_array_equal(compiled[0], plain[0])
    assert np.abs(compiled[1].astype(int) - plain[1]).max() <= 1


def in_order(logits: np.ndarray, *, channels_last: bool) -> np.ndarray:
    """The same logits, their classes or their columns side by side in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(logits, 0, 2)), 2, 0) if channels_last else logits


@settings(max_examples=60, deadline=None)
@given(
    **sizes,
    seed=st.integers(0, 2**32 - 1),
    temperature=st.floats(0.3, 3.0),
    scale=st.floats(0.1, 30),
    align_corners=st.booleans(),
)
def test_the_finish_gives_the_definition(
    classes: int, height: int, width: int, seed: int, temperature: float, scale: float, align_corners: bool
) -> None:
    logits = np.random.default_rng(seed).normal(0, scale, (classes, height, width)).astype(np.float32)
    full = interpolate_with_torch(logits, align_corners=align_corners)
    expected = expected_confidence(logits, temperature=temperature, align_corners=align_corners)
    for finish in (finish_logits_compiled, finish_logits_numpy):
        class_map, confidence = finish(logits, temperature=temperature, align_corners=align_corners)
        assert class_map.shape == confidence.shape == (4 * height, 4 * width)
        assert_is_the_argmax(class_map, full)
        assert np.abs(confidence - expected).max() <= 0.51


@both_alignments
def test_the_class_map_of_a_whole_frame_is_torchs(align_corners: bool) -> None:
    """Smooth logits, as a network's are: no two classes within rounding of each other on any pixel."""
    rng = np.random.default_rng(4)
    logits = interpolate_with_torch(rng.normal(0, 4, (19, 8, 16)).astype(np.float32), align_corners=False)
    class_map, _ = finish_logits(logits, temperature=1.0, align_corners=align_corners)
    full = interpolate_with_torch(logits, align_corners=align_corners)
    second, first = np.partition(full, -2, axis=0)[-2:]
    clear = first - second > ROUNDING * np.abs(full).max()
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(class_map[clear], full.argmax(0)[clear])


@settings(max_examples=100, deadline=None)
@given(
    **sizes,
    seed=st.integers(0, 2**32 - 1),
    step=st.sampled_from([0.0, 1e-30, 1e-3, 0.1, 1.0, 1e30]),
    channels_last=st.booleans(),
    align_corners=st.booleans(),
)
def test_the_kernel_and_its_fallback_agree_on_ties_and_extremes(
    classes: int, height: int, width: int, seed: int, step: float, channels_last: bool, align_corners: bool
) -> None:
    """Few distinct values, so that most pixels tie before or after rounding; the class maps are equal to the bit."""
    levels = np.random.default_rng(seed).integers(-2, 3, (classes, height, width))
    logits = in_order((levels * step).astype(np.float32), channels_last=channels_last)
    assert_the_kernel_gives_numpys_answer(logits, align_corners=align_corners)


@settings(max_examples=200, deadline=None)
@given(
    **sizes,
    seed=st.integers(0, 2**32 - 1),
    magnitude=st.sampled_from([1e-43, 1e-38, 1e-36, 1.0, 17.0, 1e30, 3e38]),
    below_ulps=st.integers(0, 24),
    wave=st.sampled_from([0.0, 0.0, 1e-6, 0.3]),
    align_corners=st.booleans(),
)
def test_a_class_that_only_rounding_lifts_to_the_best_one_is_not_dropped(
    classes: int,
    height: int,
    width: int,
    seed: int,
    magnitude: float,
    below_ulps: int,
    wave: float,
    align_corners: bool,
) -> None:
    """All classes within a few roundings of a flat or wavy surface: there the slack of the threshold counts."""
    rng = np.random.default_rng(seed)
    surface = magnitude * rng.uniform(0.5, 1) * (1 - wave * rng.random((1, height, width))) * rng.choice([-1, 1])
    ulps = rng.integers(-below_ulps, 1, (classes, 1, 1))
    logits = (surface + ulps * np.spacing(np.float32(magnitude / 2)).astype(np.float64)).astype(np.float32)
    assert_the_kernel_gives_numpys_answer(logits, align_corners=align_corners)


@both_alignments
@pytest.mark.parametrize(("train_id", "value"), [(1, -5.0), (0, 9.0), (2, 9.0)], ids=["falls", "lower", "higher"])
@pytest.mark.parametrize("magnitude", [1.0, 3e37])
def test_one_other_pixel_counts_for_all_around_it_wherever_it_lies(
    magnitude: float, train_id: int, value: float, align_corners: bool
) -> None:
    """Class 1 leads, but for one pixel where it falls or another one rises, anywhere in a block and the frame."""
    for y in range(3):
        for x in range(2 * LANES + 3):
            logits = np.zeros((3, 3, 2 * LANES + 3), np.float32)
            logits[1] = magnitude
            logits[train_id, y, x] = value * magnitude
            assert_the_kernel_gives_numpys_answer(logits, align_corners=align_corners)


def test_classes_that_a_thread_takes_for_0_tie() -> None:
    """Such a thread takes numbers below 2^-126 for 0: here both classes' products with weights of 5/8 and 3/8."""
    torch = pytest.importorskip("torch")
    logits = np.ones((2, 1, 3), np.float32) * np.float32(2**-126) * np.float32([[[1.2]], [[1.5]]])
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    try:
        answers = [
            finish(logits, temperature=1.0, align_corners=False)[0][0]
            for finish in (finish_logits_compiled, finish_logits_numpy)
        ]
    finally:
        torch.set_flush_denormal(False)
    for class_map in answers:
        assert class_map.tolist() == [1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1]


@both_alignments
def test_the_largest_floats_are_finished_like_any_other(align_corners: bool) -> None:
    logits = np.random.default_rng(2).choice([-3e38, -1e-45, 0.0, 1e-45, 3e38], (19, 7, 9)).astype(np.float32)
    assert_the_kernel_gives_numpys_answer(logits, temperature=0.3, align_corners=align_corners)


def test_a_single_row_does_not_depend_on_what_memory_held_before() -> None:
    logits = np.random.default_rng(0).normal(0, 1, (5, 1, 13)).astype(np.float32)
    expected, _ = finish_logits_numpy(logits, temperature=1.0, align_corners=False)
    for _ in range(200):
        dirt = [np.full(size, np.nan, np.float32) for size in (64, 320, 640, 1280, 2560, 5120)]
        del dirt
        class_map, _ = finish_logits_compiled(logits, temperature=1.0, align_corners=False)
        np.testing.assert_array_equal(class_map, expected)


@both_finishes
@both_alignments
def test_ties_go_to_the_lower_train_id(finish: Finish, align_corners: bool) -> None:
    logits = np.zeros((19, 3, 3), np.float32)
    class_map, confidence = finish(logits, temperature=1.0, align_corners=align_corners)
    assert (class_map == 0).all()
    assert (confidence == round(255 / 19)).all()
    logits[[5, 11, 18]] = np.random.default_rng(0).normal(3, 0.1, (3, 3)).astype(np.float32)
    class_map, _ = finish(logits, temperature=1.0, align_corners=align_corners)
    assert (class_map == 5).all()


@both_finishes
def test_a_step_between_two_classes_falls_half_way_between_their_centres(finish: Finish) -> None:
    logits = np.zeros((19, 1, 2), np.float32)
    logits[4, 0, 0] = 1.0
    logits[6, 0, 1] = 1.0
    class_map, _ = finish(logits, temperature=1.0, align_corners=False)
    assert class_map.tolist() == [[4, 4, 4, 4, 6, 6, 6, 6]] * 4


def test_half_pixel_centres_by_hand() -> None:
    blend = axis_blend(2, align_corners=False)
    assert blend.first.tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    assert blend.second_weight.tolist() == [0, 0, 0.125, 0.375, 0.625, 0.875, 0, 0]


def test_aligned_corners_by_hand() -> None:
    """Seven steps of a seventh between the two centres."""
    blend = axis_blend(2, align_corners=True)
    position = blend.first + blend.second_weight
    np.testing.assert_allclose(position, np.arange(8) / 7, atol=1e-6)
    assert (position[0], position[-1]) == (0, 1)


def test_the_two_alignments_differ() -> None:
    logits = np.zeros((2, 1, 3), np.float32)
    logits[1, 0, 2] = 1.0
    logits[0, 0, :] = 0.1
    # class 1 leads where its own share exceeds 0.1: beyond source position 1.1
    half_pixel, _ = finish_logits(logits, temperature=1.0)
    aligned, _ = finish_logits(logits, temperature=1.0, align_corners=True)
    assert half_pixel[0].tolist() == [0] * 6 + [1] * 6  # (x + 0.5) / 4 - 0.5 = 1.125 at x = 6
    assert aligned[0].tolist() == [0] * 7 + [1] * 5  # 2x / 11 = 1.27 at x = 7


@both_finishes
def test_any_memory_order_and_float_gives_the_same_answer(finish: Finish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logits_finish, "fastest_finish", lambda: finish)
    logits = np.random.default_rng(1).normal(0, 3, (19, 5, 13)).astype(np.float16)
    expected = finish_logits(logits.astype(np.float32), temperature=1.0)
    reversed_view = np.ascontiguousarray(logits[::-1, :, ::-1])[::-1, :, ::-1]
    wide = logits.astype(np.float32)
    channels_last = in_order(wide, channels_last=True)
    mirrored = in_order(wide[:, ::-1, ::-1], channels_last=True)[:, ::-1, ::-1]
    for same in (
        logits,
        reversed_view,
        wide,
        channels_last,
        mirrored,
        logits.astype(np.float64),
        np.asfortranarray(wide),
    ):
        for answer, wanted in zip(finish_logits(same, temperature=1.0), expected, strict=True):
            np.testing.assert_array_equal(answer, wanted)


@both_finishes
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_no_answer(
    finish: Finish, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logits_finish, "fastest_finish", lambda: finish)
    logits = np.zeros((19, 4, 4), np.float32)
    logits[7, 2, 3] = value
    with pytest.raises(EngineError, match="NaN or infinity"):
        finish_logits(logits, temperature=1.0)


def test_opposite_infinities_do_not_cancel() -> None:
    logits = np.zeros((19, 4, 4), np.float32)
    logits[7, 2, 3], logits[8, 2, 3] = np.inf, -np.inf
    with pytest.raises(EngineError, match="NaN or infinity"):
        finish_logits(logits, temperature=1.0)


@pytest.mark.parametrize("shape", [(19, 4), (0, 4, 4), (19, 0, 4), (19, 4, 0), (257, 1, 1), (1, 19, 4, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="logits have shape"):
        finish_logits(np.zeros(shape, np.float32), temperature=1.0)


def test_256_classes_fit() -> None:
    logits = np.zeros((256, 1, 1), np.float32)
    logits[255] = 1
    assert (finish_logits(logits, temperature=1.0)[0] == 255).all()


def test_views_whose_strides_are_odd_are_read_like_any_other() -> None:
    logits = np.random.default_rng(3).normal(0, 3, (3, 4, 5)).astype(np.float32)
    packed = np.zeros(logits.shape, [("flag", np.uint8), ("value", np.float32)])  # five bytes each
    packed["value"] = logits
    repeated = np.broadcast_to(logits[:, :1], logits.shape)
    for view in (packed["value"], repeated, np.repeat(logits, 2, axis=2)[:, :, ::2], logits[::-1, ::-2, ::-1]):
        plain = finish_logits(np.array(view, order="C"), temperature=1.0)
        for answer, wanted in zip(finish_logits(view, temperature=1.0), plain, strict=True):
            np.testing.assert_array_equal(answer, wanted)


def test_threads_that_share_the_kernel_do_not_share_its_scratch() -> None:
    frames = np.random.default_rng(5).normal(0, 3, (4, 19, 40, 60)).astype(np.float32)
    expected = [finish_logits_numpy(frame, temperature=1.0, align_corners=False)[0] for frame in frames]
    with ThreadPoolExecutor(4) as threads:
        answers = threads.map(lambda index: finish_logits(frames[index % 4], temperature=1.0)[0], range(100))
        for index, class_map in enumerate(answers):
            np.testing.assert_array_equal(class_map, expected[index % 4])


def test_without_the_kernel_opencv_answers_and_a_warning_names_the_cure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernel_module, "LIBRARY", "darkseg_ros.model.backends.finish._absent")
    kernel_library.cache_clear()
    assert fastest_finish.__wrapped__() is finish_logits_opencv
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert re.search(r"finished by OpenCV.*not compiled.*install gcc", record.message)


def test_with_the_kernel_there_is_nothing_to_warn_of(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(fastest_finish.__wrapped__(), FinishKernel)
    assert not is_slow()
    assert not caplog.records


@pytest.mark.parametrize("changed", ["class map", "confidence"])
def test_a_kernel_with_other_answers_is_refused(changed: str) -> None:
    def other(logits: np.ndarray, **options: float) -> tuple[np.ndarray, np.ndarray]:
        class_map, confidence = finish_logits_numpy(logits, **options)
        if changed == "class map":
            class_map[0, 0] ^= 1
        else:
            confidence[-1, -1] ^= 8
        return class_map, confidence

    check(finish_logits_numpy)
    with pytest.raises(EngineError, match=r"not NumPy's.*CFLAGS"):
        check(other)


def test_a_library_that_does_not_load_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "kernel.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(compiled_library, "find_spec", lambda name: SimpleNamespace(origin=str(broken)))
    with pytest.raises(EngineError, match=r"does not load.*install"):
        kernel_library.__wrapped__()


def test_an_x86_processor_with_avx2_runs_more_than_the_baseline() -> None:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    expected = 2 if " avx512dq " in flags and " avx512vl " in flags else 1 if " avx2 " in flags else 0
    assert FinishKernel(kernel_library()).instruction_set == expected < len(INSTRUCTION_SETS)


def test_memory_that_is_not_there_is_an_error() -> None:
    kernel = FinishKernel(kernel_library())
    kernel._finish = lambda *arguments: 1
    with pytest.raises(EngineError, match="no memory"):
        kernel(np.zeros((2, 1, 1), np.float32), temperature=1.0, align_corners=False)


@both_alignments
def test_opencv_gives_the_definition_too(align_corners: bool) -> None:
    rng = np.random.default_rng(8)
    for classes, height, width in ((1, 1, 1), (5, 3, 17), (19, 9, 40)):
        logits = rng.normal(0, 3, (classes, height, width)).astype(np.float32)
        class_map, confidence = finish_logits_opencv(logits, temperature=1.3, align_corners=align_corners)
        assert_is_the_argmax(class_map, interpolate_with_torch(logits, align_corners=align_corners))
        expected = expected_confidence(logits, temperature=1.3, align_corners=align_corners)
        assert np.abs(confidence - expected).max() <= 0.51
