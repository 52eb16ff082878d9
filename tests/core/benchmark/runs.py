"""What the contestants of these tests do; their processes import this module."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from darkseg_ros.benchmark.contestants import Contestant, Run, own_engine

CLASS_MAP = np.zeros((2, 3), np.uint8)


def contestant(name: str, open_run: Any, *arguments: Any) -> Contestant:
    return Contestant(name, "segmenter", partial(open_run, *arguments))


def open_delayed_engine(bundle: Path, delay_ms: int) -> Run:
    """The fake engine, slow in this process alone."""
    os.environ["DARKSEG_FAKE_ENGINE_DELAY_MS"] = str(delay_ms)
    return own_engine(bundle, "fake").open()


def open_holding(megabytes: int) -> Run:
    memory = np.ones(megabytes * 10**6, np.uint8)

    def call(bgr: np.ndarray) -> np.ndarray:
        return CLASS_MAP + memory[:1] - memory[:1]

    return Run(call, "")


def open_threaded(cpu_s: float) -> Run:
    """All its work is done in another thread."""

    def work() -> None:
        while time.thread_time() < cpu_s:
            pass

    def call(bgr: np.ndarray) -> np.ndarray:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return CLASS_MAP

    return Run(call, "")


def open_preparing(cpu_s: float) -> Run:
    """All its work is done before it is called."""

    def prepare(bgr: np.ndarray) -> np.ndarray:
        ready_s = time.thread_time() + cpu_s
        while time.thread_time() < ready_s:
            pass
        return bgr

    return Run(lambda bgr: CLASS_MAP, "", prepare)


def open_describing(variable: str) -> Run:
    return Run(lambda bgr: CLASS_MAP, os.environ.get(variable, "not set"))


def open_logging(name: str, log: Path) -> Run:
    """Writes its name and the frame's first value for each call."""

    def call(bgr: np.ndarray) -> np.ndarray:
        with log.open("a") as file:
            file.write(f"{name}{bgr[0, 0, 0]} ")
        return CLASS_MAP

    return Run(call, f"described {name}")


def open_missing() -> Run:
    raise ImportError("no module named torchvision")


def open_printing() -> Run:
    print("library says hello", flush=True)
    return Run(lambda bgr: CLASS_MAP, "")


def open_raising_on_call() -> Run:
    def call(bgr: np.ndarray) -> np.ndarray:
        raise RuntimeError("a tensor\nis wrong")

    return Run(call, "")


def open_killed_on_call() -> Run:
    def call(bgr: np.ndarray) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        return CLASS_MAP

    return Run(call, "")


def open_exiting() -> Run:
    os._exit(7)


def open_answering_logits() -> Run:
    return Run(lambda bgr: np.zeros((1, 19, 2, 2), np.float32), "")


def open_hanging(pids: Path) -> Run:
    def call(bgr: np.ndarray) -> np.ndarray:
        pids.write_text(f"{os.getpid()}\n")
        time.sleep(600)
        return CLASS_MAP

    return Run(call, "")


def open_instant() -> Run:
    return Run(lambda bgr: CLASS_MAP, "")
