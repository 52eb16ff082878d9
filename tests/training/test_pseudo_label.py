from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from darkseg_ros.errors import InputError
from darkseg_ros.frames.bags import IMAGE_TOPIC, BagWriter
from darkseg_ros.frames.source import read_image
from training.adaptation.aligned_labels import (
    ALL_PIXELS,
    LabelChoice,
    aligned_answers,
    alignment_weights,
    answers,
    keep_surest,
    smooth_shares,
)
from training.adaptation.teacher import load_teacher
from training.data.image_lists import write_image_list
from training.data.network_input import network_input
from training.data.pairs import MADE_BY, find_images, find_pseudo_labelled_images
from training.networks.slim_fpn import SlimFpn
from training.pseudo_label import main, write_pseudo_labels
from training.runs.checkpoints import save_checkpoint


def test_alignment_gives_back_a_class_that_was_underrated_to_the_pixels_most_like_it() -> None:
    """Four images of one place: sky (10) never wins over building (2), but two of them lean towards it."""
    answers = np.zeros((4, 19, 1, 1), np.float32)
    answers[:, 10, 0, 0] = [0.05, 0.10, 0.30, 0.40]
    answers[:, 2, 0, 0] = 1 - answers[:, 10, 0, 0]
    wanted = torch.zeros(19, 1, 1)
    wanted[10], wanted[2] = 0.5, 0.5
    train_ids, confidence = aligned_answers(answers, alignment_weights(answers, wanted))
    assert train_ids.ravel().tolist() == [2, 2, 10, 10]
    assert confidence.min() >= 0.5


def test_answers_that_have_the_wanted_shares_stay_as_they_are() -> None:
    answers = np.zeros((2, 19, 2, 2), np.float32)
    answers[0, 3], answers[1, 5] = 1, 1
    wanted = torch.from_numpy(answers.mean(0))
    weights = alignment_weights(answers, wanted)
    torch.testing.assert_close(weights, torch.ones_like(weights))


def test_smoothed_shares_are_mirror_images_and_still_sum_to_one() -> None:
    shares = torch.softmax(torch.randn(19, 20, 30), 0)
    smooth = smooth_shares(shares)
    torch.testing.assert_close(smooth, smooth.flip(-1))
    torch.testing.assert_close(smooth.sum(0), torch.ones(20, 30))


def test_the_surest_part_of_every_class_is_kept() -> None:
    train_ids = np.array([[[0, 0, 0, 0, 7, 7]]], np.uint8)
    confidence = np.array([[[0.9, 0.8, 0.7, 0.6, 0.5, 0.3]]], np.float32)
    labels = keep_surest(train_ids, confidence, portion=0.5, confidence_min=0.4)
    assert labels.tolist() == [[[0, 0, 255, 255, 7, 255]]]


def test_no_label_is_less_sure_than_the_minimum() -> None:
    labels = keep_surest(np.zeros((1, 1, 2), np.uint8), np.array([[[0.3, 0.2]]]), portion=1.0, confidence_min=0.4)
    assert labels.tolist() == [[[255, 255]]]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = {"network": {"encoder": "mobilenet_v2", "channels": 8, "input_px": 64}}
    path = tmp_path / "teacher.pt"
    save_checkpoint(path, {"step": 1, "config": config, "teacher": SlimFpn(channels=8).state_dict()})
    return path


def network_answers(checkpoint: Path, image: Path) -> torch.Tensor:
    """(19, 16, 16) probabilities, straight from the network."""
    network, _ = load_teacher(checkpoint)
    bgr = cv2.imread(str(image))
    with torch.no_grad():
        return torch.softmax(network(network_input(bgr)[None]), 1)[0]


