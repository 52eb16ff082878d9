"""Fréchet Inception distance (FID) between two folders of images.

python -m training.frechet_distance --images FOLDER --against FOLDER --extractor FILE --out metrics.json
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path

import numpy as np

from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files
from training.image_features import DEFAULT_CACHE, INCEPTION_INPUT_PX, FeatureExtractor, load_extractor, read_features
from training.runs.fabric import add_accelerator, one_line_errors, pick_device, write_result

_ROWS = 1024


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of images, such as translated ones")
    parser.add_argument("--against", type=Path, required=True, help="folder of images, such as real ones")
    parser.add_argument("--extractor", type=Path, required=True, help="TorchScript or ONNX file")
    parser.add_argument("--input-px", type=int, default=INCEPTION_INPUT_PX, help="its input size (299)")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help=f"folder of features ({DEFAULT_CACHE})")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the distance")
    add_accelerator(parser)
    parsed = parser.parse_args(arguments)
    with one_line_errors("frechet_distance"):
        device = pick_device(parsed.accelerator)
        extractor = load_extractor(parsed.extractor, input_px=parsed.input_px, device=device)
        write_distance(parsed.images, parsed.against, extractor=extractor, cache=parsed.cache, out=parsed.out)


def write_distance(images: Path, against: Path, *, extractor: FeatureExtractor, cache: Path, out: Path) -> None:
    """Write ``fid``, the counts and, where images are too few, a ``warning`` as JSON.

    Raises:
        InputError: as `read_features`, or if a folder holds fewer than two images.
    """
    statistics = []
    for folder in (images, against):
        gathered = FeatureStatistics()
        gathered.add(read_features(image_files(folder), folder=folder, extractor=extractor, cache=cache))
        if gathered.count < 2:
            raise InputError(f"{folder} holds one image; expected two or more, their spread is part of the distance")
        statistics.append(gathered)
    ours, theirs = statistics
    fid = frechet_distance(ours.mean, ours.covariance, theirs.mean, theirs.covariance)
    metrics: dict[str, float | int | str] = {
        "fid": round(fid, 4),
        "images": ours.count,
        "against": theirs.count,
        "features": len(ours.mean),
    }
    fewest = min(ours.count, theirs.count)
    if fewest <= len(ours.mean):
        metrics["warning"] = (
            f"{fewest} images for {len(ours.mean)} features: the covariance is singular and the distance too high; "
            "compare it only with distances from as many images"
        )
    write_result(out, json.dumps(metrics, indent=2) + "\n")
    print(f"FID {fid:.2f} between {ours.count} images in {images} and {theirs.count} in {against}")
    if "warning" in metrics:
        print(f"warning: {metrics['warning']}", file=sys.stderr)


class FeatureStatistics:
    """Mean and covariance of features that come in parts, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))

    def add(self, features: np.ndarray) -> None:
        """Count (N, D) features in; they are taken up in pieces, so no float64 copy of all is made.

        Source: Chan, Golub, LeVeque, The American Statistician 37 (1983), equation 2.1.
        """
        if self.count == 0:
            self._mean = np.zeros(features.shape[1])
            self._scatter = np.zeros((features.shape[1], features.shape[1]))
        for start in range(0, len(features), _ROWS):
            rows = features[start : start + _ROWS].astype(np.float64)
            mean = rows.mean(0)
            shift = mean - self._mean
            total = self.count + len(rows)
            rows -= mean
            self._scatter += rows.T @ rows + np.outer(shift, shift) * (self.count * len(rows) / total)
            self._mean += shift * (len(rows) / total)
            self.count = total

    @property
    def mean(self) -> np.ndarray:
        """(D,) float64.

        Raises:
            ValueError: before the first features.
        """
        if self.count == 0:
            raise ValueError("no features were added; expected one image at least")
        return self._mean

    @property
    def covariance(self) -> np.ndarray:
        """(D, D) float64, unbiased (divided by N - 1).

        Raises:
            ValueError: with fewer than two images.
        """
        if self.count < 2:
            raise ValueError(f"{self.count} images have no covariance; expected two at least")
        return self._scatter / (self.count - 1)


def frechet_distance(
    mean_x: np.ndarray, covariance_x: np.ndarray, mean_y: np.ndarray, covariance_y: np.ndarray
) -> float:
    """Fréchet distance (squared) between two normal distributions.

    FID(x, y) = ‖μx − μy‖² + Tr(Σx + Σy − 2 (Σx Σy)^½)

    Args:
        mean_x: (D,) μx.
        covariance_x: (D, D) Σx, symmetric and positive semidefinite; may be singular.
        mean_y: (D,) μy.
        covariance_y: (D, D) Σy.

    Returns:
        0 (same distribution) and up.

    Source: Heusel et al., NeurIPS 2017 (arXiv 1706.08500), equation 6; equation 4.2 of the thesis.
    Differs: Σx Σy has the eigenvalues of the symmetric Σx^½ Σy Σx^½, so their roots are real and need no matrix root of
        an unsymmetric product, which is unstable for singular covariances.
    """
    eigenvalues, vectors = np.linalg.eigh(covariance_x)
    root_x = (vectors * np.sqrt(_without_rounding(eigenvalues))) @ vectors.T
    product_eigenvalues = np.linalg.eigvalsh(root_x @ covariance_y @ root_x)
    trace_of_root = np.sqrt(_without_rounding(product_eigenvalues)).sum()
    shift = mean_x - mean_y
    distance = shift @ shift + np.trace(covariance_x) + np.trace(covariance_y) - 2 * trace_of_root
    return max(float(distance), 0.0)


def _without_rounding(eigenvalues: np.ndarray) -> np.ndarray:
    """Eigenvalues with those set to 0 that rounding alone made differ from it."""
    smallest = np.abs(eigenvalues).max() * len(eigenvalues) * np.finfo(np.float64).eps
    return np.where(eigenvalues > smallest, eigenvalues, 0.0)


if __name__ == "__main__":
    main()
