"""What stands and moves along the generated street, in metres; it has no end, blocks are made when seen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

BLOCK_M = 100.0
"""Length of a block; a cross street opens each one."""
CROSS_STREET_M = 12.0
ROAD_HALF_M = 6.2
PARKING_LINE_M = 4.15
LANE_X_M = 1.9
PARKED_X_M = 5.15
SIDEWALK_HALF_M = 9.6
FRONT_X_M = 11.0
"""Distance of the fronts of buildings from the centre line."""

FACADE_VARIANTS = 8
TREE_VARIANTS = 5

Colour = tuple[int, int, int]
VehicleKind = Literal["sedan", "hatchback", "van", "truck", "bus"]
VEHICLE_LENGTH_M: dict[VehicleKind, float] = {
    "sedan": 4.5,
    "hatchback": 4.0,
    "van": 4.9,
    "truck": 8.0,
    "bus": 11.5,
}

SODIUM: tuple[float, float, float] = (0.22, 0.62, 1.0)
WHITE_LED: tuple[float, float, float] = (0.85, 0.97, 1.0)

PAINTS: tuple[Colour, ...] = (
    (200, 200, 198),
    (58, 56, 55),
    (36, 34, 34),
    (150, 146, 142),
    (120, 60, 34),
    (42, 36, 140),
    (92, 84, 62),
    (226, 226, 224),
)
CLOTHES: tuple[Colour, ...] = (
    (60, 44, 40),
    (110, 70, 48),
    (48, 46, 120),
    (150, 140, 130),
    (70, 90, 74),
    (60, 110, 150),
    (40, 40, 44),
)


@dataclass(frozen=True)
class Building:
    """A house; its front looks at the street from x_m, on the side of x_m's sign."""

    x_m: float
    z_m: float
    far_m: float
    height_m: float
    variant: int


@dataclass(frozen=True)
class Barrier:
    """A wall or a fence along the sidewalk where no house stands."""

    x_m: float
    z_m: float
    far_m: float
    kind: Literal["wall", "fence"]


@dataclass(frozen=True)
class Tree:
    x_m: float
    z_m: float
    height_m: float
    variant: int

    @property
    def far_m(self) -> float:
        return self.z_m


@dataclass(frozen=True)
class StreetLight:
    """A mast with an arm over the road."""

    x_m: float
    z_m: float
    colour: tuple[float, float, float]

    @property
    def far_m(self) -> float:
        return self.z_m

    @property
    def lamp_xyz_m(self) -> tuple[float, float, float]:
        return (self.x_m - math.copysign(2.0, self.x_m), 7.9, self.z_m)


@dataclass(frozen=True)
class TrafficLight:
    x_m: float
    z_m: float
    overhead: bool

    @property
    def far_m(self) -> float:
        return self.z_m


@dataclass(frozen=True)
class TrafficSign:
    x_m: float
    z_m: float
    kind: Literal["limit", "warning", "parking"]

    @property
    def far_m(self) -> float:
        return self.z_m


@dataclass(frozen=True)
class Vehicle:
    """heading is 1 where it looks along +z (away from the ego vehicle), -1 where it comes towards it."""

    kind: VehicleKind
    x_m: float
    z_m: float
    heading: Literal[1, -1]
    paint: Colour
    lamps_on: bool

    @property
    def far_m(self) -> float:
        return self.z_m + 0.5 * VEHICLE_LENGTH_M[self.kind]


@dataclass(frozen=True)
class Walker:
    """stride_rad is the phase of the gait."""

    x_m: float
    z_m: float
    heading: Literal[1, -1]
    height_m: float
    stride_rad: float
    jacket: Colour
    trousers: Colour

    @property
    def far_m(self) -> float:
        return self.z_m


@dataclass(frozen=True)
class Cyclist:
    x_m: float
    z_m: float
    pedal_rad: float
    jacket: Colour

    @property
    def far_m(self) -> float:
        return self.z_m


Item = Building | Barrier | Tree | StreetLight | TrafficLight | TrafficSign | Vehicle | Walker | Cyclist


