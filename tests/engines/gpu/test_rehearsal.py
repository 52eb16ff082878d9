"""What `python -m engines.gpu` does on a GPU, here on the fake driver and torch on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from darkseg_ros.errors import BundleError
from darkseg_ros.model.backends.tensorrt.cuda import CudaDevice
from darkseg_ros.model.bundle import ModelBundle, load_bundle
from engines.gpu import driver as driver_step
from engines.gpu.driver import exercise, lose_gpu
from engines.gpu.times import time_finishes, time_graph
from engines.gpu.whole_engine import check_engine, lose_gpu_in_engine, memory_comes_back
from tests.bundles import write_tiny_bundle
from tests.core.model.backends.tensorrt.fake_gpu import FakeDriver

_ILLEGAL_ACCESS = 700


class ThreadsOwnDriver(FakeDriver):
    """What each thread queues and records is its own, as it is with streams of their own."""

    def __init__(self) -> None:
        self._own = threading.local()
        super().__init__()

    @property
    def queue(self) -> list[Callable[[], None]]:  # type: ignore[override]
        return getattr(self._own, "queue", [])

    @queue.setter
    def queue(self, work: list[Callable[[], None]]) -> None:
        self._own.queue = work

    def push(self, work: Callable[[], None]) -> None:
        if self.recording is not None:
            self.recording.append(work)
        else:
            self.queue = [*self.queue, work]

    def cuGraphLaunch(self, executable: Any, stream: Any) -> int:  # noqa: N802, the driver's name
        self.queue = [*self.queue, *self.graphs[executable.value]]
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:  # noqa: N802
        free._obj.value = 2**30 - sum(map(len, self.memory.values()))
        return 0


class HostPlace:
    """The fake driver's memory, which is the host's."""

    device = "cpu"

    def __init__(self, driver: FakeDriver) -> None:
        self._driver = driver

    def tensor_at(self, address: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        size = int(torch.Size(shape).numel()) * dtype.itemsize
        return torch.from_numpy(self._driver.array_at(address, (size,))).view(dtype).reshape(shape)

    def on(self, stream: int, work: Callable[[], None]) -> None:
        assert stream == 5
        self._driver.push(work)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("bundle")))


def test_the_driver_s_exercise_gives_back_all_that_it_took() -> None:
    driver = ThreadsOwnDriver()
    assert exercise(driver)["copies"] == 1 + 25 + 2 * 25 + 4 * 25 + 25
    assert not driver.memory
    assert driver.contexts == driver.streams == 0


def test_the_exercise_finds_copies_that_come_back_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(ThreadsOwnDriver):
        def cuMemcpyDtoHAsync_v2(self, *arguments: Any) -> int:  # noqa: N802
            return 0

    with pytest.raises(AssertionError, match="came back changed"):
        exercise(Forgetful())


def test_the_exercise_finds_a_recording_that_repeats_its_first_bytes() -> None:
    class Stale(ThreadsOwnDriver):
        def cuGraphLaunch(self, executable: Any, stream: Any) -> int:  # noqa: N802
            self.queue = [*self.queue, *self.graphs[executable.value][1:]]
            return 0

    with pytest.raises(AssertionError, match="another frame's bytes"):
        exercise(Stale())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_whole_engine_answers_through_the_stand_in(tiny: ModelBundle, precision: str) -> None:
    driver = ThreadsOwnDriver()
    figures = check_engine(tiny, driver, HostPlace(driver), precision=precision)
    assert figures["golden_agreement"] == 1
    assert set(figures["recorded_batches"]) == {1, 2, 3}
    assert figures["lowest_agreement"] > 0.99
    assert not driver.memory
    assert not driver.graphs


def test_answers_of_other_frames_are_found(tiny: ModelBundle) -> None:
    driver = ThreadsOwnDriver()

    class Blind(HostPlace):
        def tensor_at(self, address: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
            tensor = super().tensor_at(address, shape, dtype)
            return torch.zeros_like(tensor) if len(shape) == 4 and dtype == torch.uint8 else tensor

    with pytest.raises(BundleError, match="agrees with the golden answer on"):
        check_engine(tiny, driver, Blind(driver), precision="fp32")


def test_memory_that_engines_keep_is_found(tiny: ModelBundle) -> None:
    driver = ThreadsOwnDriver()
    free = iter([100 * 2**20, 90 * 2**20, 80 * 2**20, 70 * 2**20])
    with pytest.raises(AssertionError, match="bytes of the GPU were not given back"):
        memory_comes_back(tiny, driver, HostPlace(driver), lambda: next(free))
    assert memory_comes_back(tiny, driver, HostPlace(driver), lambda: 2**30)["bytes_kept"] == 0


def lose(driver: FakeDriver) -> None:
    driver.lost = _ILLEGAL_ACCESS


def test_an_illegal_access_is_told_by_every_later_call(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = ThreadsOwnDriver()
    monkeypatch.setattr(driver_step, "poke", lambda driver, device, address: None if address else lose(driver))
    assert "cuStreamSynchronize failed with error 700" in lose_gpu(driver)["told"]
    monkeypatch.setattr(driver_step, "poke", lambda driver, device, address: None)
    with pytest.raises(AssertionError, match="0 of 4 calls"):
        lose_gpu(ThreadsOwnDriver())


def test_an_illegal_access_in_a_running_engine_is_told_and_the_engine_closes(tiny: ModelBundle) -> None:
    driver = ThreadsOwnDriver()
    told = lose_gpu_in_engine(tiny, driver, HostPlace(driver), lambda device: lose(driver))["told"]
    assert "cannot use the GPU any more, start a new one" in told

    def harmless(device: CudaDevice) -> None:
        device.raise_if_lost()

    driver = ThreadsOwnDriver()
    with pytest.raises(AssertionError, match="not told as a lost device"):
        lose_gpu_in_engine(tiny, driver, HostPlace(driver), harmless)


def test_times_are_taken_of_graph_and_finish_in_both_forms(tiny: ModelBundle, tmp_path: Path) -> None:
    assert set(time_graph(tiny, "cpu")) == {"fp32_launched_ms", "fp16_launched_ms"}
    assert set(time_finishes(tiny, "cpu")) == {"arg_max_launched_ms", "reduce_max_launched_ms"}
