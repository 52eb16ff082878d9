"""What takes part in a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from darkseg_ros.benchmark.figures import ContestantKind
from darkseg_ros.model.bundle import load_bundle


def _as_it_is(bgr: np.ndarray) -> np.ndarray:
    return bgr


@dataclass(frozen=True)
class Run:
    """A contestant that is ready.

    Attributes:
        call: what is timed; what `prepare` gave → class map, (H, W) uint8 of any size.
        description: library and its version, precision, threads.
        prepare: what happens to a camera frame, (H, W, 3) uint8 BGR, before the clock starts.
    """

    call: Callable[[np.ndarray], np.ndarray]
    description: str
    prepare: Callable[[np.ndarray], np.ndarray] = _as_it_is


@dataclass(frozen=True)
class Contestant:
    """One row of the report.

    Attributes:
        name: with the kind it is the row's key, also in the comparison with another run.
        kind: what is timed.
        open: called in the contestant's own process; a function of a module or a partial of one, since it is pickled.
            Its libraries are to be imported inside it, so that load_s holds their import.
    """

    name: str
    kind: ContestantKind
    open: Callable[[], Run]

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


def own_engine(bundle: Path, backend: str, device: str = "auto") -> Contestant:
    """The engine alone: a frame of the network's size in, class map and confidence out, with the fused finish.

    Raises:
        BundleError: if the bundle is not one.
    """
    return Contestant(_own_name(bundle, backend, device), "engine", partial(_open_engine, bundle, backend, device))


def own_segmenter(bundle: Path, backend: str, device: str = "auto") -> Contestant:
    """The whole way of a frame in the node, without ROS: resize, engine, class map at the camera's geometry.

    Raises:
        BundleError: if the bundle is not one.
    """
    return Contestant(
        _own_name(bundle, backend, device), "segmenter", partial(_open_segmenter, bundle, backend, device)
    )


def _own_name(bundle: Path, backend: str, device: str) -> str:
    return " ".join([load_bundle(bundle).name, backend, *([] if device == "auto" else [device])])


def _open_engine(bundle_directory: Path, backend: str, device: str) -> Run:
    from darkseg_ros.model.backends import open_engine
    from darkseg_ros.model.segmenter import preprocess

    bundle = load_bundle(bundle_directory)
    engine = open_engine(bundle, backend=backend, device=device)
    return Run(
        call=lambda frames: engine(frames).class_map[0],
        description=engine.name,
        prepare=partial(preprocess, network_hw=bundle.network_hw, exposure=bundle.exposure),
    )


def _open_segmenter(bundle_directory: Path, backend: str, device: str) -> Run:
    from darkseg_ros.model.segmenter import Segmenter

    segmenter = Segmenter.open(bundle_directory, backend=backend, device=device)
    return Run(call=lambda bgr: segmenter(bgr).class_map, description=segmenter.engine.name)
