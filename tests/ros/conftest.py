"""A ROS domain of its own for each test, nodes in processes of their own, and a probe that talks to them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.ros.probe import Probe, Status

ROOT = Path(__file__).resolve().parents[2]
# up to 101 the ports lie below the range from which Linux hands out ports to everybody
DOMAINS = itertools.cycle((os.getpid() * 13 + offset) % 101 + 1 for offset in range(101))


def books_balance(status: Status) -> bool:
    """Every frame that came in is published, dropped for a reason, or still on its way."""
    published, in_progress = status.number("frames_published"), status.number("frames_in_progress")
    return status.number("frames_in") == published + status.dropped + in_progress


@pytest.fixture(scope="session", autouse=True)
def middleware() -> None:
    """The shipped profile for the processes of the tests as well."""
    pytest.importorskip("rclpy", reason="ROS 2 is not installed: rclpy does not import")
    from darkseg_ros.nodes.middleware import prepare_middleware

    prepare_middleware()


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.bundles import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> int:
    domain = next(DOMAINS)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_PYTHON_CHECK_FIELDS", "1")
    return domain


@pytest.fixture
def probe(ros_domain: int) -> Iterator[Probe]:
    from tests.ros.probe import Probe

    probe = Probe()
    yield probe
    probe.close()


class NodeProcess:
    """One of the package's nodes, started as its console script would."""

    def __init__(
        self,
        module: str,
        *,
        log: Path,
        parameters: Mapping[str, Any],
        remappings: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> None:
        command = [sys.executable, "-m", f"darkseg_ros.nodes.{module}", "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={str(value).lower() if isinstance(value, bool) else value}"]
        for name, topic in remappings.items():
            command += ["-r", f"{name}:={topic}"]
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=output
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self, number: signal.Signals) -> tuple[int, float]:
        """Send a signal; exit status and seconds until the end."""
        started_s = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(timeout=15), time.monotonic() - started_s


StartNode = Callable[..., NodeProcess]


@pytest.fixture
def start_node(ros_domain: int, tmp_path: Path) -> Iterator[StartNode]:
    processes: list[NodeProcess] = []

    def start(
        module: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        remappings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> NodeProcess:
        process = NodeProcess(
            module,
            log=tmp_path / f"{module}_{len(processes)}.log",
            parameters=parameters or {},
            remappings=remappings or {},
            environment=environment or {},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.process.terminate()  # a killed process would leave its 64 MB of shared memory behind
    for process in processes:
        try:
            process.process.wait(timeout=10)
        finally:
            process.process.kill()
        print(process.log)


class ExtraProcess:
    """A role of `tests.ros.fault_processes`."""

    def __init__(self, role: str, *options: str, prefix: Sequence[str] = (), log: Path) -> None:
        self.log = log
        command = [*prefix, sys.executable, "-m", "tests.ros.fault_processes", role, *options]
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)

    def kill(self) -> None:
        """As ``kill -9``: it says goodbye to nobody."""
        self.process.kill()
        self.process.wait(timeout=10)

    def lines(self, key: str = "stamp_ns") -> list[dict[str, Any]]:
        """The lines with a key that it wrote so far."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = (json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}"))
        return [line for line in lines if key in line]


StartProcess = Callable[..., ExtraProcess]


@pytest.fixture
def start_process(ros_domain: int, tmp_path: Path) -> Iterator[StartProcess]:
    processes: list[ExtraProcess] = []

    def start(role: str, *options: str, prefix: Sequence[str] = ()) -> ExtraProcess:
        process = ExtraProcess(role, *options, prefix=prefix, log=tmp_path / f"{role}_{len(processes)}.log")
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.process.send_signal(signal.SIGCONT)
        process.process.terminate()
    for process in processes:
        try:
            process.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
        print(process.log.read_text(encoding="utf-8", errors="replace")[-2000:])


@pytest.fixture
def segmentation_node(start_node: StartNode, tiny_bundle: Path) -> StartNode:
    """Start segmentation_node with the fake engine; keywords are parameters."""

    def start(*, environment: Mapping[str, str] | None = None, **parameters: Any) -> NodeProcess:
        fake = {"bundle": tiny_bundle, "backend": "fake"}
        return start_node("segmentation_node", parameters=fake | parameters, environment=environment)

    return start
