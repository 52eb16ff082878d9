"""Whether the camera sees: dark, over-exposed, blocked and frozen, judged on each frame, told with hysteresis.

A night frame is not a dark one: it has lamps, and what they light. Only a frame in which nothing stands out is dark.
A black part of a night frame is no covered one: something shows in it, if only by two grey levels. Only a side of the
frame in which nothing shows at all, up to its middle, is covered.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from darkseg_ros.frames.bgr_check import check_bgr

_CELLS_HW = (32, 64)
_PIXELS_PER_CELL = 4  # along each axis: the mean of 16 pixels has a quarter of a pixel's noise
_TILE_CELLS = 8
_SKY_TILE_ROWS = 1
_STRIPS = 16  # what a covered side is measured in
_FROZEN_ROWS = 64
_BRIGHTEST_SHARE = 0.01


class CameraFault(str, enum.Enum):
    """What a camera can suffer from; the value is the name in diagnostics."""

    DARK = "dark"
    OVER_EXPOSED = "over_exposed"
    BLOCKED = "blocked"
    FROZEN = "frozen"


@dataclass(frozen=True)
class HealthThresholds:
    """When a fault begins and when it ends. Levels are grey values, 0…255, of a 64×32 picture of the frame.

    The defaults leave all real night frames at hand healthy (2220 of four cameras, 2026-11-22); their darkest ones
    have a contrast of 27.

    Attributes:
        lit_level: what is below shows no texture by night even to a clean lens.
        dark_contrast_enter: a frame is dark whose median is below `lit_level` and whose brightest 1 % are less than
            this above the median. Noise behind a lens cap gives a contrast of 10 with a deviation of 16 levels a pixel.
        dark_contrast_leave: the frame is not dark any more above this.
        over_exposed_level: a cell from this level on holds no picture.
        over_exposed_share_enter: share of such cells; a low sun and headlights reach 0.14.
        over_exposed_share_leave: the fault ends below this.
        texture_level: a tile whose cells deviate less than this from a plane (root mean square) has no texture.
        daylit_level: by day the brighter quarter of the tiles is above this; then unlit ones must show texture too.
        blocked_share_enter: share of tiles without texture, below the quarter of the frame where the sky is.
        blocked_share_leave: the fault ends below this.
        detail_level: a tile whose cells deviate less than this from a plane (root mean square) shows nothing, however
            dark it is. Noise behind a cover reaches 1.0 with a deviation of 3 levels a pixel.
        covered_share_enter: how far from its left or right edge a frame must show nothing to be blocked: a cover of
            half the lens leaves 7 of 16 strips without detail, the black verge of an unlit motorway 6.
        covered_share_leave: the fault ends below this.
        frozen_repeats: so often must the same bytes come again. Noise changes some byte of each real frame; 10 is a
            third of a second at 30 Hz, and more than any driver repeats to keep its rate.
        enter_frames: so many frames in a row must be dark, over-exposed or blocked: one flash is no fault.
        leave_frames: so many frames in a row must be clear of a fault before it ends.

    Raises:
        ValueError: if a fault would end where it has not begun, or a count is not positive.
    """

    lit_level: float = 25.0
    dark_contrast_enter: float = 14.0
    dark_contrast_leave: float = 20.0
    over_exposed_level: float = 250.0
    over_exposed_share_enter: float = 0.5
    over_exposed_share_leave: float = 0.4
    texture_level: float = 2.5
    daylit_level: float = 60.0
    blocked_share_enter: float = 0.4
    blocked_share_leave: float = 0.3
    detail_level: float = 1.6
    covered_share_enter: float = 0.4
    covered_share_leave: float = 0.35
    frozen_repeats: int = 10
    enter_frames: int = 5
    leave_frames: int = 5

    def __post_init__(self) -> None:
        if self.dark_contrast_leave < self.dark_contrast_enter:
            raise ValueError(
                f"dark_contrast_leave is {self.dark_contrast_leave}, expected at least dark_contrast_enter, "
                f"{self.dark_contrast_enter}"
            )
        for fault in ("over_exposed", "blocked", "covered"):
            enter, leave = (getattr(self, f"{fault}_share_{edge}") for edge in ("enter", "leave"))
            if leave > enter:
                raise ValueError(f"{fault}_share_leave is {leave}, expected at most {fault}_share_enter, {enter}")
        for name in ("frozen_repeats", "enter_frames", "leave_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")


@dataclass(frozen=True)
class CameraCondition:
    """The judgement of one frame.

    Attributes:
        faults: those that hold, after hysteresis; empty for a healthy camera.
        median_level: of the frame, 0…255.
        contrast: levels between the brightest 1 % of the frame and its median.
        over_exposed_share: share of the frame without a picture because of too much light, 0…1.
        blocked_share: share of the tiles below the sky without texture, 0…1.
        repeats: how many frames in a row had the bytes of the one before.
        covered_share: how far from its left or right edge the frame shows nothing, 0…1; 0 where all of it does.
    """

    faults: frozenset[CameraFault]
    median_level: float
    contrast: float
    over_exposed_share: float
    blocked_share: float
    repeats: int
    covered_share: float

    @property
    def healthy(self) -> bool:
        """Whether no fault holds."""
        return not self.faults

    @property
    def summary(self) -> str:
        """One line: "healthy", or each fault with its figure."""
        told = {
            CameraFault.DARK: f"nothing stands out by more than {self.contrast:.0f} levels",
            CameraFault.OVER_EXPOSED: f"{self.over_exposed_share:.0%} of the frame is saturated",
            CameraFault.BLOCKED: f"{self.blocked_share:.0%} of the tiles without texture, "
            f"{self.covered_share:.0%} from one side without any detail",
            CameraFault.FROZEN: f"the same frame {self.repeats} times again",
        }
        return "; ".join(f"{fault.value}: {told[fault]}" for fault in CameraFault if fault in self.faults) or "healthy"


def camera_values(camera: CameraCondition | None) -> dict[str, str]:
    """Key and value of the latest frame's condition, as /diagnostics shows it; before the first no figures."""
    if camera is None:
        return {"camera": ""}
    figures = {f"camera_{name}": f"{value:.3g}" for name, value in asdict(camera).items() if name != "faults"}
    return {"camera": camera.summary, **figures}


