"""Images taken by the thread that serves them, which waits for them itself.

rclpy's executor builds its wait set anew for each frame (1.5 ms), converts also the messages that the next one
replaces, and holds the interpreter's lock while the thread that serves frames waits for it. Here the subscription and
its events stay out of the executor: one event left there would wake it for every message. The middleware keeps the
newest frame until the thread is free; what it replaced meanwhile is counted by the publisher's numbers.

rclpy (Jazzy, Kilted) keeps its ``WaitSet`` and ``GuardCondition`` to itself; tests/ros/test_image_wait_set.py fails
when they change.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import EventHandler, QoSSubscriptionEventType
from rclpy.exceptions import InvalidHandle
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.qos import QoSHistoryPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from darkseg_ros.errors import ImageMessageError, one_line
from darkseg_ros.frames.image_cdr import is_little_endian_cdr, parse_image
from darkseg_ros.nodes.librcl import SerialisedTaker, Taken, librcl
from darkseg_ros.stream.replaced_frames import ReplacedFrames

_LOOK_S = 0.1
"""It looks again at least so often, so that who watches the stream knows that nothing has come."""

_MOST_AT_ONCE = 1000
"""Images taken one after the other where a parameter makes the middleware keep all of them."""

_LOG_PERIOD_S = 5.0


class NotByExecutor(CallbackGroup):
    """A group whose entities the executor leaves alone."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        """Nothing begins."""


@dataclass(frozen=True)
class WaitedImage:
    """An image message as it was taken.

    Attributes:
        message: of the topic's type; or a SerialisedImage, whose data are a view of memory that is used again once no
            view of it is alive; or an ImageMessageError, of an image that cannot be read.
        arrived_s: seconds of the steady clock when it reached this machine.
        replaced: frames of its publisher that it replaced in the middleware.
    """

    message: Any
    arrived_s: float
    replaced: int


class _Source:
    """One subscription in the set."""

    def __init__(self, subscription: Subscription, callback: Callable[[WaitedImage], None]) -> None:
        self.subscription = subscription
        self.events: tuple[EventHandler, ...] = tuple(subscription.event_handlers)
        self.replaced = ReplacedFrames()
        qos = subscription.qos_profile
        self._most = max(1, qos.depth) if qos.history is QoSHistoryPolicy.KEEP_LAST else _MOST_AT_ONCE
        self._callback = callback
        library = librcl() if subscription.raw else None
        self._take = self._take_by_rclpy if library is None else SerialisedTaker(library, subscription).take

    def take_all(self, *, looked_s: float) -> None:
        """Hand on what waits, the oldest first; with depth 1 that is the newest frame.

        Args:
            looked_s: when nothing waited last: what waits came later.
        """
        for _ in range(self._most):
            taken = self._take()
            if taken is None:
                return
            now_s = time.monotonic()
            waited_s = (time.time_ns() - taken.received_ns) / 1e9 if taken.received_ns else 0.0
            arrived_s = min(now_s, max(looked_s, now_s - waited_s))
            replaced = self._count_replaced(taken)
            self._callback(WaitedImage(self._read(taken.message), arrived_s, replaced))

    def _take_by_rclpy(self) -> Taken | None:
        with self.subscription.handle:
            answer = self.subscription.handle.take_message(self.subscription.msg_type, self.subscription.raw)
        if answer is None:
            return None
        message, info = answer
        return Taken(message, info["publication_sequence_number"] or 0, b"", info["received_timestamp"] or 0)

    def _count_replaced(self, taken: Taken) -> int:
        replaced = self.replaced.count(taken.publisher, taken.number)
        if replaced and not taken.publisher and self.subscription.get_publisher_count() > 1:
            return 0  # the numbers are those of several publishers
        return replaced

    def _read(self, message: Any) -> Any:
        if not self.subscription.raw:
            return message
        serialised = memoryview(message)
        try:
            if is_little_endian_cdr(serialised):
                return parse_image(serialised)
            return _deserialised(serialised, self.subscription.msg_type)
        except ImageMessageError as error:
            return error


def _deserialised(serialised: memoryview, message_type: Any) -> Any:
    """An image of a publisher with another byte order.

    Raises:
        ImageMessageError: if the middleware cannot read it.
    """
    try:
        return deserialize_message(bytes(serialised), message_type)
    except Exception as error:  # rclpy tells no reason by its type
        raise ImageMessageError(f"the serialised image cannot be read: {one_line(error)}") from error


class ImageWaitSet:
    """Waits for images and for `wake`, in one thread; subscriptions may come and go meanwhile, in others.

    Args:
        node: has the subscriptions; its executor runs what their events call.
    """

    def __init__(self, node: Node) -> None:
        self._looked_s = time.monotonic()
        self._node = node
        self._lock = threading.Lock()
        self._sources: tuple[_Source, ...] = ()
        self._waiting_thread: int | None = None
        self._wait_set: Any = None
        self._size = (-1, -1)
        self._guard = _rclpy.GuardCondition(node.context.handle)

    def add(self, subscription: Subscription, callback: Callable[[WaitedImage], None]) -> None:
        """Take a subscription's images from now on.

        Args:
            subscription: made with the group `NotByExecutor`; with ``raw`` its messages are taken serialised.
            callback: takes an image, in the thread that waits. What it raises is logged.
        """
        with self._lock:
            self._sources = (*self._sources, _Source(subscription, callback))
        self.wake()

    def remove(self, subscription: Subscription) -> None:
        """Take no images of it any more; it may be destroyed then."""
        with self._lock:
            self._sources = tuple(each for each in self._sources if each.subscription is not subscription)
        self.wake()

    def looked_at(self, subscription: Subscription) -> float:
        """Steady clock when it was seen last whether a subscription had an image; now if it is not in the set."""
        held = any(each.subscription is subscription for each in self._sources)
        return self._looked_s if held else time.monotonic()

    def wake(self) -> None:
        """End a wait, the present one or the next; the thread that waits needs none, as it looks before it waits."""
        if threading.get_ident() != self._waiting_thread:
            self._guard.trigger_guard_condition()

    def wait(self, within_s: float | None) -> None:
        """Hand on the images that came, or wait for one, for `wake`, or until the time is over.

        Args:
            within_s: seconds; None for as long as it takes. It may end earlier without a reason.
        """
        self._waiting_thread = threading.get_ident()
        timeout_s = _LOOK_S if within_s is None else min(within_s, _LOOK_S)
        if not self._node.context.ok():
            time.sleep(timeout_s)  # the process ends, and with it the handles
            return
        try:
            ready, events = self._ready_within(timeout_s)
            before_s, self._looked_s = self._looked_s, time.monotonic()
            for source, event in events:
                self._deal_with(source, event)
            for source in ready:
                source.take_all(looked_s=before_s)
        except Exception as error:  # whatever one message does: a thread that ended would serve no image any more
            if self._node.context.ok():
                self._node.get_logger().error(
                    f"images cannot be taken: {type(error).__name__}: {one_line(error)}",
                    throttle_duration_sec=_LOG_PERIOD_S,
                )
            time.sleep(timeout_s)

    def _deal_with(self, source: _Source, event: EventHandler) -> None:
        status = event.take_data()
        if status is None:
            return
        if event.event_type == QoSSubscriptionEventType.RCL_SUBSCRIPTION_MESSAGE_LOST:
            source.replaced.note_lost(status.total_count_change)
        else:  # it may make and destroy entities, as only the executor's thread does
            self._node.executor.create_task(event.callback, status)

    def _ready_within(self, timeout_s: float) -> tuple[list[_Source], list[tuple[_Source, EventHandler]]]:
        with ExitStack() as held:
            held.enter_context(self._guard)
            held.enter_context(self._node.context.handle)
            sources = [each for each in self._sources if _hold(held, each)]
            events = [(source, event) for source in sources for event in source.events]
            wait_set = self._wait_set_for(len(sources), len(events))
            wait_set.clear_entities()
            wait_set.add_guard_condition(self._guard)
            indices = [wait_set.add_subscription(each.subscription.handle) for each in sources]
            for _, event in events:
                event.add_to_wait_set(wait_set)
            wait_set.wait(int(timeout_s * 1e9))
            ready = [
                each for each, index in zip(sources, indices, strict=True) if wait_set.is_ready("subscription", index)
            ]
            return ready, [each for each in events if each[1].is_ready(wait_set)]

    def _wait_set_for(self, subscriptions: int, events: int) -> Any:
        """The wait set, made anew where another number of entities is to be waited for."""
        if self._size != (subscriptions, events):
            self._size = subscriptions, events
            self._wait_set = _rclpy.WaitSet(subscriptions, 1, 0, 0, 0, events, self._node.context.handle)
        return self._wait_set


def _hold(held: ExitStack, source: _Source) -> bool:
    """Keep a subscription and its events from being destroyed; False if they are."""
    try:
        held.enter_context(source.subscription.handle)
        for event in source.events:
            held.enter_context(event)
    except InvalidHandle:
        return False
    return True
