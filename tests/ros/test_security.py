from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed: rclpy does not import")

from sensor_msgs.msg import Image

from tests.ros.conftest import ROOT, StartNode
from tests.ros.probe import Probe, eventually

SECURITY = ROOT / "config" / "security"
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "segmentation_node": [{"use_sim_time": True}, {"transport": "compressed"}],
    "overlay_node": [{"use_sim_time": True}, {"transport": "compressed"}],
    "day2night_node": [{"use_sim_time": True, "pass_labels": True}, {"transport": "compressed"}],
    "evaluation_node": [{"use_sim_time": True}, {"transport": "compressed"}],
}
"""Settings of each node that bring up all of its topics between them."""


@dataclass(frozen=True)
class Endpoints:
    """Fully qualified names."""

    published: frozenset[str]
    subscribed: frozenset[str]
    served: frozenset[str]

    def __or__(self, other: Endpoints) -> Endpoints:
        return Endpoints(
            self.published | other.published, self.subscribed | other.subscribed, self.served | other.served
        )


def allowed(node: str) -> Endpoints:
    policy = ElementTree.parse(SECURITY / "policy.xml").getroot()
    profile = policy.find(f"enclaves/enclave[@path='/darkseg/{node}']/profiles/profile[@node='{node}'][@ns='/']")
    assert profile is not None, f"the policy has no enclave for {node}"

    def names(path: str) -> frozenset[str]:
        return frozenset(element.text or "" for element in profile.findall(path))

    return Endpoints(
        names("topics[@publish='ALLOW']/topic"),
        names("topics[@subscribe='ALLOW']/topic"),
        names("services[@reply='ALLOW']/service"),
    )


def endpoints(probe: Probe, node: str, namespace: str) -> Endpoints:
    """What the graph says of a node, as if its namespace were /."""

    def names(ask: Callable[[str, str], list[tuple[str, list[str]]]]) -> frozenset[str]:
        return frozenset(f"/{name.removeprefix(namespace).lstrip('/')}" for name, _ in ask(node, namespace))

    graph = probe.node
    return Endpoints(
        names(graph.get_publisher_names_and_types_by_node),
        names(graph.get_subscriber_names_and_types_by_node),
        names(graph.get_service_names_and_types_by_node),
    )


@pytest.mark.parametrize("node", VARIANTS)
def test_the_policy_allows_exactly_what_a_node_uses(
    node: str, probe: Probe, start_node: StartNode, tiny_bundle: Path
) -> None:
    extra = {"bundle": tiny_bundle, "backend": "fake"} if node == "segmentation_node" else {}
    namespaces = []
    for index, variant in enumerate(VARIANTS[node]):
        namespace = f"/variant_{index}"
        start_node(node, parameters=extra | variant, remappings={"__ns": namespace})
        if node == "overlay_node":  # it subscribes while it is watched
            probe.listen(Image, f"{namespace}/overlay_node/overlay")
        namespaces.append(namespace)
    permissions = allowed(node)

    def used() -> Endpoints:
        found = Endpoints(frozenset(), frozenset(), frozenset())
        for namespace in namespaces:
            if (node, namespace) in probe.node.get_node_names_and_namespaces():
                found |= endpoints(probe, node, namespace)
        return found

    try:
        eventually(lambda: used() == permissions, within_s=40)
    except AssertionError:
        assert used() == permissions  # says which name is too many or missing


def test_with_cameras_each_name_has_the_topics_of_the_policy_and_nothing_else_is_used(
    probe: Probe, start_node: StartNode, tiny_bundle: Path
) -> None:
    cameras = ("front", "rear")
    for index, variant in enumerate(VARIANTS["segmentation_node"]):
        start_node(
            "segmentation_node",
            parameters={"bundle": tiny_bundle, "backend": "fake", "cameras": list(cameras)} | variant,
            remappings={"__ns": f"/variant_{index}"},
        )
    single = allowed("segmentation_node")

    def with_cameras(topics: frozenset[str]) -> frozenset[str]:
        expected = set()
        for topic in topics:
            if topic in ("/image", "/image/compressed"):
                expected |= {f"/{camera}{topic}" for camera in cameras}
            elif topic.rpartition("/")[2] in ("class_map", "color_mask", "confidence", "label_info"):
                expected |= {f"/segmentation_node/{camera}/{topic.rpartition('/')[2]}" for camera in cameras}
            else:
                expected.add(topic)
        return frozenset(expected)

    expected = Endpoints(with_cameras(single.published), with_cameras(single.subscribed), single.served)

    def used() -> Endpoints:
        found = Endpoints(frozenset(), frozenset(), frozenset())
        for namespace in ("/variant_0", "/variant_1"):
            if ("segmentation_node", namespace) in probe.node.get_node_names_and_namespaces():
                found |= endpoints(probe, "segmentation_node", namespace)
        return found

    try:
        eventually(lambda: used() == expected, within_s=40)
    except AssertionError:
        assert used() == expected  # says which name is too many or missing


def test_every_enclave_is_of_a_node_and_grants_no_pattern() -> None:
    policy = ElementTree.parse(SECURITY / "policy.xml").getroot()
    assert {enclave.get("path") for enclave in policy.iter("enclave")} == {f"/darkseg/{node}" for node in VARIANTS}
    for element in [*policy.iter("topic"), *policy.iter("service")]:
        assert (element.text or "").startswith("/")
        assert not set("*?[") & set(element.text or "")


def test_the_domain_admits_nobody_without_a_certificate_or_permission() -> None:
    (rule,) = ElementTree.parse(SECURITY / "governance.xml").getroot().iter("domain_rule")
    assert rule.findtext("allow_unauthenticated_participants") == "false"
    assert rule.findtext("enable_join_access_control") == "true"
    (topics,) = rule.iter("topic_rule")
    assert topics.findtext("topic_expression") == "*"
    for access in ("read", "write"):
        assert topics.findtext(f"enable_{access}_access_control") == "true"
    assert topics.findtext("data_protection_kind") == "ENCRYPT"


ENCLAVE_FILES = (
    "identity_ca.cert.pem",
    "cert.pem",
    "key.pem",
    "permissions_ca.cert.pem",
    "governance.p7s",
    "permissions.p7s",
)


@pytest.mark.parametrize("keystore", ["without the enclave", "with forged files"])
def test_a_node_that_must_be_secure_and_cannot_be_does_not_start(
    keystore: str, probe: Probe, start_node: StartNode, tiny_bundle: Path, tmp_path: Path
) -> None:
    enclave = tmp_path / "keystore" / "enclaves" / "darkseg" / "segmentation_node"
    if keystore == "with forged files":
        enclave.mkdir(parents=True)
        for name in ENCLAVE_FILES:
            (enclave / name).write_text("forged")
    environment: Mapping[str, str] = {
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
        "ROS_SECURITY_KEYSTORE": str(tmp_path / "keystore"),
        "ROS_SECURITY_ENCLAVE_OVERRIDE": "/darkseg/segmentation_node",
    }
    maps = probe.listen(Image, "/segmentation_node/class_map")
    node = start_node(
        "segmentation_node", parameters={"bundle": tiny_bundle, "backend": "fake"}, environment=environment
    )
    assert node.process.wait(timeout=60) != 0
    assert "segmentation_node" not in probe.node.get_node_names()
    assert maps.messages == []
    assert "SECURITY ERROR" in node.log or "security" in node.log.lower()
