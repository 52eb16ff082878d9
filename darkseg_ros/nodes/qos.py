"""Quality of service of the package's topics, and warnings where two sides do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import (
    QoSCompatibility,
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo

_NAMES_KNOWN_AFTER_S = 1.0

OVERRIDABLE = QoSOverridingOptions.with_default_policies
"""History, depth and reliability can be set, as parameters ``qos_overrides.<topic>.publisher.depth``…"""


def newest_frame() -> QoSProfile:
    """Best effort, depth 1: what a camera sends, and nothing that waits."""
    return _profile(QoSReliabilityPolicy.BEST_EFFORT, depth=1)


def result() -> QoSProfile:
    """Reliable, depth 1."""
    return _profile(QoSReliabilityPolicy.RELIABLE, depth=1)


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


def subscription_events(node: Node, topic: str) -> SubscriptionEventCallbacks:
    """Warn of publishers that this node will never hear, by name and with both sides' policies."""
    return SubscriptionEventCallbacks(incompatible_qos=lambda _: _warn_soon(node, topic))


def publisher_events(
    node: Node, topic: str, *, matched: Callable[[Any], None] | None = None
) -> PublisherEventCallbacks:
    """Warn of subscribers that will never hear this node, by name and with both sides' policies."""
    return PublisherEventCallbacks(incompatible_qos=lambda _: _warn_soon(node, topic), matched=matched)


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


def _node_name(endpoint: TopicEndpointInfo) -> str:
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def _describe(endpoint: TopicEndpointInfo) -> str:
    qos = endpoint.qos_profile
    return f"{_node_name(endpoint)} ({qos.reliability.name.lower()}, {qos.durability.name.lower()})"
