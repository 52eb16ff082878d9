from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage
from darkseg_ros.frames.source import image_files
from darkseg_ros.model.exposure import Exposure
from darkseg_ros.night.cheap_night import CheapNight
from training.data import cache as cache_module
from training.data.augmentation import Augmentation
from training.data.cache import CacheConfig, ImageStore, Undecoded, open_cache
from training.data.draws import draw_evenly
from training.data.pairs import find_labelled_pool
from training.data.random_streams import Stream
from training.data.samples import LabelledSamples


@pytest.fixture
def pairs(generated_data: Path) -> list[LabelledImage]:
    return find_labelled_pool([generated_data / "source"])


@pytest.fixture
def night(generated_data: Path) -> list[Path]:
    return image_files(generated_data / "night")


def samples_from(store: ImageStore, pairs: list[LabelledImage], night: list[Path]) -> LabelledSamples:
    return LabelledSamples(
        pairs,
        night,
        draw=draw_evenly(len(pairs), seed=3, order=Stream.LABELLED_ORDER),
        augmentation=Augmentation(view_px=48, crop_px=32),
        cheap_night=CheapNight(share=0.5),
        seed=3,
        exposure=Exposure(target_mean=120, gamma_min=0.5),  # changes images in place
        store=store,
    )


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_samples_from_a_cache_are_the_same_bit_for_bit_in_every_epoch(
    kind: str, pairs: list[LabelledImage], night: list[Path], tmp_path: Path
) -> None:
    config = CacheConfig(kind, str(tmp_path) if kind == "disk" else None)
    cached = samples_from(open_cache(config, pairs, night), pairs, night)
    plain = samples_from(Undecoded(), pairs, night)
    for position in range(3 * len(pairs)):
        assert all(torch.equal(cached[position][part], plain[position][part]) for part in ("images", "labels"))


def test_a_cache_on_disk_is_read_by_the_next_run_without_decoding(
    pairs: list[LabelledImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CacheConfig("disk", str(tmp_path))
    expected = open_cache(config, pairs).labelled(pairs[0])
    monkeypatch.setattr(cache_module, "read_labelled", None)
    found = open_cache(config, pairs).labelled(pairs[0])
    assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))


def test_a_changed_image_is_decoded_anew(tmp_path: Path) -> None:
    config = CacheConfig("disk", str(tmp_path / "cache"))
    image = tmp_path / "image.png"
    for level in (10, 200):
        cv2.imwrite(str(image), np.full((8, 8, 3), level, np.uint8))
        assert open_cache(config, [], [image]).image(image).mean() == level


def test_a_cache_that_was_not_finished_is_written_anew(
    pairs: list[LabelledImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CacheConfig("disk", str(tmp_path))

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "write_whole", killed)
        with pytest.raises(KeyboardInterrupt):
            open_cache(config, pairs)
    assert open_cache(config, pairs).labelled(pairs[0])[0].shape == (64, 64, 3)


def test_images_that_memory_or_disk_cannot_hold_are_refused_before_they_fill_it(
    pairs: list[LabelledImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_free_memory", lambda: 1000)
    with pytest.raises(
        InputError, match=r"6 decoded images take about 0\.0 GB, .* memory; choose data.cache.kind=disk"
    ):
        open_cache(CacheConfig("memory"), pairs)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CacheConfig("ram"), "kind is ram; expected none, memory or disk"),
        (CacheConfig("disk"), "folder not set"),
        (CacheConfig("memory", "somewhere"), "the other kinds take none"),
    ],
)
def test_unusable_settings_are_refused(config: CacheConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_cache(config, [])
