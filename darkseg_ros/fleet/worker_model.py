"""The model of a worker: opened with its first drive, kept for the next ones."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from darkseg_ros.model.segmenter import Segmenter


@lru_cache(maxsize=1)
def open_once(bundle: Path, backend: str, device: str) -> Segmenter:
    """The model, on one thread: side by side workers share the cores, and figures are those of any number of them.

    Raises:
        BundleError: as `Segmenter.open`.
        EngineError: as `Segmenter.open`.
    """
    return Segmenter.open(bundle, backend=backend, device=device, threads=1)
