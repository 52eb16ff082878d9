"""What a node says of an image topic on which nobody publishes: most often its name is wrong."""

from __future__ import annotations

from collections.abc import Mapping

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.subscription import Subscription

_SILENT_AFTER_S = 5.0

_TOPICS_NAMED_MAX = 20


def warn_without_publisher(
    node: Node, subscription: Subscription, *, relative_name: str, image_types: Mapping[str, str]
) -> None:
    """Warn once, five seconds from now, if nobody publishes what the subscription listens to.

    Args:
        node: has the subscription, and the parameter `transport`.
        subscription: to camera images; may be destroyed before.
        relative_name: of its topic, to be remapped.
        image_types: of messages, by the transport that sends them, such as ``sensor_msgs/msg/Image`` by ``raw``.
    """

    def look() -> None:
        timer.cancel()
        node.destroy_timer(timer)
        if subscription in node.subscriptions and not node.count_publishers(subscription.topic_name):
            node.get_logger().warning(
                f"nobody publishes {subscription.topic_name} ({node.get_parameter('transport').value}); "
                f"{_existing_image_topics(node, image_types)}; "
                f"remap with -r {relative_name}:=TOPIC, in launch files image:=TOPIC"
            )

    # a steady clock: with use_sim_time nothing would be said before the bag is played
    timer = node.create_timer(_SILENT_AFTER_S, look, clock=Clock(clock_type=ClockType.STEADY_TIME))


def _existing_image_topics(node: Node, image_types: Mapping[str, str]) -> str:
    found = {
        transport: [
            topic
            for topic, types in node.get_topic_names_and_types()
            if message_type in types and _others_publish(node, topic)
        ]
        for transport, message_type in image_types.items()
    }
    if not any(found.values()):
        return "no image topic exists here; start the camera, and compare ROS_DOMAIN_ID"
    told = [
        f"{transport}: {', '.join(topics[:_TOPICS_NAMED_MAX])}{' …' if len(topics) > _TOPICS_NAMED_MAX else ''}"
        for transport, topics in found.items()
        if topics
    ]
    return f"image topics here are {'; '.join(told)}"


def _others_publish(node: Node, topic: str) -> bool:
    own = (node.get_namespace(), node.get_name())
    return any((info.node_namespace, info.node_name) != own for info in node.get_publishers_info_by_topic(topic))