class Street:
    """The street of one seed: everything on it is a pure function of the seed, the place and the time."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._block = lru_cache(maxsize=16)(self._make_block)
        self._number = lru_cache(maxsize=4096)(self._make_number)

    def items(self, *, from_m: float, to_m: float, time_s: float, ego_z_m: float) -> list[Item]:
        """Everything that reaches into [from_m, to_m] along the street, the farthest first.

        Args:
            from_m: nearest place of interest.
            to_m: farthest place of interest.
            time_s: seconds since the drive began.
            ego_z_m: place of the ego vehicle, which the vehicles ahead keep their distance to.
        """
        first, last = math.floor(from_m / BLOCK_M), math.floor(to_m / BLOCK_M)
        everything: list[Item] = [item for block in range(first, last + 1) for item in self._block(block)]
        everything += self._moving(from_m, to_m, time_s)
        everything += self._leading(ego_z_m, time_s)
        seen = [item for item in everything if from_m <= item.far_m and item.z_m <= to_m]
        return sorted(seen, key=lambda item: item.far_m, reverse=True)

    def _make_number(self, stream: int, index: int, salt: int) -> float:
        """A uniform number in [0, 1) for one property of one object of a stream."""
        return float(np.random.default_rng((self._seed, stream, index + 2**20, salt)).random())

    def _pick(self, choices: tuple[Colour, ...], stream: int, index: int, salt: int) -> Colour:
        return choices[int(self._number(stream, index, salt) * len(choices))]

    def _make_block(self, block: int) -> tuple[Item, ...]:
        rng = np.random.default_rng((self._seed, 1, block + 2**20))
        start_m = block * BLOCK_M
        items: list[Item] = []
        for side in (-1, 1):
            items += _lots(rng, side, start_m)
            items += _kerb_furniture(rng, side, start_m)
            items += _parked(rng, side, start_m)
        items.append(TrafficLight(ROAD_HALF_M + 0.6, start_m + 90.5, overhead=True))
        items.append(TrafficLight(-ROAD_HALF_M - 0.6, start_m + 90.5, overhead=False))
        return tuple(items)

    def _moving(self, from_m: float, to_m: float, time_s: float) -> Iterator[Item]:
        for index, z_m in self._stream(2, from_m, to_m, travelled_m=-10.0 * time_s, spacing_m=38.0):
            kinds: tuple[VehicleKind, ...] = (
                "sedan",
                "hatchback",
                "van",
                "sedan",
                "truck",
                "bus",
                "hatchback",
            )
            kind = kinds[int(self._number(2, index, 1) * len(kinds))]
            paint = self._pick(PAINTS, 2, index, 2)
            yield Vehicle(kind, -LANE_X_M - 0.1, z_m, -1, paint, lamps_on=True)
        for stream, side, heading in ((3, 1, 1), (4, 1, -1), (5, -1, 1), (6, -1, -1)):
            for index, z_m in self._stream(stream, from_m, to_m, travelled_m=1.3 * heading * time_s, spacing_m=26.0):
                yield Walker(
                    x_m=side * (7.4 + 1.7 * self._number(stream, index, 1)),
                    z_m=z_m,
                    heading=1 if heading > 0 else -1,
                    height_m=1.6 + 0.25 * self._number(stream, index, 2),
                    stride_rad=5.6 * time_s + 6.0 * self._number(stream, index, 3),
                    jacket=self._pick(CLOTHES, stream, index, 4),
                    trousers=self._pick(CLOTHES, stream, index, 5),
                )
        for index, z_m in self._stream(7, from_m, to_m, travelled_m=4.5 * time_s, spacing_m=60.0):
            yield Cyclist(3.55, z_m, 7.0 * time_s + index, self._pick(CLOTHES, 7, index, 1))

    def _stream(
        self, stream: int, from_m: float, to_m: float, *, travelled_m: float, spacing_m: float
    ) -> Iterator[tuple[int, float]]:
        """Objects that travel in an endless row: (index, place now) of those in [from_m, to_m]."""
        first = math.floor((from_m - travelled_m) / spacing_m) - 1
        last = math.ceil((to_m - travelled_m) / spacing_m)
        for index in range(first, last + 1):
            yield index, (index + 0.55 * self._number(stream, index, 0)) * spacing_m + travelled_m

    def _leading(self, ego_z_m: float, time_s: float) -> Iterator[Item]:
        for index, gap_m in enumerate((19.0, 43.0, 88.0)):
            sway_m = 2.5 * math.sin(0.35 * time_s + 6.0 * self._number(8, index, 0))
            kind: VehicleKind = ("sedan", "hatchback", "van")[int(3 * self._number(8, index, 1))]
            paint = self._pick(PAINTS, 8, index, 2)
            yield Vehicle(kind, LANE_X_M, ego_z_m + gap_m + sway_m, 1, paint, lamps_on=True)


def _lots(rng: np.random.Generator, side: int, start_m: float) -> Iterator[Item]:
    """Houses, and between them gardens behind a wall or a fence."""
    end_m = start_m + BLOCK_M - 1.0
    z_m = start_m + CROSS_STREET_M + 1.5
    while z_m < end_m - 6.0:
        far_m = min(z_m + rng.uniform(10.0, 19.0), end_m)
        if rng.random() < 0.74:
            x_m = side * (FRONT_X_M + rng.choice([0.0, 0.0, 0.8, 1.6]))
            yield Building(x_m, z_m, far_m, rng.uniform(7.5, 19.0), int(rng.integers(FACADE_VARIANTS)))
        else:
            yield Barrier(side * (FRONT_X_M - 0.3), z_m, far_m, "wall" if rng.random() < 0.5 else "fence")
            for tree_m in np.arange(z_m + 2.0, far_m - 1.0, 4.5):
                x_m = side * rng.uniform(13.0, 17.0)
                yield Tree(x_m, float(tree_m), rng.uniform(6.0, 10.5), int(rng.integers(TREE_VARIANTS)))
        z_m = far_m + rng.choice([0.0, 0.0, 0.0, 1.5])


def _kerb_furniture(rng: np.random.Generator, side: int, start_m: float) -> Iterator[Item]:
    lamp_x_m = side * (ROAD_HALF_M + 0.7)
    lamp_colour = WHITE_LED if rng.random() < 0.3 else SODIUM
    for lamp_m in (22.0, 50.0, 78.0):
        yield StreetLight(lamp_x_m, start_m + lamp_m + (0.0 if side > 0 else 14.0), lamp_colour)
    for tree_m in np.arange(17.0, 88.0, 11.0):
        if rng.random() < 0.42:
            yield Tree(
                side * (ROAD_HALF_M + 1.1),
                start_m + float(tree_m) + rng.uniform(0.0, 3.0),
                rng.uniform(5.0, 8.0),
                int(rng.integers(TREE_VARIANTS)),
            )
    for sign_m in (27.0, 58.0, 86.0):
        if rng.random() < 0.75:
            kind: Literal["limit", "warning", "parking"] = (
                "limit" if sign_m < 30.0 else "parking" if sign_m < 60.0 else "warning"
            )
            yield TrafficSign(side * (ROAD_HALF_M + 0.5), start_m + sign_m + rng.uniform(-2.0, 2.0), kind)


def _parked(rng: np.random.Generator, side: int, start_m: float) -> Iterator[Item]:
    heading: Literal[1, -1] = 1 if side > 0 else -1
    z_m = start_m + 24.0
    while z_m < start_m + 86.0:
        kind: VehicleKind = ("sedan", "hatchback", "van", "hatchback", "sedan")[int(rng.integers(5))]
        paint = PAINTS[int(rng.integers(len(PAINTS)))]
        if rng.random() < 0.6:
            yield Vehicle(kind, side * PARKED_X_M, z_m, heading, paint, lamps_on=False)
        z_m += VEHICLE_LENGTH_M[kind] + rng.uniform(1.3, 3.0)
