from __future__ import annotations

from pathlib import Path

import pytest

from darkseg_ros.errors import InputError
from training.networks.config import NETWORKS
from training.runs.config import load_config
from training.segmenter_config import SegmenterConfig, refuse_unusable
from training.study.settings import AS_IS, read_study, runs_of

STUDY = Path(__file__).parents[3] / "training" / "configs" / "study_mini.yaml"


def test_the_study_of_the_repository_has_every_network_and_usable_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(STUDY.parents[2])
    study = read_study(STUDY)
    runs = runs_of(study)
    assert {run.network for run in runs if run.group == AS_IS} == set(NETWORKS)
    assert len({run.folder for run in runs}) == len(runs)
    for run in runs:
        config = load_config(SegmenterConfig, Path(study.segmenter), list(run.settings))
        refuse_unusable(config)
        assert config.network.name == run.network


def test_a_change_is_the_network_as_it_stands_and_one_setting_more(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "{segmenter: s, output: o, figures: f, coarse: c, settings: [steps=2], networks: {unet: [a=1]}, "
        "sweeps: {networks: [unet], changes: {labels: {coarse: ['x={coarse}'], then fine: ['y={output}/{network}']}}}}"
    )
    as_it_stands, *changed = runs_of(read_study(tmp_path / "study.yaml"))
    assert as_it_stands.settings == ("network.name=unet", "steps=2", "a=1")
    assert [run.settings for run in changed] == [(*as_it_stands.settings, "x=c"), (*as_it_stands.settings, "y=o/unet")]
    assert changed[1].folder == Path("unet/labels/then_fine")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{network: [unet]}", "network"),
        ("{segmenter: s, output: o, figures: f, coarse: c, coarse_labels: [vit]}", "there is no network vit"),
    ],
)
def test_an_unusable_study_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        read_study(tmp_path / "study.yaml")
    with pytest.raises(InputError, match="there is no study"):
        read_study(tmp_path / "nowhere.yaml")
