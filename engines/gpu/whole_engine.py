"""The whole `TensorRtEngine` over `stand_in.TorchTensorRt`: memory, recordings, batches, golden frame, threads, end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import cache, partial
from typing import Any

import numpy as np
import onnx
import torch

from darkseg_ros.errors import DeviceLostError
from darkseg_ros.model.backends.open import check_golden
from darkseg_ros.model.backends.tensorrt.cuda import CudaDevice
from darkseg_ros.model.backends.tensorrt.engine import Gpu, TensorRtEngine, plan_key
from darkseg_ros.model.backends.tensorrt.plan_cache import StoredPlan
from darkseg_ros.model.backends.tensorrt.plan_graph import graph_for_plan
from darkseg_ros.model.bundle import ModelBundle
from darkseg_ros.model.segmenter import preprocess
from darkseg_ros.synthetic_drive import SyntheticDrive
from engines.gpu.stand_in import Place, TorchTensorRt
from engines.gpu.torch_graph import TorchGraph

_BATCH = 3
_TURNS = (1, 3, 2, 5, 1, 3, 2)  # each size twice, so that recordings serve; 5 takes two goes
_AGREEMENT_MIN = {"fp32": 0.999, "fp16": 0.99}
_TIMED = 30


def check_engine(bundle: ModelBundle, driver: Any, place: Place, *, precision: str) -> dict[str, Any]:
    """Open, ask, time and close it.

    Args:
        bundle: a checked bundle.
        driver: the driver, or a fake one.
        place: where the stand-in's torch runs.
        precision: fp32 or fp16.

    Returns:
        Agreement with torch on the CPU, what was recorded, milliseconds.

    Raises:
        DarksegError: if the engine fails.
        AssertionError: if answers are not those of the graph.
    """
    frames = night_frames(bundle, max(_TURNS))
    with torch.inference_mode():
        reference = TorchGraph(onnx.load(str(bundle.fused_onnx.path)))
        expected = np.concatenate([reference(torch.from_numpy(frame[None]))[0].numpy() for frame in frames])
    with closing(open_stand_in(bundle, driver, place, precision=precision)) as engine:
        golden = check_golden(engine, bundle, engine.golden_match)
        lowest = 1.0
        for turn, count in enumerate(_TURNS):
            chosen = (turn + np.arange(count)) % len(frames)
            lowest = min(lowest, float((engine(frames[chosen]).class_map == expected[chosen]).mean((1, 2)).min()))
        in_thread = _in_a_thread(lambda: engine(frames[:1]).class_map)
        lowest = min(lowest, float((in_thread == expected[:1]).mean()))
        together = _two_at_once(engine, bundle, driver, place, precision=precision, frame=frames[:1])
        lowest = min(lowest, *(float((answer == expected[:1]).mean()) for answer in together))
        assert lowest >= _AGREEMENT_MIN[precision], f"agrees with torch on the CPU on {lowest:.2%} of the pixels"
        recorded, name = engine.recorded, engine.name
        one_ms, all_ms = (_median_ms(partial(engine, frames[:count])) for count in (1, _BATCH))
    engine.close()  # once more
    return {
        "engine": name,
        "golden_agreement": golden.agreement,
        "lowest_agreement": lowest,
        "recorded_batches": list(recorded),
        "one_frame_ms": one_ms,
        f"{_BATCH}_frames_ms": all_ms,
    }


def lose_gpu_in_engine(
    bundle: ModelBundle, driver: Any, place: Place, lose: Callable[[CudaDevice], None]
) -> dict[str, Any]:
    """An illegal access while the engine runs: it must be told as a lost device, and the engine must still close.

    Args:
        bundle: a checked bundle.
        driver: the driver, or a fake one.
        place: where the stand-in's torch runs.
        lose: queues the illegal access.

    Raises:
        AssertionError: if it is not.
    """
    library = TorchTensorRt(place, batch=_BATCH)
    engine = open_stand_in(bundle, driver, place, precision="fp32", library=library)
    frames = night_frames(bundle, 2)
    engine(frames[:1])
    library.before_run = lambda _: lose(engine.device)
    told = ""
    try:
        engine(frames)  # a size that is not recorded yet
    except DeviceLostError as error:
        told = str(error)
    assert told, "an illegal access in the engine was not told as a lost device"
    engine.close()
    return {"told": told}


def open_stand_in(
    bundle: ModelBundle, driver: Any, place: Place, *, precision: str, library: TorchTensorRt | None = None
) -> TensorRtEngine:
    """The bundle's engine over torch."""
    gpu = Gpu(library or TorchTensorRt(place, batch=_BATCH), CudaDevice(driver))
    key = plan_key(
        bundle,
        gpu.library,
        gpu=gpu.device.name,
        capabilities=(gpu.device.capability,),
        precision=precision,
        batch=_BATCH,
    )
    model = graph_for_plan(bundle.fused_onnx.path, precision=precision, batch=_BATCH)
    return TensorRtEngine(bundle, StoredPlan(key, model.SerializeToString(), built_now=True), gpu)


def night_frames(bundle: ModelBundle, count: int) -> np.ndarray:
    """(N, H, W, 3) uint8 frames of the bundle's size, of a generated night drive."""
    return np.concatenate([preprocess(bgr, bundle.network_hw, bundle.exposure) for bgr in _scenes(count)])


@cache
def _scenes(count: int) -> list[np.ndarray]:
    drive = SyntheticDrive(seed=1, size_hw=(128, 256), night=True)
    return [drive.frame(10 * index).bgr for index in range(count)]


def _in_a_thread(work: Callable[[], np.ndarray]) -> np.ndarray:
    answers: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    thread.join()
    assert answers, "the engine does not run in a thread that did not open it"
    return answers[0]


def _two_at_once(
    engine: TensorRtEngine, bundle: ModelBundle, driver: Any, place: Place, *, precision: str, frame: np.ndarray
) -> list[np.ndarray]:
    """Two engines in two threads, as two nodes in one process have them."""
    answers: list[np.ndarray] = []
    with closing(open_stand_in(bundle, driver, place, precision=precision)) as other:
        for each in (engine, other):
            each(frame)
        threads = [
            threading.Thread(target=lambda each=each: answers.extend(each(frame).class_map for _ in range(10)))
            for each in (engine, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 20, f"{len(answers)} of 20 answers came of two engines at once"
    return answers


def _median_ms(call: Callable[[], object]) -> float:
    times = []
    for _ in range(_TIMED):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return round(float(np.median(times)) * 1000, 3)


def memory_comes_back(bundle: ModelBundle, driver: Any, place: Place, free_bytes: Callable[[], int]) -> dict[str, Any]:
    """Open, run and close several times; what the GPU then has free must not shrink.

    Raises:
        AssertionError: if it does, by more than a megabyte each time.
    """
    frames, free = night_frames(bundle, 1), []
    for _ in range(4):
        with closing(open_stand_in(bundle, driver, place, precision="fp32")) as engine:
            engine(frames)
        torch.cuda.empty_cache()  # does nothing without a GPU
        free.append(free_bytes())
    lost = free[1] - free[-1]
    assert lost < 2 * 2**20, f"{lost} bytes of the GPU were not given back by two engines"
    return {"bytes_kept": max(lost, 0)}
