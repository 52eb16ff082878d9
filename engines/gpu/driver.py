"""Exercises `backends/tensorrt/cuda.py` on a driver, without torch or TensorRT, so that memcheck can watch it.

compute-sanitizer --leak-check full python -m engines.gpu.driver
"""

from __future__ import annotations

import ctypes
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from darkseg_ros.errors import DeviceLostError, EngineError
from darkseg_ros.model.backends.tensorrt.cuda import CudaDevice, load_driver

_FRAME_HW = (96, 128)
_THREADS, _ROUNDS = 4, 25
_BYTES_KEPT_MAX = 8 * 2**20  # the driver takes memory in large pieces
_POKE = b"""
.version 7.0
.target sm_75
.address_size 64
.visible .entry poke(.param .u64 address)
{
    .reg .u64 %place;
    .reg .u32 %value;
    ld.param.u64 %place, [address];
    mov.u32 %value, 1;
    st.global.u32 [%place], %value;
    ret;
}
\0"""
"""A kernel in PTX, which the driver compiles: writes where it is told to."""


def exercise(driver: Any) -> dict[str, Any]:
    """Copy to and fro on several streams and threads, plainly and recorded, beside a context of somebody else.

    Args:
        driver: as `cuda.load_driver` gives it.

    Returns:
        How many copies came back as they went.

    Raises:
        EngineError: if a call fails.
        AssertionError: if a copy comes back changed, or memory is not given back.
    """
    device = CudaDevice(driver)
    other = _other_context(driver)
    first, second = CudaDevice(driver), CudaDevice(driver)
    copies = 0
    try:
        for each in (first, second):
            each.open_stream()
        copies += _copy_to_and_fro(first, 1) + _recorded(first)  # what the driver keeps once it was used
        free_before = _free_bytes(driver, first)
        with ThreadPoolExecutor(_THREADS) as threads:
            for each in (first, second):  # a device belongs to one thread at a time, whichever
                copies += sum(threads.map(_copy_to_and_fro, [each], [_ROUNDS]))
            copies += sum(threads.map(_with_own_device, [driver] * _THREADS))
        copies += _recorded(first)
        kept = free_before - _free_bytes(driver, first)
        assert kept <= _BYTES_KEPT_MAX, f"{kept} bytes of the GPU were not given back"
    finally:
        first.release()
        first.release()  # as the engine does after a failed start
        second.release()
        if other is not None:
            driver.cuCtxDestroy_v2(other)
    return {"gpu": device.name, "capability": device.capability, "driver_cuda": device.driver_cuda, "copies": copies}


def _with_own_device(driver: Any) -> int:
    device = CudaDevice(driver)
    device.open_stream()
    try:
        return _copy_to_and_fro(device, _ROUNDS)
    finally:
        device.release()


def _copy_to_and_fro(device: CudaDevice, rounds: int) -> int:
    device.enter_thread()
    rng = np.random.default_rng(threading.get_ident() % 2**32)
    up, down = device.pinned_array((*_FRAME_HW, 3)), device.pinned_array((*_FRAME_HW, 3))
    address = device.allocate(up.nbytes)
    for _ in range(rounds):
        up[:] = rng.integers(0, 256, up.shape, dtype=np.uint8)
        down[:] = 0
        device.queue_upload(address, up)
        device.queue_download(down, address)
        device.wait()
        assert np.array_equal(up, down), "a copy came back changed"
    device.raise_if_lost()
    device.free(address)
    device.free_pinned(up)
    device.free_pinned(down)
    return rounds


def _recorded(device: CudaDevice) -> int:
    """A recorded copy repeats what lies in memory when it is launched, not what lay there when it was recorded."""
    device.enter_thread()
    up, down = device.pinned_array(_FRAME_HW), device.pinned_array(_FRAME_HW)
    address = device.allocate(up.nbytes)
    device.begin_capture()
    device.queue_upload(address, up)
    device.queue_download(down, address)
    graph = device.end_capture()
    for value in range(_ROUNDS):
        up[:] = value
        device.launch(graph)
        device.wait()
        assert (down == value).all(), "a recorded copy gave another frame's bytes"
    device.free_graph(graph)
    device.free(address)
    device.free_pinned(up)
    device.free_pinned(down)
    return _ROUNDS


def _other_context(driver: Any) -> ctypes.c_void_p | None:
    """A context that is not ours, current in this thread, as another library may leave it; None for a fake driver."""
    if not hasattr(driver, "cuCtxCreate_v2"):
        return None
    context, device = ctypes.c_void_p(), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), ctypes.c_int(0))
    status = driver.cuCtxCreate_v2(ctypes.byref(context), ctypes.c_uint(0), device)
    if status:
        raise EngineError(f"cuCtxCreate_v2 failed with error {status}")
    return context


def _free_bytes(driver: Any, device: CudaDevice) -> int:
    device.enter_thread()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    return free.value


def poke(driver: Any, device: CudaDevice, address: int) -> None:
    """Queue a kernel that writes four bytes there: at 0 it loses the GPU to this process.

    Raises:
        EngineError: if the driver does not take the kernel.
    """
    module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
    place = ctypes.c_uint64(address)
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(place))
    one, none = ctypes.c_uint(1), ctypes.c_uint(0)
    for status in (
        driver.cuModuleLoadData(ctypes.byref(module), ctypes.c_char_p(_POKE)),
        driver.cuModuleGetFunction(ctypes.byref(kernel), module, ctypes.c_char_p(b"poke")),
        driver.cuLaunchKernel(
            kernel, one, one, one, one, one, one, none, ctypes.c_void_p(device.stream), arguments, None
        ),
    ):
        if status:
            raise EngineError(f"the driver does not take the kernel: error {status}")


def lose_gpu(driver: Any) -> dict[str, Any]:
    """Write where nothing may be written, and see what the next calls say.

    Raises:
        AssertionError: if the error is not told as one that only a new process mends.
    """
    device = CudaDevice(driver)
    device.open_stream()
    up = device.pinned_array((64,))
    address = device.allocate(up.nbytes)
    poke(driver, device, address)
    device.wait()  # a write into memory of ours is none
    poke(driver, device, 0)
    told = []
    for call in (device.wait, device.raise_if_lost, lambda: device.queue_upload(address, up), device.wait):
        try:
            call()
        except DeviceLostError as error:
            told.append(str(error))
    assert len(told) == 4, f"{len(told)} of 4 calls after an illegal access said that the GPU is lost: {told}"
    return {"told": told[0]}


if __name__ == "__main__":
    print(json.dumps(exercise(load_driver())))
