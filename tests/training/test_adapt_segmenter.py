from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from darkseg_ros.classes import IGNORE_INDEX
from darkseg_ros.errors import InputError
from darkseg_ros.frames.source import image_files
from tests.bundles import CAMVID
from training import adapt_segmenter as stage
from training.adaptation.night_samples import NightSamples, draw_view
from training.adaptation.second_opinion import Box, write_boxes
from training.adaptation.settings import AdaptationConfig, StrongAugmentation
from training.adaptation.teacher import load_teacher
from training.adjust_shares import adjust_shares
from training.answer_images import answer_images
from training.data.augmentation import Augmentation
from training.data.pairs import find_labelled_images
from training.data.shards import write_shards
from training.runs import loop
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.runs.config import load_config

CONFIG = Path(__file__).parents[2] / "training/configs/adapt_slim.yaml"


@pytest.fixture(scope="module")
def night_run(small_settings: list[str]) -> list[str]:
    dropped = ("data.pseudo_labels", "self_training", "network.encoder_weights", "network.options")
    return [
        *(setting for setting in small_settings if not setting.startswith(dropped)),
        "network.start_checkpoint=null",
        "network.encoder=mobilenet_v2",
        "network.options.channels=8",
        "network.options.finest_stride=4",
        "network.options.finest_channels=null",
        "data.boxes=null",
        "precision=32-true",
        "night.batch_size=2",
        "evaluate_every=100",
    ]


@pytest.mark.parametrize("path", sorted(CONFIG.parent.glob("adapt_*.yaml")), ids=lambda path: path.stem)
def test_every_config_is_complete_and_says_what_it_cost(path: Path) -> None:
    assert load_config(AdaptationConfig, path, []).steps > 0
    assert "# Cost and result:" in path.read_text(encoding="utf-8")


def adapt(overrides: list[str]) -> dict[str, Any]:
    config = load_config(AdaptationConfig, CONFIG, overrides)
    stage.adapt(config)
    return load_checkpoint(Path(config.output) / "checkpoints" / "last.pt")


def assert_same_networks(one: dict[str, Any], other: dict[str, Any]) -> None:
    for part in ("student", "teacher"):
        for name, value in one[part].items():
            torch.testing.assert_close(other[part][name], value, rtol=0, atol=0, msg=f"{part} {name}")


