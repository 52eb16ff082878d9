"""Plays a bag where there is no ``ros2 bag``: the recorded bytes, at their recorded times."""

from __future__ import annotations

import importlib
import queue
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rosbags.interfaces import QosDurability
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from darkseg_ros.errors import BagError
from darkseg_ros.frames.bags import BagMessage, BagReader, BagTopic
from darkseg_ros.frames.stamps import stamp_ns_of
from darkseg_ros.nodes.middleware import prepare_middleware

_PREFETCHED_MESSAGES = 8  # reading 6 MB from a disk can take longer than a frame's time
_CLOCK_PERIOD_S = 0.025
_DEPTH, _DEPTH_MAX = 10, 1000
_POLL_S = 0.05
_FLUSH_S = 2.0
_SETTLE_S = 1.0
_LINGER_S = 0.3
_ANSWER_WITHIN_S = 10.0


@dataclass(frozen=True)
class Lockstep:
    """Play no faster than a node answers, whatever the machine's speed.

    Attributes:
        topic: of the bag; its messages begin with a std_msgs/Header, as images do.
        answer: topic of std_msgs/Header; after each message of `topic` the player waits for one of the same stamp.
    """

    topic: str
    answer: str


@dataclass(frozen=True)
class PlayReport:
    """What was played.

    Attributes:
        messages: number of messages published, all passes of a loop together.
        seconds: time from the first to the last of them.
        skipped_topics: topics whose message type is not installed here.
        unanswered: messages that lockstep waited for in vain.
    """

    messages: int
    seconds: float
    skipped_topics: tuple[str, ...]
    unanswered: int


def play_bag(
    path: Path | str,
    *,
    rate: float = 1.0,
    loop: bool = False,
    topics: Collection[str] | None = None,
    publish_clock: bool = False,
    wait_for_subscribers: float = 0.0,
    wait_for_nodes: Collection[str] = (),
    lockstep: Lockstep | None = None,
    on_publish: Callable[[BagMessage, int], None] | None = None,
) -> PlayReport:
    """Publish a bag's messages at their recorded distances in time, until its end or Ctrl-C.

    Args:
        path: folder or storage file of the bag.
        rate: > 0; 2 plays twice as fast.
        loop: start again at the end, with the same stamps, until Ctrl-C.
        topics: names of the topics to play, None for all.
        publish_clock: publish the recorded time on /clock, for nodes with use_sim_time.
        wait_for_subscribers: seconds to wait until every topic played has a subscriber; 0 does not wait.
        wait_for_nodes: full names of nodes, such as /segmentation_node, each of which is to subscribe to a topic
            played first; this takes the place of a subscriber on every topic.
        lockstep: wait for a node's answers instead of the recorded distances in time.
        on_publish: called after each publication with the message and the time.monotonic_ns() of its start.

    Raises:
        BagError: if the bag cannot be read, lacks one of the topics, holds no message that can be published,
            or subscribers were waited for in vain.
        ValueError: if the rate is not a positive number.
    """
    if not 0 < rate < float("inf"):
        raise ValueError(f"rate must be a positive number, got {rate}")
    prepare_middleware()
    context = Context()
    rclpy.init(context=context)
    try:
        with BagReader(path) as reader:
            node = Node("bag_player", context=context, start_parameter_services=False)
            try:
                player = _Player(node, reader, topics=topics, publish_clock=publish_clock, lockstep=lockstep)
                if wait_for_subscribers > 0:
                    player.wait_for_subscribers(wait_for_subscribers, nodes=wait_for_nodes)
                return player.play(rate=rate, loop=loop, on_publish=on_publish)
            finally:
                node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)


