from __future__ import annotations

import pytest
from omegaconf import DictConfig, OmegaConf

from darkseg_ros.errors import InputError
from training.runs.config import in_todays_form
from training.segmenter_config import SegmenterConfig, refuse_unusable


def config_of(**settings: object) -> DictConfig:
    config = OmegaConf.merge(
        OmegaConf.structured(SegmenterConfig),
        OmegaConf.from_dotlist([f"{key}={value}" for key, value in settings.items()]),
    )
    assert isinstance(config, DictConfig)
    return config


def test_the_defaults_fit_each_other() -> None:
    refuse_unusable(config_of())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss.kind": "dice"}, "loss.kind is dice; expected cross_entropy, focal or combined"),
        ({"loss.focal_gamma": -1.0}, "loss.focal_gamma is -1.0"),
        ({"loss.combined_alpha": 2.0}, "loss.combined_alpha 2.0"),
        ({"network.input_px": 100}, r"network\.input_px is 100; expected a multiple of 32"),
        ({"augmentation.crop_px": 0}, r"augmentation\.crop_px is 0; expected a multiple of 32"),
        ({"network.width_over_height": 0}, r"network\.width_over_height is 0\.0; expected 0\.1…10"),
        ({"network.width_over_height": "nan"}, r"network\.width_over_height is nan; expected 0\.1…10"),
        (
            {"network.width_over_height": 2},
            r"network\.width_over_height is 2\.0 and augmentation\.width_over_height 1\.0: .*set both",
        ),
        ({"loss.stride": 0}, "loss.stride is 0; expected 1 or more"),
        ({"self_training.batch_size": 2}, "without data.pseudo_labels"),
        ({"self_training.batch_size": 9, "data.pseudo_labels": "x"}, "batch_size 8 labels fewer images"),
        ({"distillation.checkpoint": "x.pt"}, "without night images to answer"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        refuse_unusable(config_of(**settings))


def test_settings_of_earlier_runs_come_in_todays_form() -> None:
    earlier = {"steps": 5, "data": {"source": "day", "day_validation": "a", "night_validation": "b", "night": "n"}}
    today = {"source": ["day"], "night": "n", "validation": {"day": "a", "night": "b"}}
    assert in_todays_form(earlier) == {"steps": 5, "data": today}
    assert in_todays_form({"data": today}) == {"data": today}
