"""How each thing of the street is drawn onto the canvas; the caller goes from far to near."""

from __future__ import annotations

import math
from functools import singledispatch
from itertools import compress

import cv2
import numpy as np

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.synthetic_drive import street
from darkseg_ros.synthetic_drive.camera import FAR_M, MOUNT_HEIGHT_M, NEAR_M, clip_to_near
from darkseg_ros.synthetic_drive.canvas import DARK, GROUND_CODE, SKY_CODE, Canvas
from darkseg_ros.synthetic_drive.street import Colour
from darkseg_ros.synthetic_drive.textures import GROUND_HALF_M, PYRAMID_LEVELS
from darkseg_ros.synthetic_drive.vehicles import vehicle_shape

BUILDING_DEPTH_M = 12.0
SKIN: Colour = (112, 138, 178)
_ANGLES = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_CIRCLE = np.stack((np.cos(_ANGLES), np.sin(_ANGLES)), axis=1)


def paint_sky(canvas: Canvas) -> None:
    """Sky and skyline; both turn with the heading of the ego vehicle."""
    camera, textures = canvas.camera, canvas.textures
    width = camera.size_hw[1]
    turned_px = round(camera.focal_px * camera.heading_rad) % (textures.sky.shape[1] - width)
    columns = slice(turned_px, turned_px + width)
    horizon = camera.horizon_px
    canvas.surface[:horizon, :, 3] = CITYSCAPES.train_ids["sky"]
    canvas.glow[:horizon, :, :3] = textures.sky[:, columns]
    canvas.glow[:horizon, :, 3] = SKY_CODE
    strip = np.ascontiguousarray(textures.skyline[:, columns])
    mask = (strip[..., 3] != CITYSCAPES.train_ids["sky"]).astype(np.uint8)
    top = horizon - strip.shape[0]
    cv2.copyTo(strip, mask, canvas.surface[top:horizon])
    far = np.zeros_like(strip)
    far[..., 3] = 254
    cv2.copyTo(far, mask, canvas.glow[top:horizon])