class CameraHealth:
    """Watches one camera. Not thread-safe: one thread gives it every frame, in order."""

    def __init__(self, thresholds: HealthThresholds | None = None) -> None:
        self.thresholds = HealthThresholds() if thresholds is None else thresholds
        limits = self.thresholds
        self._dark, self._over_exposed, self._blocked = (
            _Latch(enter_frames=limits.enter_frames, leave_frames=limits.leave_frames) for _ in range(3)
        )
        self._frozen = _Latch(enter_frames=1, leave_frames=limits.leave_frames)  # the repeats are counted already
        self._frame_hw: tuple[int, ...] | None = None
        self._rows = np.empty((0, 0, 3), np.uint8)
        self._repeats = 0

    def check(self, bgr: np.ndarray) -> CameraCondition:
        """Judge one frame.

        Args:
            bgr: (H, W, 3) uint8, any H and W from 1 on; neither changed nor kept.

        Raises:
            ValueError: if `bgr` is no such array.
        """
        check_bgr(bgr)
        limits = self.thresholds
        cells = _grey_cells(bgr)
        ascending = np.sort(cells, axis=None)
        median = float(ascending[ascending.size // 2])
        contrast = float(ascending[int(ascending.size * (1 - _BRIGHTEST_SHARE))]) - median
        over_exposed_share = float(np.count_nonzero(cells >= limits.over_exposed_level) / cells.size)
        blocked_share = _share_without_texture(cells, limits)
        covered_share = _share_from_one_side_without_detail(cells, limits)
        repeats = self._count_repeats(bgr)

        unlit = median < limits.lit_level
        held = {
            CameraFault.DARK: self._dark.update(
                entering=unlit and contrast < limits.dark_contrast_enter,
                leaving=not unlit or contrast > limits.dark_contrast_leave,
            ),
            CameraFault.OVER_EXPOSED: self._over_exposed.update(
                entering=over_exposed_share > limits.over_exposed_share_enter,
                leaving=over_exposed_share < limits.over_exposed_share_leave,
            ),
            CameraFault.BLOCKED: self._blocked.update(
                entering=blocked_share > limits.blocked_share_enter or covered_share > limits.covered_share_enter,
                leaving=blocked_share < limits.blocked_share_leave and covered_share < limits.covered_share_leave,
            ),
            CameraFault.FROZEN: self._frozen.update(
                entering=repeats >= limits.frozen_repeats,
                leaving=repeats == 0,
            ),
        }
        return CameraCondition(
            faults=frozenset(fault for fault, holds in held.items() if holds),
            median_level=median,
            contrast=contrast,
            over_exposed_share=over_exposed_share,
            blocked_share=blocked_share,
            repeats=repeats,
            covered_share=covered_share,
        )

    def _count_repeats(self, bgr: np.ndarray) -> int:
        # 64 rows: in a frame of a real sensor some of their bytes change each time, and they cost 0.02 ms
        rows = bgr[:: max(1, bgr.shape[0] // _FROZEN_ROWS)]
        if self._frame_hw != bgr.shape[:2]:  # another camera mode, another stream
            self._frame_hw = bgr.shape[:2]
            self._frozen.clear()
            self._repeats = 0
            self._rows = rows.copy()
        elif _same(rows, self._rows):
            self._repeats += 1
        else:
            self._repeats = 0
            np.copyto(self._rows, rows)
        return self._repeats


def _same(rows: np.ndarray, others: np.ndarray) -> bool:
    middle = len(rows) // 2  # where a frame that moves differs first of all: the rest need not be compared
    return np.array_equal(rows[middle], others[middle]) and np.array_equal(rows, others)


class _Latch:
    """Holds a fault: it begins after `enter_frames` signs of it in a row, ends after `leave_frames` against it."""

    def __init__(self, *, enter_frames: int, leave_frames: int) -> None:
        self._enter_frames, self._leave_frames = enter_frames, leave_frames
        self._holds = False
        self._in_a_row = 0

    def update(self, *, entering: bool, leaving: bool) -> bool:
        sign, needed = (leaving, self._leave_frames) if self._holds else (entering, self._enter_frames)
        self._in_a_row = self._in_a_row + 1 if sign else 0
        if self._in_a_row >= needed:
            self._holds = not self._holds
            self._in_a_row = 0
        return self._holds

    def clear(self) -> None:
        self._holds = False
        self._in_a_row = 0


def _grey_cells(bgr: np.ndarray) -> np.ndarray:
    """(32, 64) float32: the frame, stretched, as means of 16 of its pixels each."""
    height, width = _CELLS_HW
    sample_wh = (width * _PIXELS_PER_CELL, height * _PIXELS_PER_CELL)
    # nearest, then the mean: a tenth of the time that the mean over the whole frame takes
    grey = cv2.cvtColor(cv2.resize(bgr, sample_wh, interpolation=cv2.INTER_NEAREST), cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)


def _plane_basis(height: int, width: int) -> np.ndarray:
    """(height · width, 3) orthonormal: constant, horizontal and vertical slope over a tile."""
    vertical, horizontal = np.meshgrid(
        *(np.arange(length) - (length - 1) / 2 for length in (height, width)), indexing="ij"
    )
    basis = np.stack([np.ones(height * width), horizontal.ravel(), vertical.ravel()], axis=1)
    return (basis / np.linalg.norm(basis, axis=0)).astype(np.float32)


_TILE_HW = (_TILE_CELLS, _TILE_CELLS)
_STRIP_TILE_HW = (_TILE_CELLS, _CELLS_HW[1] // _STRIPS)
_PLANES = {tile_hw: _plane_basis(*tile_hw) for tile_hw in (_TILE_HW, _STRIP_TILE_HW)}


def _levels_and_variances(cells: np.ndarray, tile_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Of each tile its mean, and how much it varies beside a plane: brightness that changes evenly is no texture."""
    height, width = tile_hw
    rows, columns = cells.shape[0] // height, cells.shape[1] // width
    tiles = cells.reshape(rows, height, columns, width).swapaxes(1, 2).reshape(rows, columns, -1)
    evenly = tiles @ _PLANES[tile_hw]
    variances = (np.einsum("rck,rck->rc", tiles, tiles) - np.einsum("rck,rck->rc", evenly, evenly)) / (height * width)
    return tiles.mean(axis=2), variances


def _share_without_texture(cells: np.ndarray, limits: HealthThresholds) -> float:
    """Share of the tiles below the sky that ought to show texture and do not.

    A tile is left out of the count where even a clean lens would show none: in the dark of a night scene, and where the
    frame is saturated. Brightness that only changes evenly over a tile is no texture: dirt close to the lens does that.
    """
    level, variance = _levels_and_variances(cells, _TILE_HW)
    # the darkest tile of the brighter quarter; np.quantile would take as long as all the rest of the judgement
    daylit = np.sort(level, axis=None)[-(level.size // 4)] > limits.daylit_level
    level, variance = level[_SKY_TILE_ROWS:], variance[_SKY_TILE_ROWS:]
    flat = variance < limits.texture_level**2
    ought_to_show = ((level > limits.lit_level) | daylit) & (level < limits.over_exposed_level)
    return float(np.count_nonzero(flat & ought_to_show) / flat.size)


def _share_from_one_side_without_detail(cells: np.ndarray, limits: HealthThresholds) -> float:
    """How far from its left or right edge the frame shows nothing, below the sky.

    Upper and lower edge are left out: by night a clear sky shows nothing, nor does the vehicle's own bonnet. Neither
    counts what is saturated, nor a frame that shows nothing anywhere: that is another fault.
    """
    level, variance = _levels_and_variances(cells[_SKY_TILE_ROWS * _TILE_CELLS :], _STRIP_TILE_HW)
    blind = ((variance < limits.detail_level**2) & (level < limits.over_exposed_level)).all(axis=0)
    if blind.all():
        return 0.0
    seeing = np.flatnonzero(~blind)
    return float(max(seeing[0], blind.size - 1 - seeing[-1]) / blind.size)
