"""Lifecycle transitions beside the executor, so that a node that opens its engine for minutes still answers.

rclpy runs a transition within the service callback that asks for it: until it returns, the executor serves nobody: no
parameter, no ``get_state``, no timer with diagnostics. A multi-threaded executor would cure that and costs every image
(p99 some 70 ms instead of 10). So the callback is a coroutine here that waits for a thread of its own, which runs
rclpy's transitions one after another; meanwhile the single-threaded executor goes on.

rclpy (Jazzy, Kilted) has no public way to move a transition out of its callback, nor to ask a node for its state in its
own process: its only other way is to make the five lifecycle services anew, without `transition_event`. What reaches
into rclpy is in `_Rclpy` and nowhere else; tests/ros/test_lifecycle_thread.py fails when rclpy changes.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import TimeoutError as ThreadTimeoutError
from typing import Any, TypeVar

from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future

_Result = TypeVar("_Result")

_AnswerTransition = Callable[[ChangeState.Request, ChangeState.Response], Coroutine[Any, Any, ChangeState.Response]]

_POLL_S = 0.05


class LifecycleThread:
    """Runs the transitions of one node.

    Args:
        node: its ``change_state`` service is moved here.
        on_transition: called after each transition, whatever came of it.
    """

    def __init__(self, node: LifecycleNode, *, on_transition: Callable[[], None]) -> None:
        self._node = node
        self._on_transition = on_transition
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._rclpy = _Rclpy(node)
        self._change_state = self._rclpy.answer_transitions_with(self._answer)
        # a daemon: an engine that hangs while it opens must not keep the process
        self._thread = threading.Thread(target=self._run, name="lifecycle", daemon=True)
        self._thread.start()

    @property
    def state(self) -> str:
        """Label of the node's state, as ``get_state`` tells it; also that of a transition under way."""
        return self._rclpy.state

    def submit(self, transitions: Callable[[], object]) -> None:
        """Run the node's own ``trigger_…`` calls after what is under way."""
        self._jobs.put(transitions)

    def in_executor(self, action: Callable[[], _Result]) -> _Result:
        """Run an action in the executor's thread, from within a transition, and wait for its result.

        Entities that rclpy waits for must not vanish while it collects them: destroying one elsewhere can end
        ``spin`` with InvalidHandle.
        """
        outcome: ThreadFuture[_Result] = ThreadFuture()

        def run() -> None:
            try:
                outcome.set_result(action())
            except Exception as error:  # crosses to the transition's thread
                outcome.set_exception(error)

        submitted = False
        while True:
            self.leave_if_the_process_ends()
            if not submitted and self._node.executor is not None:
                self._node.executor.create_task(run)
                submitted = True
            try:
                return outcome.result(timeout=_POLL_S)
            except ThreadTimeoutError:
                if outcome.done():
                    raise

    def leave_if_the_process_ends(self) -> None:
        """End this thread where it stands: there is nobody left to report to, and handles are being destroyed."""
        if not self._node.context.ok() and threading.current_thread() is self._thread:
            sys.exit()

    def stop(self, *, within_s: float) -> None:
        """End after the transition under way, if that takes no longer."""
        self._jobs.put(None)
        self._thread.join(within_s)

    async def _answer(self, request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        executor = self._node.executor
        done = Future(executor=executor)

        def change() -> None:
            try:
                self._change_state(request, response)
            except Exception as error:  # rclpy raises where the state has no such transition, and would end `spin`
                self._node.get_logger().warning(f"transition refused: {_first_line(error)}")
                response.success = False
            done.set_result(None)
            executor.wake()

        self._jobs.put(change)
        await done
        return response

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:
                self.leave_if_the_process_ends()
                self._node.get_logger().error(f"transition failed: {_first_line(error)}")
            self.leave_if_the_process_ends()
            self._on_transition()


class _Rclpy:
    """The two things that rclpy keeps to itself."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node

    @property
    def state(self) -> str:
        """Label of the node's state."""
        _, label = self._node._state_machine.current_state
        return str(label)

    def answer_transitions_with(self, answer: _AnswerTransition) -> Callable[[ChangeState.Request, Any], Any]:
        """Let a coroutine answer ``change_state``; returns rclpy's own answer, which runs the transition."""
        (service,) = (service for service in self._node.services if service.srv_type is ChangeState)
        rclpys_own: Callable[[ChangeState.Request, Any], Any] = service.callback
        service.callback = answer
        # while the coroutine waits, its group is closed: the default one would close everything else as well
        service.callback_group = MutuallyExclusiveCallbackGroup()
        service.callback_group.add_entity(service)
        return rclpys_own


def _first_line(error: Any) -> str:
    return str(error).partition("\n")[0]
