"""What the values of a class map mean, as a message."""

from __future__ import annotations

import json
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from std_msgs.msg import Header, String

from darkseg_ros.classes import IGNORE_INDEX, ClassTable
from darkseg_ros.nodes.qos import advertise, latched

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:  # not on PyPI
    LabelInfo = None


class LabelInfoPublisher:
    """Publishes the class table, also to those who come later.

    The message is a vision_msgs/LabelInfo where that package imports, else its content as JSON in a
    std_msgs/String, with raw label ids, categories and colours beside.
    """

    def __init__(self, node: Node, topic: str) -> None:
        message_type = String if LabelInfo is None else LabelInfo
        self._node = node
        self._publisher: Publisher = advertise(node, message_type, topic, latched())

    def publish(self, classes: ClassTable, *, bundle: str, min_confidence: float) -> None:
        """Announce the table.

        Args:
            classes: of the class maps.
            bundle: name of the model bundle.
            min_confidence: 0…1; pixels below are IGNORE_INDEX in the class map.
        """
        if LabelInfo is None:
            message: Any = String(data=label_info_json(classes, bundle=bundle, min_confidence=min_confidence))
        else:
            header = Header(stamp=self._node.get_clock().now().to_msg())
            class_map = [VisionClass(class_id=train_id, class_name=name) for train_id, name in enumerate(classes.names)]
            message = LabelInfo(header=header, class_map=class_map, threshold=min_confidence)
        self._publisher.publish(message)


def label_info_json(classes: ClassTable, *, bundle: str, min_confidence: float) -> str:
    """The content of vision_msgs/LabelInfo and what else a viewer needs."""
    return json.dumps(
        {
            "class_map": [
                {
                    "class_id": train_id,
                    "class_name": row.name,
                    "label_id": row.label_id,
                    "category": row.category,
                    "rgb": row.rgb,
                }
                for train_id, row in enumerate(classes)
            ],
            "threshold": min_confidence,
            "unlabelled_id": IGNORE_INDEX,
            "bundle": bundle,
        }
    )
