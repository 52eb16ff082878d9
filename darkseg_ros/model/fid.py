"""Fréchet Inception distance (FID) between sets of images, and of single images to a set."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files, read_image
from darkseg_ros.model.image_features import extractor_input, features_of, load_onnx_extractor

_ROWS = 1024


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


def distances_to_reference(features: np.ndarray, reference: FeatureStatistics) -> np.ndarray:
    """Fréchet distance of every image by itself to a set of images.

    One image has the covariance 0, which leaves FID(x) = ‖f_x − μ‖² + Tr Σ of equation 4.2: Tr Σ is the same for all
    images, so the order is that of the distance from the mean.

    Args:
        features: (N, D) of `darkseg_ros.model.image_features`.
        reference: features of the target domain.

    Returns:
        (N,) float64.

    Source: section 4.2.2.3 and equation 4.2 of the thesis, FID-based method.
    """
    trace = float(np.trace(reference.covariance))
    # row by row: a float64 copy of all features would double the memory
    shifts = (row.astype(np.float64) - reference.mean for row in features)
    return np.array([shift @ shift + trace for shift in shifts])


class ReferenceDistance:
    """Fréchet distance of single images to a folder of images; goes to other processes as it is.

    All images of the folder are looked at now. Equal distances have equal texts, wherever the files lie.

    Args:
        folder: of images; two at least.
        extractor: ONNX file of the network whose features count.

    Raises:
        InputError: if an image or the extractor cannot be used, or there are fewer than two images.
    """

    def __init__(self, folder: Path, *, extractor: Path) -> None:
        reference = FeatureStatistics()
        self._extractor = extractor.absolute()
        for path in tqdm(image_files(folder), desc="reference", unit="image", disable=None):
            reference.add(self._features(read_image(path), name=str(path)))
        if reference.count < 2:
            raise InputError(f"the reference {folder} has one image; expected two or more")
        self._mean = reference.mean
        self._trace = float(np.trace(reference.covariance))
        statistics = hashlib.sha256(self._mean.tobytes() + np.float64(self._trace).tobytes()).hexdigest()
        self._text = f"features of {_extractor_of(self._extractor).sha256} around {statistics}"

    def __call__(self, bgr: np.ndarray) -> float:
        """Of one (H, W, 3) uint8 BGR image; see `distances_to_reference`.

        Raises:
            InputError: if the extractor fails.
        """
        (features,) = self._features(bgr, name="a frame")
        shift = features.astype(np.float64) - self._mean
        return float(shift @ shift) + self._trace

    def __str__(self) -> str:
        return self._text

    def _features(self, bgr: np.ndarray, *, name: str) -> np.ndarray:
        extractor = _extractor_of(self._extractor)
        return features_of([extractor_input(bgr, extractor.input_px)], extractor, names=[name])


_extractor_of = lru_cache(maxsize=1)(load_onnx_extractor)


def choose_by_distance(distances: np.ndarray, *, threshold: float | None, count: int | None) -> np.ndarray:
    """Images nearest to a reference, the nearest first.

    Args:
        distances: (N,) of `distances_to_reference`, sorted by name.
        threshold: largest distance chosen; None sets no limit.
        count: how many at most; None takes all.

    Returns:
        Indices; equally near ones in the order of their names.

    Raises:
        InputError: if none is near enough.
    """
    order = np.argsort(distances, kind="stable")
    chosen = order if threshold is None else order[distances[order] <= threshold]
    if not len(chosen):
        raise InputError(
            f"no candidate has a distance of at most {threshold:g}: distances are {distances.min():.1f}…"
            f"{distances.max():.1f}, half of them below {np.median(distances):.1f}; raise --threshold, or use --count"
        )
    return chosen[:count]
