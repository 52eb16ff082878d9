from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from darkseg_ros.errors import EngineError


class TwoAtOnce:
    """A segmenter whose engine computes two frames at once, and fails on as many as it is told to."""

    def __init__(self, fails_on: int) -> None:
        self.bundle = SimpleNamespace(network_hw=(4, 8))
        self.engine = SimpleNamespace(batch_max=2)
        self.sizes: list[int] = []
        self.closed = False
        self._fails_on = fails_on

    def segment_batch(self, bgrs: Sequence[np.ndarray]) -> None:
        self.sizes.append(len(bgrs))
        if len(bgrs) == self._fails_on:
            raise EngineError("out of memory")

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def open_segmenter(ros_domain: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[TwoAtOnce], Any]]:
    """What a node with three cameras does to open its segmenter."""
    import rclpy

    from darkseg_ros.model.segmenter import Segmenter
    from darkseg_ros.nodes.segmentation_node import SegmentationNode

    rclpy.init(args=["--ros-args", "-p", "autostart:=false", "-p", "cameras:=[front, left, rear]"])
    node = SegmentationNode()

    def open_as_the_node_does(segmenter: TwoAtOnce) -> Any:
        monkeypatch.setattr(Segmenter, "open", lambda *_, **__: segmenter)
        return node._open_segmenter()

    yield open_as_the_node_does
    node.destroy_node()
    rclpy.try_shutdown()


def test_every_size_of_batch_that_can_occur_runs_once_before_the_first_frame(
    open_segmenter: Callable[[TwoAtOnce], Any],
) -> None:
    segmenter = TwoAtOnce(fails_on=0)
    assert open_segmenter(segmenter) is segmenter
    assert (segmenter.sizes, segmenter.closed) == ([1, 2], False)


def test_an_engine_that_fails_on_its_first_frames_is_closed(open_segmenter: Callable[[TwoAtOnce], Any]) -> None:
    segmenter = TwoAtOnce(fails_on=2)
    with pytest.raises(EngineError, match="out of memory"):
        open_segmenter(segmenter)
    assert segmenter.closed