def test_without_a_reference_the_networks_answers_are_the_labels(
    checkpoint: Path, generated_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels"
    main(["--checkpoint", str(checkpoint), "--images", str(generated_data / "night"), "--out", str(out)])
    assert sorted(path.name for path in out.glob("*.png")) == ["0.png", "1.png", "2.png", "3.png"]
    for name in ("0.png", "3.png"):
        expected = network_answers(checkpoint, generated_data / "night" / name).argmax(0).numpy()
        label_map = cv2.imread(str(out / name), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(label_map, np.kron(expected, np.ones((4, 4))))


def test_a_label_needs_the_confidence_asked_for_and_confidence_maps_show_it(
    checkpoint: Path, generated_data: Path, tmp_path: Path
) -> None:
    probability = network_answers(checkpoint, generated_data / "night" / "1.png").amax(0).numpy()
    threshold = float(np.median(probability))
    out = tmp_path / "labels"
    main(
        ["--checkpoint", str(checkpoint), "--images", str(generated_data / "night"), "--out", str(out)]
        + ["--confidence-min", str(threshold), "--confidence-maps"]
    )
    label_map, confidence = (
        cv2.imread(str(folder / "1.png"), cv2.IMREAD_UNCHANGED) for folder in (out, out / "confidence")
    )
    expected = np.kron(probability, np.ones((4, 4)))
    assert confidence.dtype == np.uint8
    assert np.abs(confidence - 255 * expected).max() <= 1
    surely = np.abs(expected - threshold) > 1e-3  # confidences are kept in half precision
    assert ((label_map != 255) == (expected >= threshold))[surely].all()
    assert 0.3 < (label_map != 255).mean() < 0.7
    assert [pair.image.stem for pair in find_pseudo_labelled_images(generated_data / "night", out)] == list("0123")


def test_only_listed_images_are_labelled(checkpoint: Path, generated_data: Path, tmp_path: Path) -> None:
    write_image_list(tmp_path / "list.txt", ["2.png", "0.png"])
    arguments = ["--checkpoint", str(checkpoint), "--images", str(generated_data / "night")]
    main([*arguments, "--list", str(tmp_path / "list.txt"), "--out", str(tmp_path / "labels")])
    assert sorted(path.name for path in (tmp_path / "labels").glob("*.png")) == ["0.png", "2.png"]
    pairs = find_pseudo_labelled_images(generated_data / "night", tmp_path / "labels")
    assert [pair.image.stem for pair in pairs] == ["0", "2"]


def test_every_image_gets_a_label_map_of_its_size_with_nothing_in_the_bottom_margin(
    checkpoint: Path, generated_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels"
    write_pseudo_labels(
        checkpoint,
        find_images(generated_data / "night"),
        out=out,
        choice=LabelChoice(portion=1.0, confidence_min=0.0, bottom_margin=0.25),
        reference=find_images(generated_data / "validation" / "image"),
    )
    assert sorted(path.stem for path in out.glob("*.png")) == ["0", "1", "2", "3"]
    label_map = cv2.imread(str(out / "0.png"), cv2.IMREAD_UNCHANGED)
    assert label_map.shape == (64, 64)
    assert (label_map[:48] < 19).all()
    assert (label_map[48:] == 255).all()


@pytest.mark.parametrize("with_reference", [False, True])
def test_a_rectangular_network_labels_whole_images(
    checkpoint: Path, generated_data: Path, tmp_path: Path, with_reference: bool
) -> None:
    state = torch.load(checkpoint, weights_only=True)
    state["config"]["network"]["width_over_height"] = 2.0
    save_checkpoint(tmp_path / "wide.pt", state)
    night, day = (find_images(generated_data / folder) for folder in ("night", "validation/image"))
    reference = day if with_reference else None
    write_pseudo_labels(tmp_path / "wide.pt", night, out=tmp_path / "labels", choice=ALL_PIXELS, reference=reference)
    label_map = cv2.imread(str(tmp_path / "labels" / "0.png"), cv2.IMREAD_UNCHANGED)
    assert label_map.shape == (64, 64)
    if not with_reference:
        network, _ = load_teacher(tmp_path / "wide.pt")
        squeezed = cv2.resize(
            cv2.imread(str(generated_data / "night" / "0.png")), (128, 64), interpolation=cv2.INTER_AREA
        )
        with torch.no_grad():
            expected = network(network_input(squeezed)[None]).argmax(1)[0].numpy()  # 16×32
        assert np.array_equal(label_map, np.kron(expected, np.ones((4, 2))))


def test_mirrored_answers_are_the_mean_over_an_image_and_its_mirror_image(
    checkpoint: Path, generated_data: Path
) -> None:
    network, _ = load_teacher(checkpoint)
    path = generated_data / "night" / "2.png"
    (alone,) = answers(network, [path], (64, 64), "night", mirror=False)
    (answer,) = answers(network, [path], (64, 64), "night", mirror=True)
    with torch.no_grad():
        mirrored = torch.softmax(network(network_input(cv2.imread(str(path))[:, ::-1])[None]), 1)
    torch.testing.assert_close(answer, (alone + mirrored.flip(-1)) / 2)
    assert (answer - alone).abs().max() > 1e-3


def test_label_maps_or_a_file_are_not_overwritten(checkpoint: Path, generated_data: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    old = tmp_path / "labels" / "old.png"
    old.touch()
    arguments = ["--checkpoint", str(checkpoint), "--images", str(generated_data / "night")]
    for out in (tmp_path / "labels", old):
        with pytest.raises(SystemExit, match=f"{out} is not an empty folder"):
            main([*arguments, "--out", str(out)])
    assert old.is_file()


def test_what_cannot_be_used_is_named_and_leaves_no_folder(
    checkpoint: Path, generated_data: Path, tmp_path: Path
) -> None:
    images = find_images(generated_data / "night")
    unreadable = tmp_path / "unreadable.png"
    unreadable.write_bytes(b"no picture")
    (tmp_path / "file").touch()
    out = tmp_path / "out" / "labels"
    for path, night, folder, named in (
        (tmp_path / "none.pt", images, out, "no checkpoint"),
        (checkpoint, [*images, unreadable], out, r"unreadable\.png"),
        (checkpoint, [*images, images[0]], out, "two images are called 0"),
        (checkpoint, images, tmp_path / "file" / "labels", "labels cannot be written"),
    ):
        with pytest.raises(InputError, match=named):
            write_pseudo_labels(path, night, out=folder, choice=ALL_PIXELS)
    assert not out.exists()


def test_a_share_above_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--checkpoint", "x", "--images", "x", "--out", "x", "--confidence-min", "60"])
    assert "expected a number within 0…1, got 60" in capsys.readouterr().err


def test_many_drives_have_a_folder_each_and_a_bad_one_is_told(
    checkpoint: Path, generated_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        shutil.copytree(generated_data / "night", tmp_path / "drives" / name)
    with BagWriter(tmp_path / "drives" / "third") as writer:
        for index, image in enumerate(find_images(generated_data / "night")):
            writer.write_image(IMAGE_TOPIC, read_image(image), stamp_ns=index + 1, frame_id="camera")
    (tmp_path / "drives" / "fourth").mkdir()
    out = tmp_path / "out"
    drives = ["--checkpoint", str(checkpoint), "--images", f"{tmp_path}/drives/*"]
    with pytest.raises(SystemExit, match="go on with --resume"):
        main([*drives, "--out", str(out)])
    assert f"not done: {tmp_path}/drives/fourth" in capsys.readouterr().err
    main(["--checkpoint", str(checkpoint), "--images", str(generated_data / "night"), "--out", str(tmp_path / "one")])
    for image, frame in (("first/0", "third/third_000000"), ("second/3", "third/third_000003")):
        alone = (tmp_path / "one" / f"{image[-1]}.png").read_bytes()
        assert (out / f"{image}.png").read_bytes() == (out / f"{frame}.png").read_bytes() == alone
    assert json.loads((out / "third" / MADE_BY).read_text())["images"] == str(tmp_path / "drives" / "third")

    (tmp_path / "drives" / "fourth").rmdir()
    next(out.glob("done/second-*.json")).unlink()  # killed between the label maps and the note
    capsys.readouterr()
    main([*drives, "--out", str(out), "--resume"])
    told = capsys.readouterr().out
    assert "2 of 3 drives are done already" in told
    assert f"4 label maps of 1 drives in {out}" in told
    with pytest.raises(SystemExit, match="another confidence_maps"):
        main([*drives, "--out", str(out), "--resume", "--confidence-maps"])
