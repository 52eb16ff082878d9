"""What `LifecycleThread` takes of rclpy beside its public ways. Where one fails, rclpy has changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from darkseg_ros.nodes.lifecycle_thread import LifecycleThread
    from tests.ros.probe import Probe

WITHIN_S = 20.0


class Lifecycle:
    """A lifecycle node that configures when told to, spun with the probe."""

    def __init__(self, probe: Probe) -> None:
        from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

        from darkseg_ros.nodes.lifecycle_thread import LifecycleThread

        self.go_on = threading.Event()
        self.thread_of_transition: threading.Thread | None = None
        self.transitions = threading.Semaphore(0)
        owner = self

        class Configuring(LifecycleNode):
            def on_configure(self, state: Any) -> TransitionCallbackReturn:
                owner.thread_of_transition = threading.current_thread()
                assert owner.go_on.wait(WITHIN_S)
                return super().on_configure(state)

        self.node = Configuring("lifecycle", context=probe.node.context)
        self.thread: LifecycleThread = LifecycleThread(self.node, on_transition=self.transitions.release)


@pytest.fixture
def lifecycle(probe: Probe) -> Iterator[Lifecycle]:
    lifecycle = Lifecycle(probe)
    probe.node.executor.add_node(lifecycle.node)
    yield lifecycle
    lifecycle.go_on.set()
    lifecycle.thread.stop(within_s=WITHIN_S)
    probe.node.executor.remove_node(lifecycle.node)
    lifecycle.node.destroy_node()


def test_the_state_is_the_one_that_ros_tells(probe: Probe, lifecycle: Lifecycle) -> None:
    lifecycle.go_on.set()
    assert lifecycle.thread.state == probe.state("/lifecycle") == "unconfigured"
    for transition, state in [("configure", "inactive"), ("activate", "active"), ("deactivate", "inactive")]:
        assert probe.change_state(transition, "/lifecycle")
        assert lifecycle.thread.state == probe.state("/lifecycle") == state


def test_a_transition_that_takes_long_keeps_no_other_service_waiting(probe: Probe, lifecycle: Lifecycle) -> None:
    from lifecycle_msgs.srv import ChangeState

    request = ChangeState.Request()
    request.transition.label = "configure"
    client = probe.node.create_client(ChangeState, "/lifecycle/change_state")
    assert client.wait_for_service(WITHIN_S)
    answer = client.call_async(request)
    probe.node.executor.wake()
    assert probe.state("/lifecycle") in ("unconfigured", "configuring")  # answered in the midst of it
    while lifecycle.thread_of_transition is None:
        assert probe.state("/lifecycle") in ("unconfigured", "configuring")
    assert lifecycle.thread_of_transition.name == "lifecycle"
    assert lifecycle.thread.state == "configuring"
    assert not answer.done()
    lifecycle.go_on.set()
    assert lifecycle.transitions.acquire(timeout=WITHIN_S)
    assert probe.state("/lifecycle") == "inactive"
