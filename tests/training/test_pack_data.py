from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from darkseg_ros.errors import InputError
from training import adapt_segmenter as stage
from training import pack_data
from training.adaptation.settings import AdaptationConfig
from training.networks.build import build_network
from training.pack_data import main, pack
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.runs.config import load_config

CONFIG = Path(__file__).parents[2] / "training/configs/adapt_gpu.yaml"


@pytest.fixture
def settings(small_settings: list[str], tmp_path: Path) -> list[str]:
    """The recipe on generated images, from a checkpoint with an optimiser that nobody needs."""
    dropped = ("data.pseudo_labels", "self_training", "network.options", "loader_workers", "steps")
    overrides = [
        *(setting for setting in small_settings if not setting.startswith(dropped)),
        f"network.start_checkpoint={tmp_path / 'start.pt'}",
        f"data.boxes={tmp_path / 'boxes.json'}",
        "network.encoder=mobilenet_v2",
        "network.options.channels=8",
        "network.options.finest_stride=4",
        "network.options.finest_channels=null",
        "night.batch_size=2",
        "loader_workers=0",
        "precision=32-true",
        "steps=2",
    ]
    config = load_config(AdaptationConfig, CONFIG, [*overrides, "network.start_checkpoint=null"])
    (tmp_path / "boxes.json").write_text("{}")
    save_checkpoint(
        tmp_path / "start.pt",
        {
            "step": 7,
            "config": {"network": {"name": "slim_fpn"}},
            "teacher": build_network(config.network).state_dict(),
            "optimiser": {"unneeded": [0.0] * 1000},
        },
    )
    return overrides


def test_a_packed_run_trains_on_the_images_and_labels_of_the_run_that_was_packed(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(AdaptationConfig, CONFIG, settings)
    monkeypatch.chdir(tmp_path)
    main(["--config", str(CONFIG), "--out", "packed", *settings])
    packed = load_config(AdaptationConfig, Path("packed/config.yaml"), ["output=run"])
    assert packed.data.source == ["packed/source"]
    assert load_checkpoint(Path("packed/start.pt")).keys() == {"step", "config", "teacher"}

    before, after = (pack_data.find_labelled_pool(each.data.source) for each in (config, packed))
    assert len(before) == len(after) > 0
    for one, other in zip(before, after, strict=True):
        (bgr, label_map), (packed_bgr, packed_label_map) = pack_data.read_labelled(one), pack_data.read_labelled(other)
        np.testing.assert_array_equal(label_map, packed_label_map)
        assert np.abs(bgr.astype(int) - packed_bgr).mean() < 8
    night = [[path.stem for path in pack_data.find_images(Path(each.data.night))] for each in (config, packed)]
    assert night[0] == night[1]

    stage.adapt(packed)
    assert load_checkpoint(Path("run/checkpoints/last.pt"))["step"] == 2


def test_the_quality_falls_until_all_fits(settings: list[str], tmp_path: Path) -> None:
    config = load_config(AdaptationConfig, CONFIG, [*settings, "network.start_checkpoint=null"])
    best, most = pack(config, tmp_path / "best", limit_bytes=10**9)
    assert best == 95
    limit = most - 1000
    quality, size = pack(config, tmp_path / "smaller", limit_bytes=limit)
    assert quality < best
    assert size <= limit
    with pytest.raises(InputError, match=r"do not fit into 0 MB at quality 30; name fewer"):
        pack(config, tmp_path / "none", limit_bytes=1000)


def test_what_cannot_be_packed_is_refused_before_anything_is_written(settings: list[str], tmp_path: Path) -> None:
    config = load_config(AdaptationConfig, CONFIG, [*settings, "data.answers=answers.npy"])
    with pytest.raises(InputError, match=r"too many to pack; set data\.answers=null"):
        pack(config, tmp_path / "out", limit_bytes=10**9)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="exists; name a new folder"):
        pack(config, tmp_path, limit_bytes=10**9)


def test_long_images_are_made_shorter_and_their_labels_keep_their_values() -> None:
    label_map = np.kron(np.array([[0, 7], [13, 255]], np.uint8), np.ones((200, 512), np.uint8))
    shorter = pack_data._shortened(label_map, cv2.INTER_NEAREST_EXACT)
    assert shorter.shape == (200, 512)
    assert set(np.unique(shorter)) == {0, 7, 13, 255}
    assert pack_data._shortened(shorter, cv2.INTER_AREA) is shorter
