"""The shipped layouts of RViz and Foxglove, for nodes in a namespace and any camera."""

from __future__ import annotations

import json
from collections.abc import Sequence

from darkseg_ros.installed_files import share_directory

_NODES = ("segmentation_node", "overlay_node")


def rviz_config(namespaces: Sequence[str]) -> str:
    """The RViz configuration with the displays of each camera.

    Args:
        namespaces: of the cameras' nodes; an empty one is the root.
    """
    shipped = (share_directory() / "config" / "segmentation.rviz").read_text(encoding="utf-8")
    head, begin, rest = shipped.partition("  Displays:\n")
    displays, end, tail = rest.partition("  Enabled: true\n  Global Options:")
    assert end, "config/segmentation.rviz has no displays"
    for_each = [_in_namespace(displays, namespace) for namespace in namespaces]
    if len(namespaces) > 1:
        for_each = [
            text.replace("      Name: ", f"      Name: {namespace} ")
            for text, namespace in zip(for_each, namespaces, strict=True)
        ]
    return "".join([head, begin, *for_each, end, tail])


def foxglove_layout(*, namespace: str, image_topic: str, camera: str = "") -> str:
    """The Foxglove layout of one camera.

    Args:
        namespace: of the camera's nodes; an empty one is the root.
        image_topic: absolute name of the camera's images, which is the hardware_id of its status.
        camera: its name where one segmentation_node, in the root, serves several.
    """
    text = (share_directory() / "config" / "foxglove_layout.json").read_text(encoding="utf-8")
    layout = json.loads(_in_namespace(text, namespace))
    node = "segmentation_node" if camera else "/".join([*filter(None, namespace.split("/")), "segmentation_node"])
    task = f"segmentation of {camera}" if camera else "segmentation"
    layout["configById"]["DiagnosticStatusPanel!segmentation"] |= {
        "selectedHardwareId": image_topic,
        "selectedName": f"{node}: {task}",
    }
    return json.dumps(layout, indent=2, ensure_ascii=False) + "\n"


def _in_namespace(text: str, namespace: str) -> str:
    prefix = "".join(f"/{part}" for part in namespace.split("/") if part)
    for node in _NODES:
        text = text.replace(f"/{node}/", f"{prefix}/{node}/")
    return text
