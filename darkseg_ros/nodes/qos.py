"""Quality of service of the package's topics, and warnings where two sides do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability
    )


def subscription_events(node: Node, topic: str, qos: QoSProfile) -> SubscriptionEventCallbacks:
    """Warn of publishers that this node will never hear, by name and with both sides' policies."""

    def warn(_: Any) -> None:
        publishers = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
        _warn_of_mismatch(
            node, topic, publishers, "publisher", qos, lambda theirs: qos_check_compatible(theirs, qos)
        )

    return SubscriptionEventCallbacks(incompatible_qos=warn)


def publisher_events(
    node: Node, topic: str, qos: QoSProfile, *, matched: Callable[[Any], None] | None = None
) -> PublisherEventCallbacks:
    """Warn of subscribers that will never hear this node, by name and with both sides' policies."""

    def warn(_: Any) -> None:
        subscribers = node.get_subscriptions_info_by_topic(node.resolve_topic_name(topic))
        _warn_of_mismatch(
            node, topic, subscribers, "subscriber", qos, lambda theirs: qos_check_compatible(qos, theirs)
        )

    return PublisherEventCallbacks(incompatible_qos=warn, matched=matched)


def _warn_of_mismatch(
    node: Node,
    topic: str,
    endpoints: list[Any],
    role: str,
    ours: QoSProfile,
    check: Callable[[QoSProfile], tuple[QoSCompatibility, str]],
) -> None:
    for endpoint in endpoints:
        compatibility, reason = check(endpoint.qos_profile)
        if compatibility is QoSCompatibility.ERROR:
            namespace = endpoint.node_namespace.rstrip("/")
            node.get_logger().warning(
                f"no messages on {node.resolve_topic_name(topic)} between this node and the {role} "
                f"{namespace}/{endpoint.node_name}: {reason.strip().rstrip(';')}. "
                f"This node: {_describe(ours)}; {endpoint.node_name}: {_describe(endpoint.qos_profile)}. "
                f"Change one of them, here with the parameters qos_overrides"
            )


def _describe(qos: QoSProfile) -> str:
    return f"{qos.reliability.name.lower()}, {qos.durability.name.lower()}"
