"""The other side of a node under test: a camera, listeners and service clients, all with deadlines."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from darkseg_ros.frames.messages import fill_compressed_image, fill_image

WITHIN_S = 20.0  # discovery alone may take seconds on a busy machine
SECOND_NS = 1_000_000_000

BEST_EFFORT = QoSReliabilityPolicy.BEST_EFFORT
RELIABLE = QoSReliabilityPolicy.RELIABLE
TRANSIENT_LOCAL = QoSDurabilityPolicy.TRANSIENT_LOCAL
VOLATILE = QoSDurabilityPolicy.VOLATILE

_Result = TypeVar("_Result")


def eventually(condition: Callable[[], _Result], *, within_s: float = WITHIN_S, what: str = "") -> _Result:
    """The first true answer; fails when there is none in time."""
    deadline_s = time.monotonic() + within_s
    while not (answer := condition()):
        assert time.monotonic() < deadline_s, f"not within {within_s} s: {what or condition}"
        time.sleep(0.01)
    return answer


def stamp_ns(message: Any) -> int:
    return message.header.stamp.sec * SECOND_NS + message.header.stamp.nanosec


def header(stamp_ns: int, frame_id: str = "camera") -> Header:
    message = Header(frame_id=frame_id)
    message.stamp.sec, message.stamp.nanosec = divmod(stamp_ns, SECOND_NS)
    return message


def image(bgr: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> Image:
    return fill_image(Image(), bgr, encoding="bgr8", header=header(stamp_ns, frame_id))


def jpeg(bgr: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> CompressedImage:
    return fill_compressed_image(CompressedImage(), bgr, header=header(stamp_ns, frame_id))


def bgr_of(color: tuple[int, int, int], hw: tuple[int, int] = (64, 128)) -> np.ndarray:
    return np.full((*hw, 3), color, np.uint8)


def scene(color: tuple[int, int], hw: tuple[int, int] = (96, 128), *, seed: int) -> np.ndarray:
    """What a healthy camera sees: blue and green as given, the red of a block of 8×8 pixels by chance."""
    blocks = np.random.default_rng(seed).integers(60, 256, (-(-hw[0] // 8), -(-hw[1] // 8)))
    bgr = bgr_of((*color, 0), hw)
    bgr[..., 2] = np.kron(blocks, np.ones((8, 8)))[: hw[0], : hw[1]]
    return bgr


def pixels(message: Image) -> np.ndarray:
    """The rows of a mono8 message, or of a bgr8 one with three values a pixel."""
    channels = {"mono8": 1, "bgr8": 3}[message.encoding]
    assert message.step == message.width * channels
    shape = (message.height, message.width, channels)[: 2 if channels == 1 else 3]
    return np.frombuffer(message.data, np.uint8).reshape(shape)


@dataclass(frozen=True)
class Status:
    """One diagnostic status."""

    level: int
    message: str
    values: dict[str, str]

    def number(self, key: str) -> int:
        return int(self.values[key])

    @property
    def dropped(self) -> int:
        return sum(int(value) for key, value in self.values.items() if key.startswith("dropped_"))


class Inbox:
    """Everything that arrived on a topic."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def of_stamp(self, stamp: int, *, within_s: float = WITHIN_S) -> Any:
        """The message of a stamp, waited for."""
        return eventually(
            lambda: next((message for message in list(self.messages) if stamp_ns(message) == stamp), None),
            within_s=within_s,
            what=f"a message of stamp {stamp}",
        )

    @property
    def stamps(self) -> list[int]:
        return [stamp_ns(message) for message in list(self.messages)]


