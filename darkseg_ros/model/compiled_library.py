"""Loads the C libraries that setup.py compiles: plain C, named like Python modules because setuptools compiles
nothing else.
"""

from __future__ import annotations

import ctypes
from importlib.util import find_spec

from darkseg_ros.errors import EngineError

_CURE = "install gcc 12, clang 15 or newer and install the package again"


def load_library(name: str) -> ctypes.CDLL:
    """A library of the package.

    Args:
        name: as setup.py has it, such as ``darkseg_ros.model._exposure``.

    Raises:
        EngineError: if it was not compiled, or does not load.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise EngineError(f"the kernel was not compiled when the package was installed; {_CURE}")
    try:
        return ctypes.CDLL(spec.origin)
    except OSError as error:
        raise EngineError(f"the kernel does not load ({error}); {_CURE}") from error
