from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from darkseg_ros.commands.interruption import second_interrupt_ends

_PROGRAM = """
import itertools, signal, time
from darkseg_ros.commands.interruption import second_interrupt_ends
signal.signal(signal.SIGINT, signal.default_int_handler)
with second_interrupt_ends():
    print("ready", flush=True)
    {step}
"""
_ENDLESS_IN_C = "max(itertools.repeat(1))"  # as a library that loads a crafted graph: Python gets no turn


def _interrupted(program: str, *, times: int) -> tuple[int | None, str]:
    """Exit status and last line on stderr of a program that is interrupted once it is ready; None if it goes on."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(times):
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            return None, ""
        return process.returncode, errors.strip().rpartition("\n")[2]


def test_the_first_interrupt_raises_keyboard_interrupt_as_ever() -> None:
    status, said = _interrupted(_PROGRAM.format(step="time.sleep(600)"), times=1)
    assert said == "KeyboardInterrupt"
    assert status == -signal.SIGINT


def test_the_second_interrupt_ends_a_process_whose_library_does_not_return() -> None:
    program = _PROGRAM.format(step=_ENDLESS_IN_C)
    assert _interrupted(program, times=1)[0] is None
    assert _interrupted(program, times=2)[0] == -signal.SIGINT


def test_pythons_own_handler_is_back_after_the_block() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with second_interrupt_ends():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_handler_stays() -> None:
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with second_interrupt_ends():
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
        assert len(heard) == 3
    finally:
        signal.signal(signal.SIGINT, before)