class Probe:
    """A ROS node in this process, spun by a thread."""

    def __init__(self, name: str = "probe") -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = Node(name, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()
        self._diagnostics = self.listen(DiagnosticArray, "/diagnostics")
        self._stamp_ns = time.time_ns()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def next_stamp(self) -> int:
        """Later than any before; near the present."""
        self._stamp_ns = max(self._stamp_ns + 1_000_003, time.time_ns())
        return self._stamp_ns

    def listen(
        self,
        message_type: Any,
        topic: str,
        *,
        reliability: QoSReliabilityPolicy = RELIABLE,
        durability: QoSDurabilityPolicy = VOLATILE,
    ) -> Inbox:
        inbox = Inbox()
        qos = QoSProfile(depth=50, reliability=reliability, durability=durability)
        self.node.create_subscription(message_type, topic, inbox.messages.append, qos)
        self._executor.wake()
        return inbox

    @contextmanager
    def listening(self, message_type: Any, topic: str) -> Iterator[Inbox]:
        """Listen for a while."""
        inbox = Inbox()
        subscription = self.node.create_subscription(message_type, topic, inbox.messages.append, 50)
        self._executor.wake()
        yield inbox
        self.node.destroy_subscription(subscription)

    def publisher(
        self,
        message_type: Any,
        topic: str,
        *,
        reliability: QoSReliabilityPolicy = BEST_EFFORT,
        depth: int = 5,
    ) -> Any:
        return self.node.create_publisher(message_type, topic, QoSProfile(depth=depth, reliability=reliability))

    def camera(self, topic: str = "/image", message_type: Any = Image) -> Any:
        """A publisher, once a node listens to it."""
        publisher = self.publisher(message_type, topic)
        eventually(lambda: publisher.get_subscription_count(), what=f"a subscriber on {topic}")
        return publisher

    def connect(self, *, compressed: bool = False) -> tuple[Any, Inbox]:
        """A camera and the node's class maps, after a first frame made its way through both."""
        class_maps = self.listen(Image, "/segmentation_node/class_map")
        if compressed:
            camera, message = self.camera("/image/compressed", CompressedImage), jpeg
        else:
            camera, message = self.camera(), image

        def answered() -> bool:
            camera.publish(message(bgr_of((1, 200, 0), (8, 8)), self.next_stamp()))
            deadline_s = time.monotonic() + 0.3
            while time.monotonic() < deadline_s and not class_maps.messages:
                time.sleep(0.01)
            return bool(class_maps.messages)

        eventually(answered, what="a first class map")
        return camera, class_maps

    def status(
        self,
        condition: Callable[[Status], bool],
        *,
        within_s: float = WITHIN_S,
        fresh: bool = False,
        name: str | None = None,
    ) -> Status:
        """The first status from now on, the latest included unless it has to be fresh, that meets a condition.

        With a `name` only statuses of that name count.
        """
        seen = max(len(self._diagnostics.messages) - (0 if fresh else 1), 0)

        def find() -> Status | None:
            nonlocal seen
            for array in list(self._diagnostics.messages)[seen:]:
                seen += 1
                for status in array.status:
                    if name not in (None, status.name):
                        continue
                    values = {pair.key: pair.value for pair in status.values}
                    answer = Status(status.level[0], status.message, values)
                    if condition(answer):
                        return answer
            return None

        try:
            return eventually(find, within_s=within_s)
        except AssertionError:
            raise AssertionError(f"no such status; the last is {self._diagnostics.messages[-1:]}") from None

    def call(self, service_type: Any, name: str, request: Any, *, tries: int = 3) -> Any:
        """A service's answer. It is asked again: what it answers before it has found this new client is lost."""
        client = self.node.create_client(service_type, name)
        assert client.wait_for_service(WITHIN_S), name
        futures = []
        for _ in range(tries):
            futures.append(client.call_async(request))
            self._executor.wake()
            with contextlib.suppress(AssertionError):
                eventually(lambda: any(future.done() for future in futures), within_s=WITHIN_S / tries)
                break
        done = next((future for future in futures if future.done()), None)
        self.node.destroy_client(client)
        assert done, f"not within {WITHIN_S} s: an answer of {name}"
        return done.result()

    def change_state(self, transition: str | int, node: str = "/segmentation_node") -> bool:
        """Ask for a transition by its label or, as lifecycle managers do, by its id."""
        request = ChangeState.Request()
        if isinstance(transition, int):
            request.transition.id = transition
        else:
            request.transition.label = transition
        return self.call(ChangeState, f"{node}/change_state", request, tries=1).success  # a second one is another

    def state(self, node: str = "/segmentation_node") -> str:
        """The lifecycle state, as the node's service tells it."""
        return self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label

    def set_parameter(self, name: str, value: float | int | str, node: str = "/segmentation_node") -> Any:
        """The node's answer: successful, and the reason when not."""
        if isinstance(value, str):
            content = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)
        elif isinstance(value, float):
            content = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
        else:
            content = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=value)
        request = SetParameters.Request(parameters=[Parameter(name=name, value=content)])
        return self.call(SetParameters, f"{node}/set_parameters", request).results[0]
