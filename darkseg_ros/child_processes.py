"""Python processes that this package starts.

Python looks for modules in the folder that it is started in first. A ``numpy.py`` that lies there, in a folder of
downloads for example, would run in each of our processes; so they are started with a safe path (Python 3.11 and newer;
3.10 knows none), and empty or relative entries of PYTHONPATH, which mean that folder too, are taken out.
"""

from __future__ import annotations

import os
import site
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_END_TIMEOUT_S = 5.0

_SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""As a variable and not as ``-P``: children of children and a Python that replaces itself heed it as well.

Source: Python 3.11, "Command line and environment"."""


def start_python(
    arguments: Sequence[str], *, environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[Any]:
    """Start this Python anew; it finds this package wherever this process found it.

    Args:
        arguments: behind ``python``, such as ``-m`` and a module.
        environment: in the place of this process's.
        options: of ``subprocess.Popen``.
    """
    inherited = os.environ if environment is None else environment
    paths = [path for path in inherited.get("PYTHONPATH", "").split(os.pathsep) if Path(path).is_absolute()]
    package_root = str(Path(__file__).resolve().parent.parent)
    if package_root not in (*paths, *site.getsitepackages(), site.getusersitepackages()):
        paths.insert(0, package_root)
    env = {**inherited, **_SAFE_PATH, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen([sys.executable, *arguments], env=env, **options)


@contextmanager
def spawned(target: Callable[..., None], args: tuple[Any, ...], *, name: str) -> Iterator[BaseProcess]:
    """Run a function in a fresh Python, which ends with the block at the latest, or with this process.

    Args:
        target: importable by its name.
        args: its arguments; they can be pickled.
        name: of the process.
    """
    process = get_context("spawn").Process(target=target, args=args, name=name, daemon=True)
    with environment_variables(_SAFE_PATH):
        process.start()
    try:
        yield process
    finally:
        try:
            process.terminate()
            process.join(timeout=_END_TIMEOUT_S)
        finally:
            process.kill()
            process.join()


@contextmanager
def environment_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Within the block, these variables are set for this process and those that it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
