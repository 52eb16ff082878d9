"""The shapes of vehicles: flat faces in metres, made once per kind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from darkseg_ros.synthetic_drive.street import VEHICLE_LENGTH_M, Colour, VehicleKind

GLASS: Colour = (74, 66, 60)
RUBBER: Colour = (30, 29, 29)
HEADLAMP_GLOW: Colour = (228, 250, 255)
TAILLAMP_GLOW: Colour = (30, 26, 205)
DAY_LENS: Colour = (205, 208, 208)
DAY_TAIL_LENS: Colour = (40, 34, 150)


@dataclass(frozen=True)
class Face:
    """One flat face in vehicle coordinates: x right, y up from the ground, z forward from the middle.

    Attributes:
        corners: (N, 3) metres, in order around the face.
        outward: (3,) its normal.
        colour: BGR, or None for the vehicle's paint.
        shade: factor on the colour, for how the face is turned to the light.
        glow: BGR of what it sends out when the lamps are on.
    """

    corners: np.ndarray
    outward: np.ndarray
    colour: Colour | None
    shade: float
    glow: Colour


def _face(
    corners: list[tuple[float, float, float]],
    *,
    outward: tuple[float, float, float],
    colour: Colour | None = None,
    shade: float = 1.0,
    glow: Colour = (0, 0, 0),
) -> Face:
    return Face(np.array(corners, np.float64), np.array(outward, np.float64), colour, shade, glow)


@dataclass(frozen=True)
class VehicleShape:
    """All faces of a kind of vehicle, in an order that lets nearer ones cover farther ones.

    Attributes:
        faces: colours and lamps of each face.
        corners: (V, 3) corners of all faces, one face after another.
        spans: first and one past the last row of `corners` of each face.
        anchors: (F, 3) one corner of each face.
        outward: (F, 3) normal of each face.
    """

    faces: tuple[Face, ...]
    corners: np.ndarray
    spans: tuple[tuple[int, int], ...]
    anchors: np.ndarray
    outward: np.ndarray


@cache
def vehicle_shape(kind: VehicleKind) -> VehicleShape:
    """The shape of a kind of vehicle."""
    faces = _box_vehicle(kind) if kind in ("truck", "bus") else _car(kind)
    ends = np.cumsum([len(face.corners) for face in faces]).tolist()
    return VehicleShape(
        faces=tuple(faces),
        corners=np.concatenate([face.corners for face in faces]),
        spans=tuple(zip([0, *ends[:-1]], ends, strict=True)),
        anchors=np.stack([face.corners[0] for face in faces]),
        outward=np.stack([face.outward for face in faces]),
    )


def _across(
    z_m: float, *, x0: float, x1: float, y0: float, y1: float, forward: bool
) -> tuple[list[tuple[float, float, float]], tuple[float, float, float]]:
    """Corners and normal of an upright rectangle across the vehicle."""
    corners = [(x0, y0, z_m), (x1, y0, z_m), (x1, y1, z_m), (x0, y1, z_m)]
    return corners, (0.0, 0.0, 1.0 if forward else -1.0)


def _strip(profile: list[tuple[float, float, float]]) -> list[tuple[Face, float]]:
    """Faces between neighbouring points (z, y, half width) of a side view, each with its upward slope."""
    faces = []
    for (z0, y0, w0), (z1, y1, w1) in pairwise(profile):
        corners = [(-w0, y0, z0), (w0, y0, z0), (w1, y1, z1), (-w1, y1, z1)]
        normal = np.array((0.0, z1 - z0, y0 - y1))
        length = float(np.hypot(normal[1], normal[2])) or 1.0
        up = float(normal[1]) / length
        outward = (0.0, up, float(normal[2]) / length)
        faces.append((_face(corners, outward=outward, shade=0.86 + 0.3 * max(up, 0.0)), up))
    return faces


def _wheels(half_m: float, axles_m: tuple[float, float], radius_m: float) -> list[Face]:
    faces = []
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    for axle_m in axles_m:
        for side in (-1.0, 1.0):
            for forward in (False, True):
                inner, outer = side * (half_m - 0.24), side * (half_m - 0.02)
                z_m = axle_m + (radius_m if forward else -radius_m) * 0.7
                corners, outward = _across(z_m, x0=inner, x1=outer, y0=0.0, y1=radius_m, forward=forward)
                faces.append(_face(corners, outward=outward, colour=RUBBER))
            for radius, colour in ((radius_m, RUBBER), (0.6 * radius_m, (128, 128, 130))):
                ring = [
                    (side * (half_m + 0.01), radius_m + radius * np.sin(a), axle_m + radius * np.cos(a)) for a in angles
                ]
                faces.append(_face(ring, outward=(side, 0.0, 0.0), colour=colour))
    return faces


def _lamps(half_m: float, *, rear_m: float, front_m: float, rear_y: float, front_y: float) -> list[Face]:
    faces = []
    for side in (-1.0, 1.0):
        x0, x1 = side * (half_m - 0.06), side * (half_m - 0.36)
        corners, outward = _across(rear_m - 0.02, x0=x0, x1=x1, y0=rear_y, y1=rear_y + 0.17, forward=False)
        faces.append(_face(corners, outward=outward, colour=DAY_TAIL_LENS, glow=TAILLAMP_GLOW))
        corners, outward = _across(front_m + 0.02, x0=x0, x1=x1, y0=front_y, y1=front_y + 0.15, forward=True)
        faces.append(_face(corners, outward=outward, colour=DAY_LENS, glow=HEADLAMP_GLOW))
    for z_m, forward, y_m in ((rear_m - 0.02, False, rear_y - 0.22), (front_m + 0.02, True, front_y - 0.3)):
        corners, outward = _across(z_m, x0=-0.26, x1=0.26, y0=y_m, y1=y_m + 0.11, forward=forward)
        glow: Colour = (0, 0, 0) if forward else (60, 66, 70)
        faces.append(_face(corners, outward=outward, colour=(214, 218, 220), glow=glow))
    return faces


def _car(kind: VehicleKind) -> list[Face]:
    half_length_m = VEHICLE_LENGTH_M[kind] / 2
    half_m, roof_half_m = 0.89, 0.64
    # roof height, then where the cabin meets the body behind and in front, and where the roof begins and ends
    roof_m, back, front, roof_back, roof_front = {
        "sedan": (1.45, -1.75, 1.15, -0.95, 0.35),
        "hatchback": (1.5, -1.95, 1.0, -1.55, 0.2),
        "van": (1.85, -2.4, 1.35, -2.2, 0.6),
    }[kind]
    rear, nose, belt = -half_length_m, half_length_m, 0.95
    body = [
        (rear + 0.05, 0.28, half_m - 0.03),
        (rear, 0.55, half_m),
        (rear + 0.06, belt, half_m - 0.03),
        (back, belt + 0.02, half_m - 0.05),
        (front, belt, half_m - 0.05),
        (nose - 0.15, 0.78, half_m - 0.06),
        (nose, 0.6, half_m),
        (nose - 0.05, 0.28, half_m - 0.03),
    ]
    wheels = _wheels(half_m, (rear + 0.85, nose - 0.85), 0.33)
    faces = [wheel for wheel in wheels if wheel.outward[2] != 0.0]
    cabin = [
        (back, belt, half_m - 0.07),
        (roof_back, roof_m, roof_half_m),
        (roof_front, roof_m, roof_half_m),
        (front, belt, half_m - 0.07),
    ]
    for side in (-1.0, 1.0):
        sideways = (side, 0.0, 0.0)
        faces.append(_face([(side * w, y, z) for z, y, w in body], outward=sideways, shade=0.82))
        faces.append(_face([(side * w, y, z) for z, y, w in cabin], outward=sideways, shade=0.78))
        low, high = 0.12, 0.82
        for z0, z1 in ((0.06, 0.48), (0.53, 0.94)):
            window = []
            for along, up in ((z0, low), (z1, low), (z1, high), (z0, high)):
                z_low, z_high = back + along * (front - back), roof_back + along * (roof_front - roof_back)
                x_m = (1 - up) * (half_m - 0.07) + up * roof_half_m + 0.01
                window.append((side * x_m, belt + up * (roof_m - belt), z_low + up * (z_high - z_low)))
            faces.append(_face(window, outward=sideways, colour=GLASS))
    faces += [face for face, _ in _strip(body)]
    for face, up in _strip(cabin):
        faces.append(face)
        if up < 0.95:
            middle = face.corners.mean(axis=0)
            corners = middle + (face.corners - middle) * np.array((0.86, 0.78, 0.78))
            faces.append(Face(corners, face.outward, GLASS, 1.0, (0, 0, 0)))
    for z_m, forward in ((rear - 0.01, False), (nose + 0.01, True)):
        corners, outward = _across(z_m, x0=-0.84, x1=0.84, y0=0.28, y1=0.46, forward=forward)
        faces.append(_face(corners, outward=outward, colour=(52, 51, 51)))
    faces += _lamps(half_m, rear_m=rear, front_m=nose, rear_y=0.68, front_y=0.58)
    return faces + [wheel for wheel in wheels if wheel.outward[2] == 0.0]


def _box_vehicle(kind: VehicleKind) -> list[Face]:
    half_length_m, half_m = VEHICLE_LENGTH_M[kind] / 2, 1.22
    rear, nose, roof_m = -half_length_m, half_length_m, 3.0 if kind == "bus" else 3.2
    wheels = _wheels(half_m, (rear + 1.9, nose - 1.5), 0.5)
    faces = [wheel for wheel in wheels if wheel.outward[2] != 0.0]
    cab_m = nose if kind == "bus" else nose - 1.9
    box = [(rear, 0.45, half_m), (rear, roof_m, half_m), (cab_m, roof_m, half_m), (cab_m, 0.45, half_m)]
    parts = [box]
    if kind == "truck":
        parts.append(
            [
                (cab_m, 0.4, 1.1),
                (cab_m, 2.5, 1.1),
                (nose - 0.35, 2.5, 1.1),
                (nose, 1.3, 1.1),
                (nose, 0.4, 1.1),
            ]
        )
    for part in parts:
        for side in (-1.0, 1.0):
            corners = [(side * w, y, z) for z, y, w in part]
            faces.append(_face(corners, outward=(side, 0.0, 0.0), shade=0.85))
        faces += [face for face, _ in _strip(part)]
    room: Colour = (84, 112, 120)
    if kind == "bus":
        for side in (-1.0, 1.0):
            for z_m in np.arange(rear + 0.5, nose - 1.2, 1.5):
                x_m = side * (half_m + 0.01)
                corners = [(x_m, 1.35, z_m), (x_m, 1.35, z_m + 1.35), (x_m, 2.5, z_m + 1.35), (x_m, 2.5, z_m)]
                faces.append(_face(corners, outward=(side, 0.0, 0.0), colour=GLASS, glow=room))
        corners, outward = _across(rear - 0.01, x0=-1.0, x1=1.0, y0=1.6, y1=2.6, forward=False)
        faces.append(_face(corners, outward=outward, colour=GLASS, glow=room))
        corners, outward = _across(nose + 0.01, x0=-1.12, x1=1.12, y0=1.1, y1=2.5, forward=True)
        faces.append(_face(corners, outward=outward, colour=GLASS, glow=(40, 54, 58)))
        corners, outward = _across(nose + 0.01, x0=-0.7, x1=0.7, y0=2.6, y1=2.88, forward=True)
        faces.append(_face(corners, outward=outward, colour=(30, 30, 30), glow=(40, 150, 210)))
    else:
        windscreen = [
            (-0.98, 1.4, nose - 0.02),
            (0.98, 1.4, nose - 0.02),
            (0.98, 2.35, nose - 0.29),
            (-0.98, 2.35, nose - 0.29),
        ]
        faces.append(_face(windscreen, outward=(0.0, 0.3, 1.0), colour=GLASS))
    faces += _lamps(1.15, rear_m=rear, front_m=nose, rear_y=0.75, front_y=0.65)
    return faces + [wheel for wheel in wheels if wheel.outward[2] == 0.0]
