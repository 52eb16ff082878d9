"""The errors this package raises on purpose. Each message states expected, got and cure."""

from __future__ import annotations

_BEGINNING, _END = 1200, 600
"""Characters that `one_line` keeps of a longer text: the cause stands in front, the cure at the end."""


def one_line(text: object) -> str:
    """A text that others wrote, fit for a terminal, a log and /diagnostics: one printable line of bounded length.

    Line breaks and runs of spaces become one space. Characters that do not print, such as terminal escapes, marks of
    the writing direction and bytes of a file name that are no UTF-8, become their Python escapes. The middle of a
    text of more than 1,800 characters is left out.

    Args:
        text: what an error or a library says, a name in a file; anything with ``str()``.
    """
    words = " ".join(_cut(str(text)).split())
    if words.isprintable():
        return words
    return _cut("".join(each if each.isprintable() else ascii(each)[1:-1] for each in words))


def _cut(text: str) -> str:
    left_out = len(text) - _BEGINNING - _END
    return text if left_out <= 0 else f"{text[:_BEGINNING]} … ({left_out} characters left out) … {text[-_END:]}"


class DarksegError(Exception):
    """Base of them all: catch this to report one line instead of a traceback.

    Messages quote names and values of files and other processes, so ``str()`` gives them as `one_line` makes them.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class ImageMessageError(DarksegError):
    """An image message cannot be decoded as it stands."""


class InputError(DarksegError):
    """A file or folder the user named cannot be used."""


class BagError(InputError):
    """A rosbag2 bag cannot be read, written or played."""


class BundleError(DarksegError):
    """A model bundle is missing a part, was altered, or is of another kind."""


class EngineError(DarksegError):
    """An inference backend cannot run, or gave an answer that is not one."""


class DeviceLostError(EngineError):
    """The GPU refuses this process for good: only a new process can use it again."""


class BenchmarkError(DarksegError):
    """A contestant of a benchmark failed, or two benchmarks cannot be compared."""
