"""Quality of service of the package's topics, and warnings where two sides do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Infinite
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import (
    QoSCompatibility,
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

_NAMES_KNOWN_AFTER_S = 1.0

_LOG_PERIOD_S = 5.0


def newest_frame(depth: int = 1) -> QoSProfile:
    """Best effort: what a camera sends, and nothing that waits longer than `depth` frames."""
    return _profile(QoSReliabilityPolicy.BEST_EFFORT, depth=depth)


def result(depth: int = 1) -> QoSProfile:
    """Reliable."""
    return _profile(QoSReliabilityPolicy.RELIABLE, depth=depth)


def latched() -> QoSProfile:
    """Reliable, and also delivered to those who come later."""
    return _profile(QoSReliabilityPolicy.RELIABLE, depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def _profile(
    reliability: QoSReliabilityPolicy,
    *,
    depth: int,
    durability: QoSDurabilityPolicy = QoSDurabilityPolicy.VOLATILE,
) -> QoSProfile:
    # a profile each: qos_overrides change it
    return QoSProfile(history=QoSHistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


def subscribe(
    node: Node,
    message_type: Any,
    topic: str,
    callback: Callable[[Any], None],
    qos: QoSProfile,
    *,
    matched: Callable[[Any], None] | None = None,
    callback_group: CallbackGroup | None = None,
    raw: bool = False,
) -> Subscription:
    """Subscribe; QoS can be overridden, and what does not fit is said.

    Args:
        node: warns, by name, of publishers it will never hear and of those that miss its deadline.
        message_type: class of the messages.
        topic: relative or absolute; remapped as ever.
        callback: takes a message.
        qos: a profile of its own: it may be changed.
        matched: called when publishers come and go.
        callback_group: of the subscription and its events; the node's own unless given.
        raw: whether the callback takes serialised messages.
    """
    events = SubscriptionEventCallbacks(
        incompatible_qos=lambda _: _warn_soon(node, topic),
        matched=matched,
        deadline=lambda _: _warn_of_deadline(node, node.resolve_topic_name(topic)),
    )
    return node.create_subscription(
        message_type,
        topic,
        callback,
        qos,
        callback_group=callback_group,
        event_callbacks=events,
        qos_overriding_options=_overridable(),
        raw=raw,
    )


def advertise(
    node: Node,
    message_type: Any,
    topic: str,
    qos: QoSProfile,
    *,
    matched: Callable[[Any], None] | None = None,
    create: Callable[..., Publisher] | None = None,
) -> Publisher:
    """Make a publisher; QoS can be overridden, and what does not fit is said.

    Args:
        node: warns, by name, of subscribers that will never hear it and of those whose deadline it misses.
        message_type: class of the messages.
        topic: relative or absolute; remapped as ever.
        qos: a profile of its own: it may be changed.
        matched: called when subscribers come and go.
        create: the node's ``create_publisher`` unless given, such as its ``create_lifecycle_publisher``.
    """
    events = PublisherEventCallbacks(
        incompatible_qos=lambda _: _warn_soon(node, topic),
        deadline=lambda _: _warn_of_deadline(node, node.resolve_topic_name(topic)),
        matched=matched,
    )
    return (node.create_publisher if create is None else create)(
        message_type, topic, qos, event_callbacks=events, qos_overriding_options=_overridable()
    )


def _overridable() -> QoSOverridingOptions:
    """They can be set, as parameters ``qos_overrides.<topic>.publisher.depth``…; a deadline is in nanoseconds."""
    return QoSOverridingOptions(
        (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DEADLINE)
    )


def _warn_soon(node: Node, topic: str) -> None:
    def warn() -> None:
        timer.cancel()
        node.destroy_timer(timer)
        _warn_of_mismatches(node, node.resolve_topic_name(topic))

    # the endpoint is discovered before the name of its node
    timer = node.create_timer(_NAMES_KNOWN_AFTER_S, warn, clock=Clock(clock_type=ClockType.STEADY_TIME))


def _warn_of_mismatches(node: Node, topic: str) -> None:
    for publisher in node.get_publishers_info_by_topic(topic):
        for subscriber in node.get_subscriptions_info_by_topic(topic):
            if node.get_fully_qualified_name() not in (_node_name(publisher), _node_name(subscriber)):
                continue
            compatibility, reason = qos_check_compatible(publisher.qos_profile, subscriber.qos_profile)
            if compatibility == QoSCompatibility.ERROR:
                node.get_logger().warning(
                    f"no messages on {topic} from {_describe(publisher)} to {_describe(subscriber)}: "
                    f"{reason.strip().rstrip(';')}; change one, here with the parameters qos_overrides"
                )


def _warn_of_deadline(node: Node, topic: str) -> None:
    publishers, subscribers = (
        ", ".join(map(_describe, endpoints)) or "nobody"
        for endpoints in (node.get_publishers_info_by_topic(topic), node.get_subscriptions_info_by_topic(topic))
    )
    node.get_logger().warning(
        f"deadline missed: no message on {topic} in time from {publishers} to {subscribers}",
        throttle_duration_sec=_LOG_PERIOD_S,
    )


def _node_name(endpoint: TopicEndpointInfo) -> str:
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def _describe(endpoint: TopicEndpointInfo) -> str:
    qos = endpoint.qos_profile
    words = [qos.reliability.name.lower(), qos.durability.name.lower()]
    if 0 < qos.deadline.nanoseconds < Infinite.nanoseconds:
        words.append(f"deadline {qos.deadline.nanoseconds / 1e6:g} ms")
    return f"{_node_name(endpoint)} ({', '.join(words)})"
