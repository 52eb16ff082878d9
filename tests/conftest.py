"""What holds for every test."""

from __future__ import annotations

import os

# Read when a message module is imported, so before any test does: ROS messages check what is assigned to them.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")
# Nodes of other machines must not answer; tests in tests/ros choose their own domain beside this.
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
