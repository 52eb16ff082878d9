"""What the package's own modules log, told by the node that they work for."""

from __future__ import annotations

import logging

from rclpy.node import Node

_PACKAGE = logging.getLogger("darkseg_ros")


class PackageLog(logging.Handler):
    """Hands the records of darkseg_ros to a node's logger from any thread, until it is closed.

    Modules without ROS log by Python's `logging`. By itself that shows warnings without a name and nothing below them:
    not how far a plan is built, nor which backend ``auto`` took and why.
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._logger = node.get_logger()
        self._level_before = _PACKAGE.level
        _PACKAGE.setLevel(logging.DEBUG)  # the node's own level decides
        _PACKAGE.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record at its level."""
        line = self.format(record)
        # a line of code each: rclpy refuses another level where it has seen one
        if record.levelno >= logging.CRITICAL:
            self._logger.fatal(line)
        elif record.levelno >= logging.ERROR:
            self._logger.error(line)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(line)
        elif record.levelno >= logging.INFO:
            self._logger.info(line)
        else:
            self._logger.debug(line)

    def close(self) -> None:
        """Take no records any more."""
        _PACKAGE.removeHandler(self)
        _PACKAGE.setLevel(self._level_before)
        super().close()
