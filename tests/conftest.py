"""What holds for every test."""

from __future__ import annotations

import os

# ROS messages then check what is assigned to them; read when a message module is first imported.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")
# Nodes of other machines must not answer; tests in tests/ros choose their own domain beside this.
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
