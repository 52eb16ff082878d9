"""One of the package's nodes as a process of its own, started and watched as a user would, and how to listen to it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol

from darkseg_ros.child_processes import environment_variables, start_python
from darkseg_ros.errors import DarksegError, InputError

CLASS_MAP_TOPIC = "/segmentation_node/class_map"
"""Of a segmentation_node that was not renamed."""

_START_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 5.0
_POLL_S = 0.05


class NodeError(DarksegError):
    """A node did not start, ended early, or did not do its part."""


class ClassMapRecord(Protocol):
    """What is read of nodes/class_map_recorder.py, which only a function may import: it needs ROS 2."""

    @property
    def stamp_ns(self) -> int: ...
    @property
    def frame_id(self) -> str: ...
    @property
    def received_ns(self) -> int: ...
    @property
    def path(self) -> Path | None: ...


class Recorder(Protocol):
    """The same for the recorder."""

    @property
    def records(self) -> Sequence[ClassMapRecord]: ...
    @property
    def diagnostics(self) -> dict[str, str]: ...


class NodeProcess:
    """A running node; ends with the block that it is opened in.

    Args:
        module: of darkseg_ros.nodes, such as segmentation_node; also the node's name.
        parameters: of the node; text is passed as text, whatever YAML would make of it.
        remappings: topic of the node → topic.
        log: gets what the process writes.
    """

    def __init__(
        self, module: str, *, parameters: Mapping[str, str | int | float], remappings: Mapping[str, str], log: Path
    ) -> None:
        self.name = module
        self._log = log
        arguments = ["-m", f"darkseg_ros.nodes.{module}", "--ros-args"]
        for name, topic in remappings.items():
            arguments += ["-r", f"{name}:={topic}"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={json.dumps(value)}"]  # quoted, as the value is YAML
        self.started_s = time.monotonic()
        with log.open("wb") as log_file:
            self._process = start_python(arguments, stdout=log_file, stderr=subprocess.STDOUT)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_END_TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()

    @property
    def process_id(self) -> int:
        """By which /proc knows it."""
        return self._process.pid

    @property
    def log_lines(self) -> list[str]:
        """What it wrote so far, without empty lines."""
        return [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]

    @property
    def last_words(self) -> str:
        """The end of that, for an error."""
        return " | ".join(self.log_lines[-3:]) or "none"

    def check_alive(self) -> None:
        """Raises NodeError if the process has ended."""
        status = self._process.poll()
        if status is not None:
            raise NodeError(f"{self.name} ended with status {status}; its last words: {self.last_words}")

    def wait_until_active(self, state: Callable[[], str | None]) -> float:
        """Wait for a lifecycle node that starts by itself.

        Args:
            state: the node's, by its diagnostics; None before the first.

        Returns:
            Seconds since the process was started.

        Raises:
            NodeError: if it ended, said that it cannot be configured, or took longer than two minutes.
        """
        while (now := state()) != "active":
            self.check_alive()
            for line in self.log_lines:
                if "cannot configure" in line:
                    raise NodeError(f"{self.name} {line[line.index('cannot configure') :]}")
            if time.monotonic() - self.started_s > _START_TIMEOUT_S:
                raise NodeError(
                    f"{self.name} did not become active within {_START_TIMEOUT_S:g} s, its state is "
                    f"{now or 'unknown: no diagnostics came'}; its last words: {self.last_words}"
                )
            time.sleep(_POLL_S)
        return time.monotonic() - self.started_s


def own_domain() -> AbstractContextManager[None]:
    """Within the block, other ROS 2 systems of this machine and network neither see nor disturb ours."""
    return environment_variables(
        {"ROS_DOMAIN_ID": str(1 + os.getpid() % 100), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    )


def record_class_maps(
    directory: Path | None, *, verb: str, by_executor: bool = False
) -> AbstractContextManager[Recorder]:
    """Record CLASS_MAP_TOPIC and the diagnostics of its node, in this process.

    Args:
        directory: gets a PNG of each class map; None keeps only when they came.
        verb: of the Makefile, that installs ROS 2 and does the same.
        by_executor: take class maps as most nodes do, not by a thread of their own.

    Raises:
        InputError: if ROS 2 does not import.
    """
    try:
        from darkseg_ros.nodes.class_map_recorder import ClassMapRecorder
    except ImportError as error:
        raise InputError(
            f"a live node needs ROS 2 ({error}); use `make {verb}`, which brings it along, or source a ROS 2 "
            "installation"
        ) from error
    return ClassMapRecorder(CLASS_MAP_TOPIC, directory, by_executor=by_executor)
