"""Processes around a node under test that can be killed, stopped or slow: ``python -m tests.ros.fault_processes``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import Image

from darkseg_ros.nodes.middleware import prepare_middleware
from tests.ros.probe import Probe, image, scene, stamp_ns

CLASS_MAP = "/segmentation_node/class_map"


def camera(probe: Probe, *, rate_hz: float, hw: tuple[int, int]) -> None:
    """Publish for ever; 30 pictures in turn, each with its own stamp."""
    pictures = [scene((number % 19, 200), hw, seed=number) for number in range(30)]
    publisher = probe.publisher(Image, "/image")
    number, due_s = 0, time.monotonic()
    while True:
        publisher.publish(image(pictures[number % len(pictures)], time.time_ns()))
        number, due_s = number + 1, due_s + 1 / rate_hz
        time.sleep(max(0.0, due_s - time.monotonic()))


def listen(probe: Probe) -> None:
    """Write a line for each class map, its stamp and when it came, and one for each of the node's statuses."""

    def note(message: Image) -> None:
        print(json.dumps({"stamp_ns": stamp_ns(message), "received_s": time.monotonic()}), flush=True)

    def note_status(message: DiagnosticArray) -> None:
        values = {pair.key: pair.value for pair in message.status[0].values}
        print(json.dumps({"status": values}), flush=True)

    probe.node.create_subscription(Image, CLASS_MAP, note, 10)
    probe.node.create_subscription(DiagnosticArray, "/diagnostics", note_status, 10)


def crawl(probe: Probe) -> None:
    """A reliable subscriber that takes half a second for each class map; writes how old each is."""

    def note(message: Image) -> None:
        print(json.dumps({"age_s": (time.time_ns() - stamp_ns(message)) / 1e9}), flush=True)
        time.sleep(0.5)

    probe.node.create_subscription(Image, CLASS_MAP, note, 1)


def never_read() -> None:
    """A reliable subscriber whose executor never runs."""
    context = Context()  # not the default one: that would catch SIGTERM
    rclpy.init(context=context)
    node = Node("never_reads", context=context)
    subscription = node.create_subscription(Image, CLASS_MAP, print, 10)
    while subscription:
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["camera", "listen", "crawl", "never_read", "camera_and_listen"])
    parser.add_argument("--rate-hz", type=float, default=30.0)
    parser.add_argument("--hw", type=int, nargs=2, default=(96, 128))
    options = parser.parse_args()
    prepare_middleware()
    if options.role == "never_read":
        never_read()
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    probe = Probe(name=options.role)
    try:
        play(probe, options.role, rate_hz=options.rate_hz, hw=tuple(options.hw))
    finally:
        probe.close()  # says goodbye: others need not wait until they miss it


def play(probe: Probe, role: str, *, rate_hz: float, hw: tuple[int, int]) -> None:
    if role in ("listen", "camera_and_listen"):
        listen(probe)
    if role == "crawl":
        crawl(probe)
    if role in ("camera", "camera_and_listen"):
        camera(probe, rate_hz=rate_hz, hw=hw)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
