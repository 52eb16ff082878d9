"""The errors this package raises on purpose. Each message states expected, got and cure."""


def one_line(error: BaseException) -> str:
    """What an error says, without the line breaks that libraries put into it."""
    return " ".join(str(error).split())


class DarksegError(Exception):
    """Base of them all: catch this to report one line instead of a traceback."""


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


class BenchmarkError(DarksegError):
    """A contestant of a benchmark failed, or two benchmarks cannot be compared."""
