"""Which frames are served: those in the order of their stamps, none from the past or the future."""

from __future__ import annotations

import enum

REBASE_AFTER_NS = 1_000_000_000
"""A stamp this far behind its predecessor is no late frame but a clock that jumped: a bag that loops."""

PLAUSIBLE_AGE_NS = 3600 * 1_000_000_000
"""Against the wall clock, an older stamp is a recorded one: it does not say how long the frame travelled."""


class DropReason(enum.Enum):
    """Why a frame got no class map; the value names the counter in diagnostics."""

    REPLACED = "replaced_by_newer"
    TOO_OLD = "too_old"
    DUPLICATE_STAMP = "duplicate_stamp"
    BACKWARD_STAMP = "backward_stamp"
    FUTURE_STAMP = "future_stamp"
    UNDECODABLE = "undecodable"
    UNHEALTHY_CAMERA = "unhealthy_camera"
    ENGINE_ERROR = "engine_error"
    ENGINE_STUCK = "engine_stuck"
    NOT_SENT = "not_sent"
    DEACTIVATED = "deactivated"


class StampVerdict(enum.Enum):
    """How a stamp follows the one before."""

    IN_ORDER = enum.auto()
    DUPLICATE = enum.auto()
    BACKWARD = enum.auto()
    REBASED = enum.auto()


class StampOrder:
    """Judges the stamps of one stream in the order of their arrival."""

    def __init__(self) -> None:
        self._newest_ns: int | None = None
        self._new_drive_below_ns: int | None = None

    def clock_jumped_back(self, *, from_ns: int, to_ns: int) -> None:
        """The clock of the stamps was set back: a bag starts again, and the next stamp near `to_ns` is no late frame.

        The bag's frames come by another topic than its clock, so this may come before or after the first frame of the
        new drive. A stamp belongs to the drive whose time it is nearer to.

        Args:
            from_ns: the clock before the jump.
            to_ns: the clock after it.
        """
        halfway_ns = (from_ns + to_ns) // 2
        already_in_new_drive = self._newest_ns is None or self._newest_ns < halfway_ns
        self._new_drive_below_ns = None if already_in_new_drive else halfway_ns

    def judge(self, stamp_ns: int) -> StampVerdict:
        """Compare a stamp with the newest one so far.

        A frame without a stamp (0) is in order: else a driver that does not stamp would get one class map.

        Args:
            stamp_ns: nanoseconds since 1970, or since the start of a simulation.

        Returns:
            DUPLICATE and BACKWARD frames are to be dropped, IN_ORDER and REBASED ones served.
        """
        if stamp_ns == 0:
            return StampVerdict.IN_ORDER
        newest_ns = self._newest_ns
        if newest_ns is None or stamp_ns > newest_ns:
            self._newest_ns = stamp_ns
            return StampVerdict.IN_ORDER
        of_new_drive = self._new_drive_below_ns is not None and stamp_ns < self._new_drive_below_ns
        if of_new_drive or newest_ns - stamp_ns > REBASE_AFTER_NS:
            self._newest_ns = stamp_ns
            self._new_drive_below_ns = None
            return StampVerdict.REBASED
        return StampVerdict.DUPLICATE if stamp_ns == newest_ns else StampVerdict.BACKWARD


def is_from_the_future(stamp_ns: int, now_ns: int, *, max_future_ms: int) -> bool:
    """Whether a stamp is ahead of the clock by more than clocks and their messages may differ.

    Recorded stamps are never ahead: they are of the past, or of the clock that the bag itself drives.

    Args:
        stamp_ns: the frame's stamp.
        now_ns: the node's clock; 0 means that a simulated clock has not started, and nothing is ahead of it.
        max_future_ms: 0 turns the judgement off.
    """
    return bool(max_future_ms and now_ns) and stamp_ns - now_ns > max_future_ms * 1_000_000


def stamp_age_ms(stamp_ns: int, now_ns: int, *, simulated_clock: bool) -> float | None:
    """Time since a frame was stamped, or None where stamp and clock have nothing to do with each other.

    Args:
        stamp_ns: the frame's stamp; 0 means none.
        now_ns: the node's clock; 0 means that a simulated clock has not started.
        simulated_clock: whether the node's clock is that of the bag or simulator the frame comes from.

    Returns:
        Milliseconds ≥ 0. None without a stamp or clock, for a stamp in the future, and on a real clock for
        one older than PLAUSIBLE_AGE_NS.
    """
    age_ns = now_ns - stamp_ns
    if stamp_ns == 0 or now_ns == 0 or age_ns < 0:
        return None
    if age_ns > PLAUSIBLE_AGE_NS and not simulated_clock:
        return None
    return age_ns / 1e6
