"""Images by the thread that serves them, and what `librcl` and the wait set take of rclpy beside its public ways.

Where one fails, rclpy has changed, or the middleware's serialised form.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from darkseg_ros.errors import ImageMessageError
from darkseg_ros.frames.messages import bgr_from_image
from tests.core.frames.test_image_cdr import serialised

if TYPE_CHECKING:
    from darkseg_ros.nodes.image_wait_set import ImageWaitSet, WaitedImage
    from tests.ros.probe import Probe

WITHIN_S = 20.0
HW = (4, 6)


class Listener:
    """A subscription in a wait set, waited for by the test's own thread."""

    def __init__(self, probe: Probe, *, raw: bool = True, depth: int = 1) -> None:
        from sensor_msgs.msg import Image

        from darkseg_ros.nodes.image_wait_set import ImageWaitSet, NotByExecutor
        from darkseg_ros.nodes.qos import newest_frame, subscribe

        self._node = probe.node
        self.images: list[WaitedImage] = []
        self.matched_in: list[threading.Thread] = []
        self.called_by_executor: list[Any] = []
        self.wait_set: ImageWaitSet = ImageWaitSet(probe.node)
        self.subscription = subscribe(
            probe.node,
            Image,
            "/frames",
            self.called_by_executor.append,
            newest_frame(depth),
            matched=lambda _: self.matched_in.append(threading.current_thread()),
            callback_group=NotByExecutor(),
            raw=raw,
        )
        self.wait_set.add(self.subscription, self.images.append)

    def connect(self, publisher: Any) -> None:
        self.wait_until(lambda: publisher.get_subscription_count() and self.matched_in)

    def wait_until(self, condition: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < deadline_s
            self.wait_set.wait(0.05)

    def close(self) -> None:
        self.wait_set.remove(self.subscription)
        self._node.destroy_subscription(self.subscription)


Listen = Callable[..., Listener]


@pytest.fixture
def listen(probe: Probe) -> Iterator[Listen]:
    listeners: list[Listener] = []

    def make(**options: Any) -> Listener:
        listeners.append(Listener(probe, **options))
        return listeners[-1]

    yield make
    for listener in listeners:
        listener.close()


@pytest.fixture
def camera(probe: Probe) -> Any:
    from sensor_msgs.msg import Image

    from darkseg_ros.nodes.qos import newest_frame

    return probe.node.create_publisher(Image, "/frames", newest_frame(5))


def picture(number: int) -> Any:
    from tests.ros.probe import image

    return image(np.full((*HW, 3), number, np.uint8), stamp_ns=10**9 + number, frame_id="front")


def arrived(listener: Listener, number: int) -> bool:
    """Whether the newest image in the middleware is that of a number; takes nothing."""
    return any(image.message.header.stamp.nanosec == number for image in listener.images)


@pytest.mark.parametrize("way", ["librcl", "bytes", "message"])
def test_an_image_comes_as_it_was_sent_whatever_way_it_is_taken(
    listen: Listen, camera: Any, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from darkseg_ros.nodes import image_wait_set

    if way == "bytes":
        monkeypatch.setattr(image_wait_set, "librcl", lambda: None)
    listener = listen(raw=way != "message")
    listener.connect(camera)
    sent_s, sent = time.monotonic(), picture(3)
    camera.publish(sent)
    listener.wait_until(lambda: listener.images)
    (image,) = listener.images
    assert (image.message.header.stamp.sec, image.message.header.stamp.nanosec) == (1, 3)
    assert (image.message.header.frame_id, image.message.encoding) == ("front", "bgr8")
    assert (bgr_from_image(image.message) == 3).all()
    assert bytes(image.message.data) == bytes(sent.data)
    assert sent_s - 0.01 <= image.arrived_s <= time.monotonic()
    assert listener.called_by_executor == []


def test_an_images_bytes_stay_while_a_view_of_them_is_alive_and_their_memory_is_used_again(
    listen: Listen, camera: Any
) -> None:
    listener = listen()
    listener.connect(camera)
    addresses = []
    views: list[np.ndarray] = []
    for number in range(1, 5):
        camera.publish(picture(number))
        listener.wait_until(lambda: listener.images)
        views.append(bgr_from_image(listener.images.pop().message, view=True))
        addresses.append(views[-1].ctypes.data)
        if number > 2:
            views.pop()
    assert [(view == number).all() for number, view in zip((1, 2), views, strict=True)] == [True, True]
    assert addresses[3] == addresses[2]
    assert len(set(addresses)) == 3


def test_while_nobody_waits_the_newest_frame_replaces_the_others_and_they_are_counted(
    listen: Listen, camera: Any, probe: Probe
) -> None:
    listener = listen()
    listener.connect(camera)
    camera.publish(picture(1))
    listener.wait_until(lambda: listener.images)
    again = probe.node.create_publisher(type(picture(0)), "/frames", 5)
    listener.wait_until(lambda: again.get_subscription_count())
    for number in (2, 3, 4, 5):
        camera.publish(picture(number))
    time.sleep(0.3)  # they arrive meanwhile, the last to stay
    listener.wait_until(lambda: arrived(listener, 5))
    assert [(image.message.header.stamp.nanosec, image.replaced) for image in listener.images] == [(1, 0), (5, 3)]
    again.publish(picture(6))  # of another publisher, whose numbers begin at 1
    listener.wait_until(lambda: arrived(listener, 6))
    assert listener.images[-1].replaced == 0
    probe.node.destroy_publisher(again)


def test_without_the_publishers_names_gaps_of_two_publishers_count_for_nothing(
    listen: Listen, camera: Any, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from darkseg_ros.nodes import image_wait_set

    monkeypatch.setattr(image_wait_set, "librcl", lambda: None)
    listener = listen()
    listener.connect(camera)

    def send(publisher: Any, *numbers: int) -> int:
        for number in numbers:
            publisher.publish(picture(number))
        time.sleep(0.2)
        listener.wait_until(lambda: arrived(listener, numbers[-1]))
        return listener.images[-1].replaced

    assert [send(camera, 1), send(camera, 2, 3, 4)] == [0, 2]
    again = probe.node.create_publisher(type(picture(0)), "/frames", 5)
    listener.wait_until(lambda: listener.subscription.get_publisher_count() == 2)
    assert [send(again, 5), send(camera, 6)] == [0, 0]
    probe.node.destroy_publisher(again)


def test_of_several_that_wait_all_are_taken_the_oldest_first(listen: Listen, camera: Any) -> None:
    listener = listen(depth=5)
    listener.connect(camera)
    for number in (1, 2, 3):
        camera.publish(picture(number))
    listener.wait_until(lambda: arrived(listener, 3))
    assert [image.message.header.stamp.nanosec for image in listener.images] == [1, 2, 3]


def test_what_events_call_runs_in_the_executors_thread(listen: Listen, camera: Any) -> None:
    listener = listen()
    listener.connect(camera)
    assert set(listener.matched_in).isdisjoint({threading.current_thread()})


def test_another_byte_order_is_read_and_garbage_is_an_error_of_one_image(listen: Listen, camera: Any) -> None:
    listener = listen()
    listener.connect(camera)
    for data in (serialised(little_endian=False), b"\x00\x01\x00\x00garbage", serialised()[:-3]):
        camera.publish(data)
        seen = len(listener.images)
        listener.wait_until(lambda seen=seen: len(listener.images) > seen)
    swapped, *garbage = (image.message for image in listener.images)
    assert (swapped.header.frame_id, bytes(swapped.data)) == ("camera", bytes(range(18)))
    assert [type(message) for message in garbage] == [ImageMessageError, ImageMessageError]


def test_what_an_image_does_to_its_taker_ends_neither_the_wait_nor_the_images_after_it(
    listen: Listen, camera: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    listener = listen()
    listener.connect(camera)
    refused: list[Any] = []

    def refuse_once(image: WaitedImage) -> None:
        if not refused:
            refused.append(image)
            raise ValueError("no such image")
        listener.images.append(image)

    listener.wait_set.remove(listener.subscription)
    listener.wait_set.add(listener.subscription, refuse_once)
    camera.publish(picture(1))
    listener.wait_until(lambda: refused)
    camera.publish(picture(2))
    listener.wait_until(lambda: arrived(listener, 2))
    assert "images cannot be taken: ValueError: no such image" in capfd.readouterr().err


def test_a_wait_ends_when_woken_before_or_meanwhile_and_for_nothing_else(listen: Listen) -> None:
    from darkseg_ros.nodes import image_wait_set

    listener = listen()
    listener.wait_set.wait(0)  # what `add` woke
    started_s = time.monotonic()
    listener.wait_set.wait(None)
    assert time.monotonic() - started_s >= image_wait_set._LOOK_S * 0.9
    ended_s: list[float] = []

    def wait() -> None:
        listener.wait_set.wait(0)  # from now on this is the thread that waits
        ended_s.append(time.monotonic())
        listener.wait_set.wait(None)
        ended_s.append(time.monotonic())

    before_s = listener.wait_set.looked_at(listener.subscription)
    thread = threading.Thread(target=wait)
    thread.start()
    while not ended_s:
        time.sleep(0.001)
    listener.wait_set.wake()
    thread.join(WITHIN_S)
    assert len(ended_s) == 2
    assert listener.wait_set.looked_at(listener.subscription) > before_s


def test_a_subscription_that_was_removed_may_be_destroyed_while_the_thread_waits(probe: Probe) -> None:
    listener = Listener(probe)
    stop = threading.Event()

    def wait() -> None:
        while not stop.is_set():
            listener.wait_set.wait(None)

    thread = threading.Thread(target=wait)
    thread.start()
    listener.close()
    others = [Listener(probe) for _ in range(3)]
    for other in others:
        listener.wait_set.add(other.subscription, other.images.append)
        listener.wait_set.remove(other.subscription)
        other.close()
    stop.set()
    listener.wait_set.wake()
    thread.join(WITHIN_S)
    assert not thread.is_alive()


def test_a_published_message_is_the_same_by_librcl_and_by_rclpy(probe: Probe) -> None:
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    from darkseg_ros.nodes.librcl import SerialisedSender, librcl
    from tests.ros.probe import eventually

    library = librcl()
    assert library is not None
    publisher = probe.node.create_publisher(Image, "/answers", 10)
    inbox = probe.listen(Image, "/answers")
    eventually(publisher.get_subscription_count)
    message = np.frombuffer(serialize_message(picture(7)), np.uint8)
    SerialisedSender(library, publisher).send(message)
    assert inbox.of_stamp(10**9 + 7) == picture(7)


def test_what_librcl_refuses_is_told_in_its_words(ros_domain: int) -> None:
    from contextlib import nullcontext

    from darkseg_ros.nodes.librcl import LibrclError, SerialisedSender, librcl

    class NoHandle(nullcontext[None]):
        pointer = None

    library = librcl()
    assert library is not None
    for _ in range(2):  # the first error is forgotten
        with pytest.raises(LibrclError, match=r"failed with status \d+: publisher pointer is invalid"):
            SerialisedSender(library, SimpleNamespace(handle=NoHandle())).send(np.zeros(3, np.uint8))
