"""A Ray cluster of two nodes on this machine, one of which can be killed; it starts on a busy machine too.

Ray 2.60 gives a node's agents 15 s to write their ports to files, and the node 30 s to register; both are fixed
(ray-project/ray issue 65983), and two cores that run a test suite need more. A worker's 60 s can be set.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from ray._private import services
from ray.cluster_utils import Cluster

from darkseg_ros.fleet.runs import WORKER_STARTS_WITHIN_S

_REGISTERED_WITHIN_S = 180.0
_OBJECT_STORE_BYTES = 80 * 2**20
_NO_METRICS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")


@contextmanager
def two_nodes() -> Iterator[tuple[Cluster, Any]]:
    """A cluster with one CPU on each node, and its second node."""
    cluster = Cluster()
    try:
        with (
            mock.patch.dict(os.environ, {"RAY_worker_register_timeout_seconds": str(WORKER_STARTS_WITHIN_S)}),
            mock.patch.object(services, "get_node", _ask_long(services.get_node)),
            mock.patch.object(services, "start_raylet", _with_ports(services.start_raylet)),
        ):
            nodes = [
                cluster.add_node(num_cpus=1, object_store_memory=_OBJECT_STORE_BYTES, **options)
                for options in ({"include_dashboard": False}, {})
            ]
        yield cluster, nodes[1]
    finally:
        cluster.shutdown()


def _ask_long(ask: Any) -> Any:
    def asked(*arguments: Any, **options: Any) -> Any:
        end = time.monotonic() + _REGISTERED_WITHIN_S
        while True:
            try:
                return ask(*arguments, **options)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    return asked


def _with_ports(start: Any) -> Any:
    """The files that the agents would write late: -1 is what an installation without metrics writes."""

    def started(*arguments: Any, **options: Any) -> Any:
        node_id, session = arguments[2], Path(arguments[11])
        options["runtime_env_agent_port"] = port = _free_port()
        for name, value in (*((name, -1) for name in _NO_METRICS), ("runtime_env_agent_port", port)):
            (session / f"{name}_{node_id}").write_text(str(value), encoding="ascii")
        return start(*arguments, **options)

    return started


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])