def paint_ground(canvas: Canvas) -> None:
    """Road, sidewalk and terrain: the top view of a block, seen in perspective."""
    camera, textures = canvas.camera, canvas.textures
    horizon, width = camera.horizon_px, camera.size_hw[1]
    px_per_m = textures.ground_px_per_m
    distances_m = camera.ground_distances_m()[:, None]
    columns = (np.arange(width, dtype=np.float32) + 0.5 - camera.centre_px)[None, :]
    bend_m = np.float32(0.5 * camera.bend_per_m) * np.minimum(distances_m, FAR_M) ** 2
    x_m = columns * (distances_m / np.float32(camera.focal_px)) - bend_m + np.float32(camera.x_m)
    across_px = np.clip((x_m + GROUND_HALF_M) * px_per_m, 0, 2 * GROUND_HALF_M * px_per_m - 1).astype(np.float32)
    along_px = np.mod(distances_m + camera.z_m, street.BLOCK_M) * px_per_m
    along_px = np.broadcast_to(along_px.astype(np.float32), across_px.shape)

    labels = cv2.remap(textures.ground_labels, across_px, along_px, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP)
    canvas.surface[horizon:, :, 3] = labels
    # the farther, the more texture rows fall into one pixel row: take the level whose rows match
    rows_per_px = distances_m[:, 0] ** 2 / (camera.focal_px * MOUNT_HEIGHT_M) * px_per_m
    levels = np.clip(np.rint(np.log(np.maximum(rows_per_px, 1e-3)) / math.log(4.0)), 0, PYRAMID_LEVELS - 1)
    for level in range(PYRAMID_LEVELS):
        rows = np.flatnonzero(levels == level)
        if rows.size == 0:
            continue
        band = slice(int(rows[0]), int(rows[-1]) + 1)
        texture = textures.ground[level]
        shrink_y = texture.shape[0] / textures.ground[0].shape[0]
        shrink_x = texture.shape[1] / textures.ground[0].shape[1]
        seen = cv2.remap(
            texture,
            across_px[band] * np.float32(shrink_x),
            along_px[band] * np.float32(shrink_y),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        canvas.surface[horizon + band.start : horizon + band.stop, :, :3] = seen
    canvas.glow[horizon:, :, 3] = GROUND_CODE


@singledispatch
def paint(item: object, canvas: Canvas) -> None:
    """Draws one thing of the street onto the canvas."""
    raise TypeError(f"expected something that stands on the street, got {type(item).__name__}")


def _upright(canvas: Canvas, x_m: float, z_m: float) -> tuple[np.ndarray, float] | None:
    """Foot of something upright in pixels and its pixels per metre; None where it is out of sight."""
    seen = canvas.camera.to_camera(np.array([(x_m, 0.0, z_m)]))
    if seen[0, 2] < NEAR_M:
        return None
    return canvas.camera.to_pixels(seen)[0], canvas.camera.focal_px / float(seen[0, 2])


def _side_quad(
    canvas: Canvas, *, x_m: float, near_m: float, far_m: float, height_m: float
) -> tuple[np.ndarray, float, float, float] | None:
    """An upright plane along the street, cut at the near plane.

    Returns:
        Its (4, 2) corners in pixels, the distances of its two ends, and the share of it that is left; None
        where nothing is left.
    """
    camera = canvas.camera
    start_m = max(near_m, camera.z_m + NEAR_M)
    if far_m - start_m < 0.05:
        return None
    corners = np.array([(x_m, height_m, start_m), (x_m, height_m, far_m), (x_m, 0.0, far_m), (x_m, 0.0, start_m)])
    quad_px = camera.to_pixels(camera.to_camera(corners))
    return quad_px, start_m - camera.z_m, far_m - camera.z_m, (far_m - start_m) / (far_m - near_m)


@paint.register
def _paint_building(item: street.Building, canvas: Canvas) -> None:
    facade = canvas.textures.facades[item.variant]
    side = _side_quad(canvas, x_m=item.x_m, near_m=item.z_m, far_m=item.far_m, height_m=item.height_m)
    if side is not None:
        quad_px, near_m, far_m, part = side
        canvas.texture(quad_px, facade, near_m=near_m, far_m=far_m, part=part)
    ahead_m = item.z_m - canvas.camera.z_m
    if ahead_m > NEAR_M:
        outer_m = item.x_m + math.copysign(BUILDING_DEPTH_M, item.x_m)
        corners = np.array([(x, y, item.z_m) for x, y in ((outer_m, 1), (item.x_m, 1), (item.x_m, 0), (outer_m, 0))])
        corners[:, 1] *= item.height_m
        quad_px = canvas.camera.to_pixels(canvas.camera.to_camera(corners))
        canvas.texture(quad_px, facade, near_m=ahead_m, far_m=ahead_m)


@paint.register
def _paint_barrier(item: street.Barrier, canvas: Canvas) -> None:
    side = _side_quad(canvas, x_m=item.x_m, near_m=item.z_m, far_m=item.far_m, height_m=1.7)
    if side is not None:
        quad_px, near_m, far_m, part = side
        canvas.texture(quad_px, canvas.textures.barriers[item.kind], near_m=near_m, far_m=far_m, part=part)


@paint.register
def _paint_tree(item: street.Tree, canvas: Canvas) -> None:
    upright = _upright(canvas, item.x_m, item.z_m)
    if upright is None:
        return
    foot, px_per_m = upright
    distance_m = item.z_m - canvas.camera.z_m
    vegetation = CITYSCAPES.train_ids["vegetation"]
    top = foot - (0.0, 0.55 * item.height_m * px_per_m)
    canvas.limb(foot, top, (52, 62, 74), width_px=0.28 * px_per_m, train_id=vegetation, distance_m=distance_m)
    crown_m = 0.72 * item.height_m
    centre = foot - (0.0, (item.height_m - 0.5 * crown_m) * px_per_m)
    canvas.sprite(
        canvas.textures.crowns[item.variant],
        centre,
        1.25 * crown_m * px_per_m,
        train_id=vegetation,
        distance_m=distance_m,
    )


@paint.register
def _paint_street_light(item: street.StreetLight, canvas: Canvas) -> None:
    upright = _upright(canvas, item.x_m, item.z_m)
    if upright is None:
        return
    foot, px_per_m = upright
    distance_m = item.z_m - canvas.camera.z_m
    pole = CITYSCAPES.train_ids["pole"]
    lamp_m = item.lamp_xyz_m[0] - item.x_m
    top, knee = foot - (0.0, 7.6 * px_per_m), foot + (0.3 * lamp_m * px_per_m, -8.0 * px_per_m)
    tip = foot + (lamp_m * px_per_m, -8.05 * px_per_m)
    for start, end, width_m in (
        (foot, foot - (0.0, 1.0 * px_per_m), 0.26),
        (foot, top, 0.17),
        (top, knee, 0.11),
        (knee, tip, 0.11),
    ):
        canvas.limb(start, end, (112, 112, 110), width_px=width_m * px_per_m, train_id=pole, distance_m=distance_m)
    half = np.array((0.38 * px_per_m, 0.09 * px_per_m))
    box = tip + half * np.array(((-1, -1), (1, -1), (1, 1), (-1, 1)))
    glow = tuple(round(255 * part**0.5) for part in item.colour)
    canvas.fill(box, (150, 152, 152), train_id=pole, distance_m=distance_m, glow=(glow[0], glow[1], glow[2]))


def _signal_head(canvas: Canvas, centre: np.ndarray, px_per_m: float, *, green: bool, distance_m: float) -> None:
    train_id = CITYSCAPES.train_ids["traffic light"]
    half = np.array((0.2, 0.52)) * px_per_m
    canvas.fill(
        centre + half * np.array(((-1, -1), (1, -1), (1, 1), (-1, 1))),
        (34, 34, 32),
        train_id=train_id,
        distance_m=distance_m,
    )
    lenses: tuple[tuple[float, bool, Colour, Colour], ...] = (
        (-0.33, not green, (40, 40, 235), (30, 26, 52)),
        (0.0, False, (40, 200, 240), (26, 44, 50)),
        (0.33, green, (150, 235, 40), (38, 50, 26)),
    )
    for offset_m, on, colour, off_colour in lenses:
        lens = centre + 0.125 * px_per_m * _CIRCLE + (0.0, offset_m * px_per_m)
        canvas.fill(
            lens,
            colour if on else off_colour,
            train_id=train_id,
            distance_m=distance_m,
            glow=colour if on else DARK,
        )


@paint.register
def _paint_traffic_light(item: street.TrafficLight, canvas: Canvas) -> None:
    upright = _upright(canvas, item.x_m, item.z_m)
    if upright is None:
        return
    foot, px_per_m = upright
    distance_m = item.z_m - canvas.camera.z_m
    pole = CITYSCAPES.train_ids["pole"]
    green = distance_m < 75.0  # a green wave: the ego vehicle never has to stop
    grey: Colour = (96, 98, 96)
    top = foot - (0.0, (5.6 if item.overhead else 3.2) * px_per_m)
    canvas.limb(foot, top, grey, width_px=0.16 * px_per_m, train_id=pole, distance_m=distance_m)
    if item.overhead:
        tip = top - ((item.x_m - street.LANE_X_M - 0.6) * px_per_m, 0.0)
        canvas.limb(top, tip, grey, width_px=0.12 * px_per_m, train_id=pole, distance_m=distance_m)
        _signal_head(canvas, tip, px_per_m, green=green, distance_m=distance_m)
    beside = foot - (0.0, 2.7 * px_per_m)
    _signal_head(canvas, beside, px_per_m, green=green, distance_m=distance_m)


@paint.register
def _paint_traffic_sign(item: street.TrafficSign, canvas: Canvas) -> None:
    upright = _upright(canvas, item.x_m, item.z_m)
    if upright is None:
        return
    foot, px_per_m = upright
    distance_m = item.z_m - canvas.camera.z_m
    train_id = CITYSCAPES.train_ids["traffic sign"]
    canvas.limb(
        foot,
        foot - (0.0, 2.3 * px_per_m),
        (120, 122, 122),
        width_px=0.08 * px_per_m,
        train_id=CITYSCAPES.train_ids["pole"],
        distance_m=distance_m,
    )
    centre = foot - (0.0, 2.55 * px_per_m)
    # film on signs sends headlight back to where it came from
    returned = min(1.0, 14.0 / distance_m)
    red, white, blue, black = (44, 36, 190), (232, 234, 234), (172, 84, 24), (40, 40, 40)
    triangle = np.array(((0.0, -0.46), (0.5, 0.4), (-0.5, 0.4)))
    square = np.array(((-0.36, -0.36), (0.36, -0.36), (0.36, 0.36), (-0.36, 0.36)))
    digit = np.array(((-0.07, -0.15), (0.07, -0.15), (0.07, 0.15), (-0.07, 0.15)))
    layers: list[tuple[np.ndarray, Colour]] = {
        "limit": [
            (0.4 * _CIRCLE, red),
            (0.29 * _CIRCLE, white),
            (digit - (0.1, 0.0), black),
            (digit + (0.1, 0.0), black),
        ],
        "warning": [(triangle, red), (triangle * 0.66 + (0.0, 0.05), white)],
        "parking": [(square, blue), (digit * (0.7, 1.6), white), (digit * (1.2, 0.9) - (-0.08, 0.1), white)],
    }[item.kind]
    for shape, colour in layers:
        glow = tuple(round(0.62 * returned * channel) for channel in colour)
        canvas.fill(
            centre + shape * px_per_m,
            colour,
            train_id=train_id,
            distance_m=distance_m,
            glow=(glow[0], glow[1], glow[2]),
        )


@paint.register
def _paint_vehicle(item: street.Vehicle, canvas: Canvas) -> None:
    camera = canvas.camera
    turn = float(item.heading)
    origin = np.array((item.x_m, 0.0, item.z_m))
    half_m = 0.5 * street.VEHICLE_LENGTH_M[item.kind]
    wide_m = 1.25 if item.kind in ("truck", "bus") else 0.9
    footprint = np.array([(-wide_m, -half_m), (wide_m, -half_m), (wide_m, half_m), (-wide_m, half_m)]) * 1.06
    shadow = np.insert(footprint, 1, 0.0, axis=1) + origin
    seen = clip_to_near(camera.to_camera(shadow))
    if len(seen) < 3:
        return
    canvas.darken(camera.to_pixels(seen), 0.4)
    shape = vehicle_shape(item.kind)
    turned = np.array((turn, 1.0, turn))
    corners = camera.to_camera(shape.corners * turned + origin)
    outward = shape.outward * turned
    # the bend is a sideways shift, so it is undone to see which faces look at the camera
    anchors = shape.anchors * turned + origin - (camera.x_m, MOUNT_HEIGHT_M, camera.z_m)
    anchors[:, 0] += 0.5 * camera.bend_per_m * anchors[:, 2] ** 2
    facing = (anchors * outward).sum(axis=1) < 0.0
    in_front = bool((corners[:, 2] >= NEAR_M).all())
    pixels = camera.to_pixels(corners) if in_front else None
    name = item.kind if item.kind in ("truck", "bus") else "car"
    train_id = CITYSCAPES.train_ids[name]
    distance_m = max(float(corners[:, 2].mean()), NEAR_M)
    for face, (first, last) in compress(zip(shape.faces, shape.spans, strict=True), facing):
        if pixels is None:
            polygon_px = camera.to_pixels(clip_to_near(corners[first:last]))
        else:
            polygon_px = pixels[first:last]
        base = item.paint if face.colour is None else face.colour
        colour = (
            min(255, round(face.shade * base[0])),
            min(255, round(face.shade * base[1])),
            min(255, round(face.shade * base[2])),
        )
        glow = face.glow if item.lamps_on else DARK
        canvas.fill(polygon_px, colour, train_id=train_id, distance_m=distance_m, glow=glow)


def _strokes(
    canvas: Canvas,
    joints: dict[str, tuple[float, float, float]],
    strokes: tuple[tuple[str, str, float, Colour], ...],
    *,
    x_m: float,
    z_m: float,
    train_id: int,
) -> None:
    """Draws a figure from joints (right, up, forward, in metres) and strokes (from, to, width, colour)."""
    camera = canvas.camera
    points = camera.to_camera(np.array(list(joints.values())) + (x_m, 0.0, z_m))
    if points[:, 2].min() < NEAR_M:
        return
    pixels = dict(zip(joints, camera.to_pixels(points), strict=True))
    distance_m = z_m - camera.z_m
    for start, end, width_m, colour in strokes:
        canvas.limb(
            pixels[start],
            pixels[end],
            colour,
            width_px=width_m * camera.focal_px / distance_m,
            train_id=train_id,
            distance_m=distance_m,
        )


@paint.register
def _paint_walker(item: street.Walker, canvas: Canvas) -> None:
    size = item.height_m / 1.75
    swing = math.sin(item.stride_rad)
    forward = float(item.heading)
    joints: dict[str, tuple[float, float, float]] = {}
    for name, x, y, z in (
        ("head", 0.0, 1.62, 0.0),
        ("crown", 0.0, 1.67, 0.0),
        ("neck", 0.0, 1.38, 0.0),
        ("hips", 0.0, 0.92, 0.0),
        ("shoulder_l", -0.17, 1.36, 0.0),
        ("shoulder_r", 0.17, 1.36, 0.0),
        ("waist_l", -0.1, 0.95, 0.0),
        ("waist_r", 0.1, 0.95, 0.0),
        ("elbow_l", -0.26, 1.1, 0.12 * swing),
        ("elbow_r", 0.26, 1.1, -0.12 * swing),
        ("hand_l", -0.25, 0.85, 0.3 * swing),
        ("hand_r", 0.25, 0.85, -0.3 * swing),
        ("knee_l", -0.11, 0.5 + 0.05 * max(-swing, 0), -0.2 * swing),
        ("knee_r", 0.11, 0.5 + 0.05 * max(swing, 0), 0.2 * swing),
        ("foot_l", -0.12, 0.06 + 0.1 * max(-swing, 0), -0.38 * swing),
        ("foot_r", 0.12, 0.06 + 0.1 * max(swing, 0), 0.38 * swing),
    ):
        # a little of the gait is turned sideways, else nobody seems to walk who walks towards the camera
        joints[name] = (size * (x + 0.3 * forward * z), size * y, size * forward * z)
    strokes = (
        ("waist_l", "knee_l", 0.19, item.trousers),
        ("knee_l", "foot_l", 0.15, item.trousers),
        ("waist_r", "knee_r", 0.19, item.trousers),
        ("knee_r", "foot_r", 0.15, item.trousers),
        ("shoulder_l", "elbow_l", 0.13, item.jacket),
        ("elbow_l", "hand_l", 0.1, item.jacket),
        ("shoulder_r", "elbow_r", 0.13, item.jacket),
        ("elbow_r", "hand_r", 0.1, item.jacket),
        ("shoulder_l", "waist_l", 0.2, item.jacket),
        ("shoulder_r", "waist_r", 0.2, item.jacket),
        ("neck", "hips", 0.24, item.jacket),
        ("neck", "head", 0.12, SKIN),
        ("head", "crown", 0.21, SKIN if forward < 0 else (40, 48, 58)),
    )
    _strokes(canvas, joints, strokes, x_m=item.x_m, z_m=item.z_m, train_id=CITYSCAPES.train_ids["person"])


@paint.register
def _paint_cyclist(item: street.Cyclist, canvas: Canvas) -> None:
    bicycle: Colour = (52, 50, 48)
    joints: dict[str, tuple[float, float, float]] = {
        "saddle": (0.0, 0.95, -0.25),
        "crank": (0.0, 0.3, -0.05),
        "steer": (0.0, 0.98, 0.4),
        "bar_l": (-0.26, 1.02, 0.38),
        "bar_r": (0.26, 1.02, 0.38),
        "hub_rear": (0.0, 0.34, -0.52),
        "hub_front": (0.0, 0.34, 0.52),
    }
    frame: list[tuple[str, str, float, Colour]] = [
        ("saddle", "crank", 0.05, bicycle),
        ("saddle", "steer", 0.05, bicycle),
        ("crank", "steer", 0.05, bicycle),
        ("hub_rear", "saddle", 0.04, bicycle),
        ("hub_front", "steer", 0.04, bicycle),
        ("bar_l", "bar_r", 0.05, bicycle),
    ]
    for hub, z in (("hub_front", 0.52), ("hub_rear", -0.52)):
        for step in range(12):
            angle = step * math.pi / 6
            # a slight lean turns the wheels out of the plane of sight
            joints[f"{hub}{step}"] = (
                0.05 * math.sin(angle),
                0.34 + 0.34 * math.sin(angle),
                z + 0.34 * math.cos(angle),
            )
        frame += [(f"{hub}{step}", f"{hub}{(step + 1) % 12}", 0.06, (32, 32, 32)) for step in range(12)]
    _strokes(canvas, joints, tuple(frame), x_m=item.x_m, z_m=item.z_m, train_id=CITYSCAPES.train_ids["bicycle"])

    up = math.sin(item.pedal_rad)
    body: dict[str, tuple[float, float, float]] = {
        "hips": (0.0, 1.02, -0.22),
        "neck": (0.0, 1.5, 0.08),
        "head": (0.0, 1.66, 0.14),
        "crown": (0.0, 1.72, 0.13),
        "shoulder_l": (-0.17, 1.46, 0.06),
        "shoulder_r": (0.17, 1.46, 0.06),
        "hand_l": (-0.25, 1.06, 0.36),
        "hand_r": (0.25, 1.06, 0.36),
        "hip_l": (-0.1, 0.98, -0.2),
        "hip_r": (0.1, 0.98, -0.2),
        "knee_l": (-0.16, 0.68 + 0.13 * up, 0.16),
        "knee_r": (0.16, 0.68 - 0.13 * up, 0.16),
        "foot_l": (-0.12, 0.28 + 0.15 * up, 0.0),
        "foot_r": (0.12, 0.28 - 0.15 * up, 0.0),
    }
    trousers: Colour = (62, 50, 46)
    strokes = (
        ("hip_l", "knee_l", 0.17, trousers),
        ("knee_l", "foot_l", 0.13, trousers),
        ("hip_r", "knee_r", 0.17, trousers),
        ("knee_r", "foot_r", 0.13, trousers),
        ("shoulder_l", "hand_l", 0.11, item.jacket),
        ("shoulder_r", "hand_r", 0.11, item.jacket),
        ("shoulder_l", "hip_l", 0.2, item.jacket),
        ("shoulder_r", "hip_r", 0.2, item.jacket),
        ("hips", "neck", 0.27, item.jacket),
        ("neck", "head", 0.12, SKIN),
        ("head", "crown", 0.23, (60, 60, 170)),
    )
    _strokes(canvas, body, strokes, x_m=item.x_m, z_m=item.z_m, train_id=CITYSCAPES.train_ids["rider"])
    foot = _upright(canvas, item.x_m, item.z_m - 0.6)
    if foot is not None:
        at, px_per_m = foot
        canvas.fill(
            at - (0.0, 0.78 * px_per_m) + 0.045 * px_per_m * _CIRCLE,
            (40, 34, 150),
            train_id=CITYSCAPES.train_ids["bicycle"],
            distance_m=item.z_m - canvas.camera.z_m,
            glow=(30, 26, 205),
        )
