"""Whether drives that have no label maps are ranked as their label maps would rank them: precision at 10.

    python -m tests.fleet_ranking [--drives 100] [--first-seed 9000] [--out out/ranking]

Each drive is a generated street with one thing that a camera meets, of a random strength: darkness, noise, blur, fog,
raindrops, flare, dirt, a low sun, or nothing. `darkseg evaluate` judges them with the shipped model; of the ten drives
that a ranking without label maps calls the worst, the precision at 10 is the share that is among the ten of the lowest
mIoU by their label maps.
"""

from __future__ import annotations

import json
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from darkseg_ros.commands.cli import main as darkseg
from darkseg_ros.evaluation.disturbances import draw_flare, draw_raindrops
from darkseg_ros.frames.bags import IMAGE_TOPIC, LABEL_TOPIC, BagWriter
from darkseg_ros.synthetic_drive import SyntheticDrive

_HW = (256, 512)
_FRAMES = 8
_RATE_HZ = 10.0
_DAY_SHARE = 0.2
_WORST = 10
_START_NS = 1_700_000_000_000_000_000

Change = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""A (H, W, 3) uint8 BGR frame, a strength within 0…1 and the drive's randomness, the same for each of its frames."""


def main() -> int:
    """Run it from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--drives", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=9000, help="of the streets; others are other drives")
    parser.add_argument("--out", type=Path, default=Path("out/ranking"))
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    for seed in tqdm(range(arguments.first_seed, arguments.first_seed + arguments.drives), desc="drives", disable=None):
        write_drive(arguments.out / "drives", seed)
    if status := darkseg(["evaluate", str(arguments.out / "drives"), "--out", str(arguments.out / "evaluation")]):
        return status
    lines = (arguments.out / "evaluation" / "result.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    truth = np.array([row["miou_present"] for row in rows])
    print(f"{len(rows)} drives, mIoU {truth.min():.3f} to {truth.max():.3f}; by chance {_WORST / len(rows):.2f}")
    for name in ("trust", "consistency", "mean_confidence", "healthy_share", "dispersity"):
        values = np.array([row[name] for row in rows], float)
        print(
            f"{name:<16} precision@{_WORST} {precision_at(values, truth):.2f}, Spearman {spearman(values, truth):.2f}"
        )
    return 0


def write_drive(folder: Path, seed: int) -> Path:
    """Write a drive with label maps, called after what its camera meets."""
    rng = np.random.default_rng(seed)
    name = list(CHANGES)[rng.integers(len(CHANGES))]
    strength = float(rng.uniform(0.1, 1))
    drive = SyntheticDrive(seed=seed, size_hw=_HW, night=bool(rng.random() > _DAY_SHARE), rate_hz=_RATE_HZ)
    path = folder / f"{seed}_{name}_{round(100 * strength):03d}"
    with BagWriter(path) as writer:
        for index in range(_FRAMES):
            scene = drive.frame(index)
            bgr = CHANGES[name](scene.bgr, strength, np.random.default_rng(seed))
            stamp_ns = _START_NS + round(index * 1e9 / _RATE_HZ)
            writer.write_image(IMAGE_TOPIC, bgr, stamp_ns=stamp_ns, frame_id="camera")
            writer.write_image(LABEL_TOPIC, scene.label_map, stamp_ns=stamp_ns, frame_id="camera", encoding="mono8")
    return path


def precision_at(values: np.ndarray, truth: np.ndarray, count: int = _WORST) -> float:
    """Share of the `count` lowest values that are among the `count` lowest of the truth."""
    lowest = [set(np.argsort(each, kind="stable")[:count].tolist()) for each in (values, truth)]
    return len(lowest[0] & lowest[1]) / count


def spearman(values: np.ndarray, truth: np.ndarray) -> float:
    """Correlation of the ranks."""
    ranks = [np.argsort(np.argsort(each, kind="stable")) for each in (values, truth)]
    return float(np.corrcoef(*ranks)[0, 1]) if np.ptp(values) else float("nan")


def _nothing(bgr: np.ndarray, _strength: float, _rng: np.random.Generator) -> np.ndarray:
    return bgr


def _darkness(bgr: np.ndarray, strength: float, _rng: np.random.Generator) -> np.ndarray:
    return cv2.convertScaleAbs(bgr, alpha=1 - 0.95 * strength)


def _noise(bgr: np.ndarray, strength: float, _rng: np.random.Generator) -> np.ndarray:
    grains = np.random.default_rng(int(bgr.sum())).normal(0, 50 * strength, bgr.shape)  # others in each frame
    return np.clip(bgr + grains, 0, 255).astype(np.uint8)


def _blur(bgr: np.ndarray, strength: float, _rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(bgr, (0, 0), 8 * strength)


def _fog(bgr: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    veil = np.full_like(bgr, rng.integers(40, 200))
    return cv2.addWeighted(bgr, 1 - 0.9 * strength, veil, 0.9 * strength, 0)


def _raindrops(bgr: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    for _ in range(1 + round(5 * strength)):
        bgr, _ = draw_raindrops(bgr, rng)
    return bgr


def _flare(bgr: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    for _ in range(1 + round(2 * strength)):
        bgr, _ = draw_flare(bgr, rng)
    return bgr


def _dirt(bgr: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A soft brown cover that grows from one side."""
    width = bgr.shape[1]
    cover = np.clip((strength * 0.9 * width - np.arange(width)) / (0.05 * width), 0, 1)
    cover = (cover if rng.random() < 0.5 else cover[::-1])[None, :, None]
    return (bgr * (1 - cover) + np.array([12, 18, 24]) * cover).astype(np.uint8)


def _low_sun(bgr: np.ndarray, strength: float, _rng: np.random.Generator) -> np.ndarray:
    return cv2.convertScaleAbs(bgr, alpha=1 + 9 * strength)


CHANGES: dict[str, Change] = {
    "nothing": _nothing,
    "darkness": _darkness,
    "noise": _noise,
    "blur": _blur,
    "fog": _fog,
    "raindrops": _raindrops,
    "flare": _flare,
    "dirt": _dirt,
    "low_sun": _low_sun,
}


if __name__ == "__main__":
    sys.exit(main())
