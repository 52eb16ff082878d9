from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.errors import InputError
from training.adaptation.teacher import load_teacher
from training.losses import LossConfig, distillation_loss, segmentation_loss
from training.networks.slim_fpn import SlimFpn
from training.optimiser import set_learning_rate
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.runs.config import load_config
from training.segmenter_config import SegmenterConfig
from training.train_segmenter import main, train

CONFIG = Path("training/configs/segmenter_slim.yaml")
REPOSITORY = Path(__file__).parents[2]


def run_training(overrides: list[str]) -> None:
    train(load_config(SegmenterConfig, REPOSITORY / CONFIG, overrides))


def test_a_run_killed_in_the_middle_and_started_again_ends_like_an_uninterrupted_one(
    small_run: list[str], tmp_path: Path
) -> None:
    run_training([*small_run, f"output={tmp_path / 'whole'}"])

    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "training.train_segmenter", "--config", str(CONFIG), *small_run]
    process = subprocess.Popen([*command, f"output={killed}", "steps=4"], cwd=REPOSITORY, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    last = killed / "checkpoints" / "last.pt"
    while process.poll() is None and time.monotonic() < deadline:
        if last.is_file() and load_checkpoint(last)["step"] >= 2:
            process.kill()
        time.sleep(0.005)
    process.communicate()
    stopped_at = load_checkpoint(last)["step"]
    if process.returncode == 0 or stopped_at == 4:
        pytest.skip("the run ended before it could be killed on this machine")
    run_training([*small_run, f"output={killed}"])

    whole, resumed = (load_checkpoint(run / "checkpoints" / "last.pt") for run in (tmp_path / "whole", killed))
    assert resumed["step"] == whole["step"] == 4
    for part in ("student", "teacher"):
        for name, value in whole[part].items():
            torch.testing.assert_close(resumed[part][name], value, rtol=0, atol=0, msg=f"{part} {name}")


def test_a_run_writes_metrics_of_both_validation_sets(small_run: list[str], tmp_path: Path) -> None:
    run_training([*small_run, "steps=1"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(metrics) == {"day", "night"}
    assert metrics["day"]["images"] == 2
    for values in metrics.values():
        for figure in ("miou", "miou_present", "pixel_accuracy", "class_accuracy", "fwiou"):
            low, high = values["ci95"][figure]
            assert 0 <= low <= high <= 1
            assert 0 <= values[figure] <= 1
        assert list(values["iou"]) == list(CITYSCAPES.names)
        assert "counts in no mean" in values["absent_classes"]


def test_a_rectangular_network_is_trained_and_judged_at_its_size(
    small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = set()
    forward = SlimFpn.forward

    def noting_forward(network: SlimFpn, images: torch.Tensor) -> torch.Tensor:
        sizes.add((network.training, *images.shape[-2:]))
        return forward(network, images)

    monkeypatch.setattr(SlimFpn, "forward", noting_forward)
    shape = ["network.width_over_height=1.5", "augmentation.width_over_height=1.5", "augmentation.crop_px=32"]
    run_training([*small_run, "steps=2", *shape])
    assert sizes == {(True, 32, 64), (False, 64, 96)}  # 1.5 · 32 = 48, half way to 32, goes to 64
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["day"]["images"] == 2


def test_the_network_can_learn_one_batch_by_heart() -> None:
    torch.manual_seed(0)
    network = SlimFpn(channels=16).train()
    images, labels = torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.int64)
    images[:, :, :32] += 2.0  # the upper half is brighter, and sky
    labels[:, :32] = 10
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        summed = segmentation_loss(
            network(images), labels, config=LossConfig(), class_weights=torch.ones(len(CITYSCAPES))
        )
        loss = summed.total / summed.weight
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_learning_rate_rises_linearly_and_ends_at_its_final_factor() -> None:
    config = load_config(
        SegmenterConfig, REPOSITORY / CONFIG, ["steps=100", "optimiser.warmup_steps=10", "optimiser.final_factor=0.1"]
    )
    optimiser = torch.optim.SGD([{"params": [torch.zeros(1)], "peak_lr": 2.0}], lr=1.0)
    set_learning_rate(optimiser, config, 0)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.2)  # 2 · 1/10
    set_learning_rate(optimiser, config, 50)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(2 * 0.55)  # half-way between 0.1 and 1
    set_learning_rate(optimiser, config, 100)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.2)


def test_a_checkpoint_of_other_settings_is_refused_and_named(small_run: list[str]) -> None:
    run_training([*small_run, "steps=1"])
    with pytest.raises(InputError, match=r"other settings of .*optimiser.*another output"):
        run_training([*small_run, "steps=1", "optimiser.encoder_lr=1"])


def test_moved_data_go_on_and_other_data_are_refused(
    small_run: list[str], generated_data: Path, tmp_path: Path
) -> None:
    run_training([*small_run, "steps=1", "network.start_checkpoint=null"])
    moved = tmp_path / "moved"
    shutil.copytree(generated_data, moved)
    elsewhere = [
        *(setting.replace(str(generated_data), str(moved)) for setting in small_run),
        f"data.validation.night={moved / 'validation'}",  # other figures, not another training
    ]
    state_before = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    run_training([*elsewhere, "steps=1"])  # steps are kept: only the paths differ
    (moved / "night" / "0.png").write_bytes((moved / "night" / "0.png").read_bytes() + b" ")
    with pytest.raises(InputError, match=r"the content of data\.night"):
        run_training([*elsewhere, "steps=1"])
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["step"] == state_before["step"] == 1


def test_a_run_from_before_rectangles_goes_on_as_a_square(small_run: list[str], tmp_path: Path) -> None:
    run_training([*small_run, "steps=1"])
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    state = load_checkpoint(last)
    for part in ("network", "augmentation"):
        del state["config"][part]["width_over_height"]
    save_checkpoint(last, state)
    wide = ["network.width_over_height=2", "augmentation.width_over_height=2"]
    with pytest.raises(InputError, match=r"other settings of augmentation\.width_over_height, network\.width_over"):
        run_training([*small_run, "steps=1", *wide])
    run_training([*small_run, "steps=1"])


def test_a_setting_that_a_checkpoint_does_not_know_counts_as_its_default(small_run: list[str], tmp_path: Path) -> None:
    run_training([*small_run, "steps=1"])
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    state = load_checkpoint(last)
    del state["config"]["self_training"]["pooled"]
    save_checkpoint(last, state)
    run_training([*small_run, "steps=1"])
    with pytest.raises(InputError, match=r"other settings of self_training\.pooled"):
        run_training([*small_run, "steps=1", "self_training.pooled=true"])


def test_pooled_losses_weigh_pixels_alike(small_run: list[str], tmp_path: Path) -> None:
    run_training([*small_run, "steps=1", "self_training.pooled=true"])
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")["config"]["self_training"]["pooled"]


def test_a_run_needs_no_night_validation(small_run: list[str], generated_data: Path, tmp_path: Path) -> None:
    run_training(
        [
            *small_run,
            "steps=1",
            "data.validation.night=null",
            f"data.validation.dusk={generated_data / 'night_validation'}",
        ]
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics) == ["day", "dusk"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.kind=hinge"], "loss.kind is hinge"),
        (["data.night=nowhere"], "nowhere is not a folder"),
        (["network.name=unet5"], "network.name is unet5"),
        (["steps=many"], "steps"),
    ],
)
def test_a_wrong_config_is_told_without_loading_torch(overrides: list[str], message: str, small_run: list[str]) -> None:
    arguments = ["--config", str(REPOSITORY / CONFIG), *small_run, *overrides]
    code = (
        "import sys\nfrom training.train_segmenter import main\n"
        f"try:\n    main({arguments!r})\nfinally:\n    print('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stdout.strip() == "False"


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    small_run: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"loss is (nan|inf) at step [0-3]; the last good state"):
        run_training([*small_run, "optimiser.decoder_lr=1e30", "optimiser.encoder_lr=1e30", "optimiser.warmup_steps=0"])
    state = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert state["step"] >= 1


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "training" / "configs").glob("segmenter_*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_config_is_complete_and_says_what_it_cost(path: Path) -> None:
    assert load_config(SegmenterConfig, path, []).steps > 0
    assert "# Cost and result:" in path.read_text(encoding="utf-8")


def test_an_unknown_key_is_an_error_that_names_it() -> None:
    with pytest.raises(InputError, match="batchsize"):
        load_config(SegmenterConfig, REPOSITORY / CONFIG, ["batchsize=3"])


@pytest.mark.parametrize("text", ["steps: [", "steps: \xff"])
def test_a_config_that_is_no_yaml_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "torn.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"torn\.yaml"):
        load_config(SegmenterConfig, tmp_path / "torn.yaml", [])
    with pytest.raises(InputError, match=r"data\.source=\["):
        load_config(SegmenterConfig, REPOSITORY / CONFIG, ["data.source=["])


def test_every_source_folder_is_drawn_from(small_run: list[str], generated_data: Path, tmp_path: Path) -> None:
    """Seven images in two folders, eight drawn: the unreadable one of the second folder must come up."""
    source, second = generated_data / "source", tmp_path / "translated"
    for part in ("image", "label"):
        (second / part).mkdir(parents=True)
        shutil.copy(source / part / "0.png", second / part)
    (second / "image" / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"translated/image/0\.png"):
        run_training([*small_run, "steps=2", "rare_class_share=0", f"data.source=[{source},{second}]"])
    for folders, named in (([source, source], "each once"), ([], "one folder or more")):
        with pytest.raises(InputError, match=named):
            run_training([*small_run, f"data.source=[{','.join(map(str, folders))}]"])


def test_a_checkpoint_of_another_stage_is_no_start(small_run: list[str], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "unit.pt", {"step": 1, "unit": {}})
    with pytest.raises(InputError, match=r"unit\.pt holds no segmenter"):
        run_training([*small_run, f"network.start_checkpoint={tmp_path / 'unit.pt'}"])


def damaged(generated_data: Path, folder: Path) -> Path:
    """A copy of the labelled day images."""
    shutil.copytree(generated_data / "source", folder)
    return folder


def test_bad_images_and_label_maps_are_named(small_run: list[str], generated_data: Path, tmp_path: Path) -> None:
    unreadable = damaged(generated_data, tmp_path / "unreadable")
    for path in (unreadable / "image").iterdir():
        path.write_bytes(b"no picture")
    of_other_size = damaged(generated_data, tmp_path / "of_other_size")
    for path in (of_other_size / "label").iterdir():
        cv2.imwrite(str(path), np.zeros((32, 64), np.uint8))
    of_no_class = damaged(generated_data, tmp_path / "of_no_class")
    cv2.imwrite(str(of_no_class / "label" / "3.png"), np.full((64, 64), 33, np.uint8))
    without_partner = damaged(generated_data, tmp_path / "without_partner")
    (without_partner / "label" / "3.png").unlink()
    empty = damaged(generated_data, tmp_path / "empty")
    shutil.rmtree(empty / "image")
    (empty / "image").mkdir()
    for folder, named in (
        (unreadable, r"unreadable/image/\d\.png"),
        (of_other_size, r"of_other_size/label/\d\.png is 64×32, its image 64×64"),
        (of_no_class, r"of_no_class/label/3\.png holds the value 33"),
        (without_partner, r"without_partner/image/3\.png has no label map"),
        (empty, "empty/image"),
    ):
        with pytest.raises(InputError, match=named):
            run_training([*small_run, f"data.source=[{folder}]", f"output={tmp_path / 'run'}"])


def test_an_error_in_a_loader_process_is_one_line(small_run: list[str], generated_data: Path, tmp_path: Path) -> None:
    folder = damaged(generated_data, tmp_path / "unreadable")
    for path in (folder / "image").iterdir():
        path.write_bytes(b"no picture")
    config = str(REPOSITORY / CONFIG)
    with pytest.raises(SystemExit, match=r"^train_segmenter: [^\n]*unreadable/image/\d\.png[^\n]*$"):
        main(["--config", config, *small_run, f"data.source=[{folder}]", "loader_workers=1"])


def test_more_pseudo_labelled_than_labelled_images_cannot_be_mixed(small_run: list[str]) -> None:
    with pytest.raises(InputError, match=r"batch_size 2 .*mix_share=0"):
        run_training([*small_run, "batch_size=2", "self_training.batch_size=4"])


def test_distillation_brings_the_network_nearer_to_the_other_one(small_run: list[str], tmp_path: Path) -> None:
    run_training([*small_run, f"output={tmp_path / 'other'}", "network.options.channels=16", "steps=1", "seed=1"])
    checkpoint = tmp_path / "other" / "checkpoints" / "last.pt"
    state = load_checkpoint(checkpoint)
    state["teacher"]["head.2.bias"][CITYSCAPES.names.index("train")] = 10.0  # what no label says
    save_checkpoint(checkpoint, state)
    other, _ = load_teacher(checkpoint)
    images = torch.randn(4, 3, 64, 64)

    def distance(*overrides: str) -> float:
        run = tmp_path / f"with_{len(overrides)}"
        run_training([*small_run, f"output={run}", "optimiser.warmup_steps=0", "optimiser.decoder_lr=0.05", *overrides])
        own, _ = load_teacher(run / "checkpoints" / "last.pt")
        with torch.no_grad():
            loss = distillation_loss(own(images), other(images))
        return (loss.total / loss.weight).item()

    assert distance(f"distillation.checkpoint={checkpoint}", "distillation.weight=20") < 0.7 * distance()


def test_distillation_without_night_images_is_refused(small_run: list[str]) -> None:
    with pytest.raises(InputError, match=r"distillation\.checkpoint .*self_training\.batch_size"):
        run_training([*small_run, "self_training.batch_size=0", "distillation.checkpoint=any.pt"])


def test_a_result_that_cannot_be_written_is_named(small_run: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"config\.yaml cannot be written"):
        run_training([*small_run, f"output={tmp_path / 'file' / 'run'}"])


def test_a_missing_image_folder_is_named(small_run: list[str]) -> None:
    with pytest.raises(InputError, match=r"nowhere.*DARKSEG_DATA"):
        run_training([*small_run, "data.night=nowhere"])


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1, "weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="no whole checkpoint"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_network_is_named_with_its_cure(small_run: list[str], tmp_path: Path) -> None:
    run_training([*small_run, "steps=1"])
    start = tmp_path / "run" / "checkpoints" / "last.pt"
    with pytest.raises(InputError, match=r"last\.pt holds another network, encoder or options"):
        run_training(
            [
                *small_run,
                f"output={tmp_path / 'other'}",
                "network.options.channels=16",
                f"network.start_checkpoint={start}",
            ]
        )


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 1})
    with pytest.raises(InputError, match="cannot be written"):
        save_checkpoint(path, {"step": 2, "weights": FullDisk()})
    assert load_checkpoint(path)["step"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


class FullDisk:
    """Fails while it is written."""

    def __reduce__(self) -> str:
        raise OSError(28, "No space left on device")