class _Player:
    def __init__(
        self,
        node: Node,
        reader: BagReader,
        *,
        topics: Collection[str] | None,
        publish_clock: bool,
        lockstep: Lockstep | None,
    ) -> None:
        self._node = node
        self._lockstep = lockstep
        self._answers = None if lockstep is None else _Answers(node, lockstep.answer)
        self._reader = reader
        self._clock_publisher: Publisher | None = node.create_publisher(Clock, "/clock", 1) if publish_clock else None
        self._publishers: dict[str, Publisher] = {}
        skipped = []
        for name in reader.topics if topics is None else topics:
            if name not in reader.topics:
                raise BagError(f"{reader.path} has no topic {name}; it has {', '.join(reader.topics)}")
            message_class = _message_class(reader.topics[name].message_type)
            if message_class is None:
                skipped.append(name)
            else:
                self._publishers[name] = node.create_publisher(message_class, name, qos_of(reader.topics[name]))
        self._skipped_topics = tuple(skipped)
        if not any(reader.topics[name].count for name in self._publishers):
            not_installed = ", ".join(reader.topics[name].message_type for name in skipped)
            cure = f"install the message types {not_installed}" if skipped else f"{reader.contents()}"
            raise BagError(f"{reader.path} holds no message that can be published; {cure}")

    def wait_for_subscribers(self, seconds: float, *, nodes: Collection[str]) -> None:
        deadline_s = time.monotonic() + seconds
        while missing := self._nodes_not_subscribed(nodes) if nodes else self._topics_without_subscriber():
            if time.monotonic() > deadline_s:
                expected = "a subscription of" if nodes else "a subscriber on"
                raise BagError(
                    f"expected {expected} {', '.join(missing)} within {seconds:g} s, none came; "
                    "start the node first, and compare topic names and ROS_DOMAIN_ID"
                )
            time.sleep(_POLL_S)
        # the subscriber learns of the publisher later than the other way round, and best effort repeats nothing
        time.sleep(_SETTLE_S)

    def _topics_without_subscriber(self) -> list[str]:
        return [
            name
            for name, publisher in self._publishers.items()
            if self._reader.topics[name].count and not publisher.get_subscription_count()
        ]

    def _nodes_not_subscribed(self, nodes: Collection[str]) -> list[str]:
        subscribed = {
            f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
            for name in self._publishers
            for endpoint in self._node.get_subscriptions_info_by_topic(name)
        }
        return sorted(set(nodes) - subscribed)

    def play(self, *, rate: float, loop: bool, on_publish: Callable[[BagMessage, int], None] | None) -> PlayReport:
        count = unanswered = 0
        started_s = last_s = pass_starts_s = time.monotonic()
        try:
            while True:
                stamp_ns = gap_ns = 0
                first_ns: int | None = None
                for message in _prefetch(self._reader.messages(self._publishers)):
                    if first_ns is None:
                        first_ns = stamp_ns = message.log_stamp_ns
                    if count == 0:
                        started_s = pass_starts_s = time.monotonic()  # reading until now is no delay
                    gap_ns = max(message.log_stamp_ns - stamp_ns, 0) or gap_ns
                    stamp_ns = message.log_stamp_ns
                    due_s = pass_starts_s + (stamp_ns - first_ns) / 1e9 / rate
                    self._sleep_until(due_s, stamp_ns=stamp_ns, rate=rate)
                    now_ns = time.monotonic_ns()
                    self._publishers[message.topic].publish(message.data)
                    last_s = time.monotonic()
                    count += 1
                    if on_publish is not None:
                        on_publish(message, now_ns)
                    if (
                        self._answers is not None
                        and self._lockstep is not None
                        and message.topic == self._lockstep.topic
                    ):
                        unanswered += not self._answers.wait_for(_stamp_ns_of_cdr(message.data))
                if not loop or first_ns is None:
                    break
                pass_starts_s += (stamp_ns - first_ns + gap_ns) / 1e9 / rate
        except KeyboardInterrupt:
            pass  # the way to end a loop
        for publisher in self._publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=_FLUSH_S))
        # best-effort subscribers acknowledge nothing, and the last message dies with the publisher's shared memory
        time.sleep(_LINGER_S)
        return PlayReport(count, last_s - started_s, self._skipped_topics, unanswered)

    def _sleep_until(self, due_s: float, *, stamp_ns: int, rate: float) -> None:
        while self._lockstep is None and (left_s := due_s - time.monotonic()) > 0:
            if self._clock_publisher is None:
                time.sleep(left_s)
            else:
                self._publish_clock(stamp_ns - int(left_s * rate * 1e9))
                time.sleep(min(left_s, _CLOCK_PERIOD_S))
        self._publish_clock(stamp_ns)

    def _publish_clock(self, time_ns: int) -> None:
        if self._clock_publisher is not None:
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(time_ns, 1_000_000_000)
            self._clock_publisher.publish(message)


def qos_of(topic: BagTopic) -> QoSProfile:
    """What the topic's publishers offered, always reliable, which reaches subscribers of either kind.

    Where only some of them kept messages for those that come late, none is kept, as rosbag2 decides.
    """
    latched = bool(topic.qos) and all(qos.durability is QosDurability.TRANSIENT_LOCAL for qos in topic.qos)
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=max([_DEPTH, *(min(qos.depth, _DEPTH_MAX) for qos in topic.qos)]),
        reliability=QoSReliabilityPolicy.RELIABLE,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE,
    )


class _Answers:
    """The stamps that a node has answered."""

    def __init__(self, node: Node, topic: str) -> None:
        self._newest_ns: int | None = None
        qos = QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=10, reliability=QoSReliabilityPolicy.RELIABLE)
        node.create_subscription(Header, topic, self._on_answer, qos)
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)

    def _on_answer(self, header: Header) -> None:
        self._newest_ns = stamp_ns_of(header)

    def wait_for(self, stamp_ns: int) -> bool:
        """Whether the answer to this stamp came in time."""
        deadline_s = time.monotonic() + _ANSWER_WITHIN_S
        while self._newest_ns != stamp_ns:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            self._executor.spin_once(timeout_sec=left_s)
        return True


def _stamp_ns_of_cdr(data: bytes) -> int:
    """The stamp of a message that begins with a header: 4 bytes that tell the byte order, then the stamp."""
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def _message_class(message_type: str) -> Any:
    """The class of ``package/msg/Name``, or None where it is not installed."""
    package, _, name = message_type.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name, None)
    except ImportError:
        return None


def _prefetch(messages: Iterator[BagMessage]) -> Iterator[BagMessage]:
    """Read ahead in a thread; what reading raises is raised here."""
    ahead: queue.Queue[BagMessage | BaseException | None] = queue.Queue(maxsize=_PREFETCHED_MESSAGES)
    abandoned = threading.Event()

    def read() -> None:
        last: BaseException | None = None
        try:
            for message in messages:
                if not _offer(message):
                    return
        except BaseException as error:  # not lost: it crosses to the consumer's thread
            last = error
        _offer(last)

    def _offer(item: BagMessage | BaseException | None) -> bool:
        while not abandoned.is_set():
            try:
                ahead.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False

    thread = threading.Thread(target=read, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := ahead.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        abandoned.set()
        thread.join()
