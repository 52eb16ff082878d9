"""What holds for every test."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # of torch and NumPy, read when they are imported: each worker has one core

import cv2
import pytest

from darkseg_ros.synthetic_drive import SyntheticDrive

TESTS = Path(__file__).parent
ONE_AFTER_THE_OTHER = (
    "ros",
    "core/benchmark/test_interleaved.py",
    "core/commands/test_interruption.py",
    "core/stream/test_batching.py",
    "core/stream/test_inference_thread.py",
    "core/test_child_processes.py",
)
"""Folders and files whose tests start nodes or measure time; no two of them run at once."""
LONGEST_FIRST = ("training", "engines", "core")

# ROS messages then check what is assigned to them; read when a message module is first imported.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")
# Nodes of other machines must not answer; tests in tests/ros choose their own domain beside this.
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

# OpenVINO tells its maker of every conversion, on threads that wait for the network; without this it tells nobody.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

# Where a shell without job control started the tests in the background, SIGINT is ignored here, and would be by the
# processes that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several workers share the tests, a file's tests stay together, since they share what is slow to make."""
    if not hasattr(config, "workerinput"):
        return

    def place(item: pytest.Item) -> tuple[int, str]:
        path = item.path.relative_to(TESTS)
        if any(path.is_relative_to(name) for name in ONE_AFTER_THE_OTHER):
            return -1, "one_after_the_other"
        return LONGEST_FIRST.index(path.parts[0]), str(path)

    for item in items:
        item.add_marker(pytest.mark.xdist_group(place(item)[1]))
    items.sort(key=place)


@pytest.hookimpl(hookwrapper=True)
def pytest_collection() -> Iterator[None]:
    """Nothing that is imported is garbage; to look for it took a quarter of the time."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="module")
def no_trials() -> Iterator[None]:
    """Graphs that the tests themselves made need no process that tries them first; see `trial.try_once`."""
    with pytest.MonkeyPatch.context() as patch:
        for backend in ("openvino", "onnxruntime_graph"):
            patch.setattr(f"darkseg_ros.model.backends.{backend}.try_once", lambda trial: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def caches_of_the_tests_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Plans and settings that tests keep, or find, are not the user's; the processes they start inherit it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


class _SignalStack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@pytest.fixture(scope="session")
def first_signal_stack() -> _SignalStack:
    stack = _SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack


@pytest.fixture(autouse=True)
def signal_stack_that_nobody_frees(first_signal_stack: _SignalStack) -> Iterator[None]:
    """The quantiser and tests make OpenVINO cores of their own; see `openvino_core`."""
    yield
    ctypes.CDLL(None).sigaltstack(ctypes.byref(first_signal_stack), None)


@pytest.fixture(scope="session")
def generated_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """source/{image,label} and validation/{image,label} by day, night_validation by night, night/ unlabelled."""
    root = tmp_path_factory.mktemp("data")
    for folder, seed, night, count in (
        ("source", 1, False, 6),
        ("validation", 2, False, 2),
        ("night_validation", 3, True, 2),
    ):
        drive = SyntheticDrive(seed=seed, size_hw=(64, 64), night=night)
        for part in ("image", "label"):
            (root / folder / part).mkdir(parents=True)
        for index in range(count):
            scene = drive.frame(index * 10)
            cv2.imwrite(str(root / folder / "image" / f"{index}.png"), scene.bgr)
            cv2.imwrite(str(root / folder / "label" / f"{index}.png"), scene.label_map)
    for part in ("night", "pseudo_labels"):
        (root / part).mkdir()
    drive = SyntheticDrive(seed=4, size_hw=(64, 64), night=True)
    for index in range(4):
        scene = drive.frame(index * 10)
        cv2.imwrite(str(root / "night" / f"{index}.png"), scene.bgr)
        cv2.imwrite(str(root / "pseudo_labels" / f"{index}.png"), scene.label_map)
    return root