def test_a_wrong_config_is_told_without_loading_torch() -> None:
    arguments = ["--config", str(CONFIG), "loss.kind=hinge"]
    code = (
        "import sys\nfrom training.adapt_segmenter import main\n"
        f"try:\n    main({arguments!r})\nfinally:\n    print('torch' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=CONFIG.parents[2], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout.strip()) == (1, "False")
    assert ended.stderr == "adapt_segmenter: loss.kind is hinge; expected cross_entropy, focal or combined\n"


def test_a_run_that_is_stopped_and_started_again_ends_like_an_uninterrupted_one(
    night_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = ["night.masked_share=0.5", "anchor_weight=0.01", "object_warp_share=0.5", "night.by_image=true"]
    run = [*night_run, *everything]
    whole = adapt([*run, f"output={tmp_path / 'whole'}"])

    save = loop.save_checkpoint

    def save_and_stop(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        if state["step"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            adapt([*run, f"output={tmp_path / 'stopped'}"])
    resumed = adapt([*run, f"output={tmp_path / 'stopped'}"])
    assert resumed["step"] == whole["step"] == 4
    assert_same_networks(whole, resumed)
    metrics = json.loads((tmp_path / "stopped" / "metrics.json").read_text())
    assert set(metrics) == {"day", "night"}


ONE_STEP = ["steps=1", "night.mix_share=1", "optimiser.warmup_steps=0"]


@pytest.fixture(scope="module")
def plain_student(night_run: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    student: dict[str, torch.Tensor] = adapt(
        [*night_run, *ONE_STEP, f"output={tmp_path_factory.mktemp('plain') / 'run'}"]
    )["student"]
    return student


@pytest.mark.parametrize(
    "setting",
    [
        "night.weight=0.5",
        "night.pixel_min=0.9",
        "night.mix_share=0",
        "night.masked_share=1",
        "night.share_adjustment=0.5",
        "object_warp_share=1",
        "rare_class_share=0",
        "cheap_night.share=0",
        "strong.jitter=0",
        "network.exposure_mean=200",
        "data.boxes=boxes.json",
        "data.answers=answers.npy",
    ],
)
def test_each_part_of_the_recipe_changes_the_student_when_it_is_set_alone(
    setting: str,
    night_run: list[str],
    plain_student: dict[str, torch.Tensor],
    generated_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    stems = [path.stem for path in image_files(generated_data / "night")]
    write_boxes(Path("boxes.json"), {stem: [Box((0.1, 0.1, 0.9, 0.8), 13, 0.9)] for stem in stems})
    np.save("answers.npy", np.full((len(stems), 19, 16, 16), 13, np.uint8))
    changed = adapt([*night_run, *ONE_STEP, setting, "output=changed"])["student"]
    assert any(not torch.equal(value, changed[name]) for name, value in plain_student.items())


def test_shards_teach_the_same_as_their_folder_and_groups_of_them_split_each_batch(
    plain_student: dict[str, torch.Tensor], night_run: list[str], generated_data: Path, tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    write_shards(find_labelled_images(generated_data / "source"), shards, data_set="plain", shard_bytes=1)
    sharded = [*night_run, *ONE_STEP, f"data.source=[{{folder: {shards}, data_set: shards}}]"]
    student = adapt([*sharded, f"output={tmp_path / 'run'}"])["student"]
    assert all(torch.equal(value, student[name]) for name, value in plain_student.items())
    with pytest.raises(InputError, match=r"does not split over 3 groups"):
        adapt([*sharded, "data.shard_groups=3", f"output={tmp_path / 'groups'}"])


def test_a_run_leaves_a_network_that_loads(night_run: list[str], tmp_path: Path) -> None:
    state = adapt([*night_run, f"output={tmp_path / 'run'}", "steps=2"])
    assert state["step"] == 2
    network, _ = load_teacher(tmp_path / "run" / "checkpoints" / "last.pt")
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 19, 16, 16)


def night_samples(folder: Path, **changes: Any) -> NightSamples:
    settings: dict[str, Any] = {
        "augmentation": Augmentation(view_px=64, crop_px=64),
        "strong": StrongAugmentation(),
        "exposure": None,
        "boxes": {},
        "score_min": 0.4,
        "answers": None,
        "seed": 3,
    }
    return NightSamples(image_files(folder), **(settings | changes))


def test_night_samples_are_a_function_of_their_position(generated_data: Path) -> None:
    one, other = (night_samples(generated_data / "night") for _ in range(2))
    for position in (5, 0):
        for name, value in one[position].items():
            assert torch.equal(value, other[position][name])
    assert not torch.equal(one[0]["strong"], one[0]["calm"])
    assert (one[0]["opinion"] == IGNORE_INDEX).all()


def test_both_views_and_the_answers_show_the_same_pixels(generated_data: Path, tmp_path: Path) -> None:
    images = image_files(generated_data / "night")
    left = np.zeros((len(images), 19, 16, 16), np.uint8)
    left[:, 3, :, :8], left[:, 4, :, 8:] = 255, 255
    np.save(tmp_path / "answers.npy", left)
    boxes = {path.stem: [Box((0.0, 0.0, 0.5, 1.0), 13, 0.9)] for path in images}
    calm = StrongAugmentation(jitter=0, blur_share=0, noise_max=0)
    samples = night_samples(generated_data / "night", boxes=boxes, answers=tmp_path / "answers.npy", strong=calm)
    for position in range(6):
        item = samples[position]
        assert (item["calm"] - item["strong"]).abs().mean() < 0.05
        in_box, on_left = item["opinion"] == 13, item["answers"][3] > 0.5
        assert (on_left | ~in_box).all()


def test_a_view_lies_inside_its_image() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        view = draw_view(Augmentation(view_px=64, crop_px=48, scale_min=0.5, scale_max=2), rng)
        assert view.cut(np.zeros((31, 77, 3), np.uint8), stride=1).shape == (48, 48, 3)
        assert view.cut(np.zeros((16, 16), np.uint8), stride=4).shape == (12, 12)


def test_an_adaptation_goes_by_the_shape_of_its_network(
    night_run: list[str], generated_data: Path, tmp_path: Path
) -> None:
    shape = ["network.width_over_height=1.5", "augmentation.width_over_height=1.5"]
    images = image_files(generated_data / "night")
    adapt([*night_run, f"output={tmp_path / 'teacher'}", "steps=1", *shape])
    teacher = tmp_path / "teacher" / "checkpoints" / "last.pt"
    answer_images([teacher], images, out=tmp_path / "answers.npy", scales=[1.0, 0.5], accelerator="cpu")
    assert np.load(tmp_path / "answers.npy").shape == (len(images), 19, 16, 24)
    write_boxes(tmp_path / "boxes.json", {path.stem: [Box((0.0, 0.0, 0.5, 1.0), 13, 0.9)] for path in images})
    parts = ["night.masked_share=1", "object_warp_share=1", "night.mix_share=1"]
    inputs = [f"data.answers={tmp_path / 'answers.npy'}", f"data.boxes={tmp_path / 'boxes.json'}"]
    assert adapt([*night_run, f"output={tmp_path / 'run'}", "steps=2", *shape, *parts, *inputs])["step"] == 2
    state = load_checkpoint(teacher)
    state["config"]["network"]["width_over_height"] = 1.0
    save_checkpoint(tmp_path / "square.pt", state)
    both, square = [tmp_path / "square.pt", teacher], [tmp_path / "square.pt"]
    for name, teachers in (("both", both), ("square", square), ("wide", [teacher])):
        answer_images(teachers, images, out=tmp_path / f"{name}.npy", scales=[1], accelerator="cpu")
    of_both, of_square, of_wide = (
        np.load(tmp_path / f"{name}.npy").astype(np.float32) for name in ("both", "square", "wide")
    )
    assert of_square.shape == (len(images), 19, 16, 16)
    wider = functional.interpolate(torch.from_numpy(of_square), size=(16, 24), mode="bilinear").numpy()
    assert np.abs((wider + of_wide) / 2 - of_both).max() <= 1.5


def test_the_answers_of_two_teachers_are_their_mean(night_run: list[str], generated_data: Path, tmp_path: Path) -> None:
    images = image_files(generated_data / "night")[:2]
    checkpoints = []
    for seed in (1, 2):
        adapt([*night_run, f"output={tmp_path / str(seed)}", "steps=1", f"seed={seed}"])
        checkpoints.append(tmp_path / str(seed) / "checkpoints" / "last.pt")
    answers = []
    for name, teachers in (("a", checkpoints[:1]), ("b", checkpoints[1:]), ("both", checkpoints)):
        answer_images(teachers, images, out=tmp_path / f"{name}.npy", scales=[1.0], accelerator="cpu")
        answers.append(np.load(tmp_path / f"{name}.npy").astype(float))
    assert answers[0].shape == (2, 19, 16, 16)
    assert np.abs(answers[0].sum(1) - 255).max() <= 10
    assert np.abs((answers[0] + answers[1]) / 2 - answers[2]).max() <= 1
    answer_images(checkpoints, images, out=tmp_path / "bf16.npy", scales=[1.0], bf16=True, accelerator="cpu")
    rounded = np.abs(np.load(tmp_path / "bf16.npy").astype(float) - answers[2])
    assert 0 < rounded.max() <= 40
    assert rounded.mean() < 2


def test_adjusting_the_shares_changes_the_last_bias_and_the_exposure_alone(
    night_run: list[str], generated_data: Path, tmp_path: Path
) -> None:
    adapt([*night_run, f"output={tmp_path / 'run'}", "steps=1", "network.exposure_mean=null"])
    before, after = tmp_path / "run" / "checkpoints" / "last.pt", tmp_path / "adjusted.pt"
    adjust_shares(before, [generated_data / "source"], strength=0.3, exposure_mean=55, out=after)
    (old, _), (new, state) = load_teacher(before), load_teacher(after)
    changed = [name for name, value in old.state_dict().items() if not torch.equal(value, new.state_dict()[name])]
    assert changed == ["head.2.bias"]
    assert state["config"]["network"]["exposure_mean"] == 55
    with pytest.raises(InputError, match="strength"):
        adjust_shares(before, [generated_data / "source"], strength=2, exposure_mean=None, out=after)


def test_a_run_learns_the_classes_of_its_table(night_run: list[str], generated_data: Path, tmp_path: Path) -> None:
    stems = [path.stem for path in image_files(generated_data / "night")]
    write_boxes(tmp_path / "boxes.json", {stem: [Box((0.1, 0.1, 0.9, 0.8), 13, 0.9)] for stem in stems})
    mapping = json.dumps({train_id: CAMVID.names[train_id % 11] for train_id in range(19)} | {255: ""})
    of_run = [setting for setting in night_run if not setting.startswith(("data.source", "data.validation"))]
    everything = ["night.mix_share=1", "anchor_weight=0.01", "object_warp_share=1", "steps=1"]
    state = adapt(
        [
            *of_run,
            *everything,
            f"data.classes={json.dumps(CAMVID.to_json())}",
            f"data.source=[{{folder: {generated_data / 'source'}, mapping: {mapping}}}]",
            f"data.validation={{day: {{folder: {generated_data / 'validation'}, mapping: {mapping}}}, night: null}}",
            f"data.boxes={tmp_path / 'boxes.json'}",
            f"output={tmp_path / 'run'}",
        ]
    )
    assert state["teacher"]["head.2.weight"].shape[0] == len(CAMVID)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics["day"]["iou"]) == list(CAMVID.names)


def test_answers_of_other_classes_are_refused(night_run: list[str], generated_data: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "answers.npy", np.zeros((len(image_files(generated_data / "night")), 11, 16, 16), np.uint8))
    with pytest.raises(InputError, match=r"answers\.npy holds answers of shape .* expected 4 images and 19 classes"):
        adapt([*night_run, f"data.answers={tmp_path / 'answers.npy'}", f"output={tmp_path / 'run'}"])
