"""Several cameras on one engine: each keeps its own frames, faults and figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.ros.conftest import books_balance

if TYPE_CHECKING:
    from tests.ros.conftest import NodeProcess, StartNode
    from tests.ros.probe import Inbox, Probe, Status

OK, WARN, ERROR, STALE = 0, 1, 2, 3
MAGENTA = (255, 0, 255)
CAMERAS = {"front": (96, 128), "left": (50, 70), "rear": (128, 256)}
TRAIN_IDS = {"front": 3, "left": 7, "rear": 11}


class Rig:
    """A node with three cameras of different sizes, each with its own class in its pictures."""

    def __init__(self, probe: Probe, start: StartNode, **parameters: Any) -> None:
        from sensor_msgs.msg import Image

        self.probe = probe
        self.process: NodeProcess = start(cameras=list(CAMERAS), **parameters)
        self.class_maps: dict[str, Inbox] = {
            name: probe.listen(Image, f"/segmentation_node/{name}/class_map") for name in CAMERAS
        }
        self.publishers = {name: probe.camera(f"/{name}/image") for name in CAMERAS}
        for name in CAMERAS:
            self._connect(name)

    def _connect(self, name: str) -> None:
        from tests.ros.probe import eventually

        def answered() -> bool:
            self.send(name)
            time.sleep(0.1)
            return bool(self.class_maps[name].messages)

        eventually(answered, what=f"a first class map of {name}")

    def send(self, name: str, bgr: np.ndarray | None = None) -> int:
        from tests.ros.probe import image, scene

        stamp = self.probe.next_stamp()
        picture = scene((TRAIN_IDS[name], 200), CAMERAS[name], seed=stamp % 1000) if bgr is None else bgr
        self.publishers[name].publish(image(picture, stamp, frame_id=name))
        return stamp

    @contextmanager
    def running(self, rates_hz: dict[str, float]) -> Iterator[dict[str, list[int]]]:
        """The cameras at these rates, as long as it lasts; the stamps that each sent."""
        sent: dict[str, list[int]] = {name: [] for name in rates_hz}
        over = threading.Event()

        def shoot() -> None:
            due_s = dict.fromkeys(rates_hz, time.monotonic())
            while not over.is_set():
                name = min(due_s, key=lambda camera: due_s[camera])
                over.wait(max(0.0, due_s[name] - time.monotonic()))
                sent[name].append(self.send(name))
                due_s[name] = max(due_s[name] + 1 / rates_hz[name], time.monotonic() - 0.1)

        thread = threading.Thread(target=shoot)
        thread.start()
        try:
            yield sent
        finally:
            over.set()
            thread.join()

    def status(self, name: str, condition: Callable[[Status], bool], *, fresh: bool = False) -> Status:
        return self.probe.status(condition, name=f"segmentation_node: segmentation of {name}", fresh=fresh)

    def settled(self, name: str) -> Status:
        return self.status(name, lambda status: status.number("frames_in_progress") == 0, fresh=True)


@pytest.fixture
def rig(probe: Probe, segmentation_node: StartNode) -> Callable[..., Rig]:
    return lambda **parameters: Rig(probe, segmentation_node, **parameters)


def test_each_camera_gets_class_maps_of_its_own_size_header_and_content(rig: Callable[..., Rig]) -> None:
    from tests.ros.probe import image, pixels, scene

    cameras = rig(batch_window_ms=50)
    for _ in range(3):
        stamps = {name: cameras.send(name) for name in CAMERAS}
        for name, stamp in stamps.items():
            answer = cameras.class_maps[name].of_stamp(stamp)
            assert answer.header.frame_id == name
            np.testing.assert_array_equal(pixels(answer), np.full(CAMERAS[name], TRAIN_IDS[name], np.uint8))
    stamp = cameras.probe.next_stamp()  # triggered cameras share it, and that is no duplicate
    for name in CAMERAS:
        picture = scene((TRAIN_IDS[name], 200), CAMERAS[name], seed=1)
        cameras.publishers[name].publish(image(picture, stamp, frame_id=name))
    for name in CAMERAS:
        cameras.class_maps[name].of_stamp(stamp)
        assert {message.header.frame_id for message in cameras.class_maps[name].messages} == {name}
        assert books_balance(cameras.settled(name))


def test_different_rates_are_all_served_and_no_camera_starves_another(rig: Callable[..., Rig]) -> None:
    cameras = rig(environment={"DARKSEG_FAKE_ENGINE_DELAY_MS": "50"})
    rates_hz = {"front": 60.0, "left": 10.0, "rear": 3.0}
    with cameras.running(rates_hz) as sent:
        time.sleep(2.5)
    time.sleep(0.5)
    for name, minimum in {"front": 0.1, "left": 0.5, "rear": 0.9}.items():
        answered = set(sent[name]) & set(cameras.class_maps[name].stamps)
        assert len(answered) >= minimum * len(sent[name]), name
        assert cameras.class_maps[name].stamps == sorted(cameras.class_maps[name].stamps)
        status = cameras.settled(name)
        assert books_balance(status)
        assert status.dropped == status.number("dropped_replaced_by_newer")
    assert cameras.settled("front").number("dropped_replaced_by_newer") > 10  # its own, not those of the others
    assert cameras.settled("rear").number("dropped_replaced_by_newer") <= 1


def test_a_camera_that_stops_goes_stale_alone_and_delays_the_others_by_no_more_than_the_window(
    rig: Callable[..., Rig],
) -> None:
    cameras = rig(stale_after_ms=600, batch_window_ms=100)
    with cameras.running({"front": 20.0, "rear": 20.0}):
        stale = cameras.status("left", lambda status: status.level == STALE)
        assert stale.message == "no image any more"
        before = {name: len(cameras.class_maps[name].messages) for name in ("front", "rear")}
        time.sleep(1.5)
        for name, count in before.items():
            assert len(cameras.class_maps[name].messages) > count + 5
            status = cameras.status(name, lambda status: float(status.values["rate_out_hz"]) > 5, fresh=True)
            assert status.level < ERROR
    with cameras.running({"left": 20.0}):  # and it comes back
        cameras.status("left", lambda status: status.level < ERROR, fresh=True)


def test_one_cameras_poison_is_its_own(rig: Callable[..., Rig]) -> None:
    from tests.ros.probe import bgr_of, image, stamp_ns

    cameras = rig(batch_window_ms=100, stale_after_ms=0)
    cut = image(bgr_of((1, 2, 3)), cameras.probe.next_stamp())
    cut.data = cut.data[:-1]
    magenta = image(bgr_of(MAGENTA, CAMERAS["left"]), cameras.probe.next_stamp())
    for poison, reason, level in ((cut, "undecodable", WARN), (magenta, "engine_error", ERROR)):
        good = {name: cameras.send(name) for name in ("front", "rear")}
        cameras.publishers["left"].publish(poison)
        for name, stamp in good.items():
            cameras.class_maps[name].of_stamp(stamp)
        assert cameras.status("left", lambda status, key=f"dropped_{reason}": status.number(key) == 1).level == level
        assert stamp_ns(poison) not in cameras.class_maps["left"].stamps
        for name in ("front", "rear"):
            other = cameras.settled(name)
            assert other.number(f"dropped_{reason}") == 0
            assert "fail" not in other.message
    cameras.class_maps["left"].of_stamp(cameras.send("left"))
    assert "segmentation_node.left]: no class map for a frame" in cameras.process.log


def test_a_blind_camera_is_silenced_alone(rig: Callable[..., Rig]) -> None:
    cameras = rig(on_unhealthy_camera="silence", stale_after_ms=0)
    rng = np.random.default_rng(0)
    for _ in range(10):
        dark = rng.integers(0, 3, (*CAMERAS["left"], 3)).astype(np.uint8)
        stamps = {name: cameras.send(name, dark if name == "left" else None) for name in CAMERAS}
        for name in ("front", "rear"):
            cameras.class_maps[name].of_stamp(stamps[name])
    status = cameras.status("left", lambda status: status.number("dropped_unhealthy_camera") > 0)
    assert (status.level, status.message) == (ERROR, "the camera is dark: no class maps")
    for name in ("front", "rear"):
        assert cameras.settled(name).values["camera"] == "healthy"


@pytest.mark.parametrize(
    ("cameras", "complaint"),
    [
        (["front", "front"], "cameras must be distinct, got front, front"),
        (["front", "2nd"], "cameras has the name '2nd'; expected letters, digits and single underscores"),
        (["front", "re__ar"], "cameras has the name 're__ar'"),
        (["front", ""], "cameras has the name ''"),
        (["a/b"], "cameras has the name 'a/b'"),
        ([f"camera_{number}" for number in range(17)], "cameras has 17 names, expected 1…16"),
    ],
)
def test_names_that_cannot_be_topics_are_one_error(cameras: list[str], complaint: str) -> None:
    from darkseg_ros.errors import DarksegError
    from darkseg_ros.nodes.segmentation_parameters import check_camera_names

    with pytest.raises(DarksegError, match="cameras") as error:
        check_camera_names(tuple(cameras))
    assert complaint in str(error.value)


def test_a_bad_name_ends_the_process_with_one_line(segmentation_node: StartNode) -> None:
    process = segmentation_node(cameras=["front", "front"])
    assert process.process.wait(timeout=30) == 1
    assert "segmentation_node: cameras must be distinct" in process.log
    assert "Traceback" not in process.log
