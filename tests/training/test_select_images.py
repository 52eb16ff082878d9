from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkseg_ros.errors import InputError
from tests.core.model.mean_colour import write_mean_colour_onnx
from tests.training.extractors import MeanColour, write_torchscript
from training.select_images import count_by_ratio, main
from training.selection.charts import draw_contact_sheet
from training.selection.levels import choose_by_level


def _write(folder: Path, **colours: int | tuple[int, int, int]) -> Path:
    """PNG files of one colour (BGR) each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, colour in colours.items():
        bgr = (colour,) * 3 if isinstance(colour, int) else colour
        cv2.imwrite(str(folder / f"{name}.png"), np.full((9, 16, 3), bgr, np.uint8))
    return folder


def _chosen(path: Path) -> list[str]:
    return [Path(name).stem for name in path.read_text().splitlines()]


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Five bluish planted images among greys, and one day image."""
    planted = {f"planted_{i}": (80 + i, 20, 10) for i in range(5)}
    greys = {f"grey_{i}": 12 * i for i in range(8)}
    return _write(tmp_path / "night", **planted, **greys, day=200)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """Images like the planted ones."""
    return _write(tmp_path / "reference", **{f"r{i}": (78 + 2 * i, 19 + i % 2, 9 + i % 3) for i in range(6)})


@pytest.fixture(params=["onnx", "torchscript"])
def fid_command(request: pytest.FixtureRequest, tmp_path: Path, night: Path, reference: Path) -> list[str]:
    if request.param == "onnx":
        extractor = write_mean_colour_onnx(tmp_path / "mean.onnx")
    else:
        extractor = write_torchscript(tmp_path / "mean.pt", MeanColour(1.0))
    return [
        *("fid", "--images", str(night), "--reference", str(reference), "--extractor", str(extractor)),
        *("--input-px", "8", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "list.txt")),
    ]


def _labelled(folder: Path, count: int) -> Path:
    for part in ("image", "label"):
        _write(folder / part, **{f"l{i}": 0 for i in range(count)})
    return folder


def test_planted_images_are_nearest_to_their_reference(tmp_path: Path, fid_command: list[str]) -> None:
    main([*fid_command, "--count", "5"])
    assert _chosen(tmp_path / "list.txt") == [f"planted_{i}" for i in range(5)]


def test_a_threshold_takes_exactly_the_images_up_to_it(tmp_path: Path, fid_command: list[str]) -> None:
    main([*fid_command, "--count", "1"])
    with (tmp_path / "list_scores.csv").open(newline="") as file:
        scores = {row["name"]: float(row["fid"]) for row in csv.DictReader(file)}
    ordered = sorted(scores.items(), key=lambda item: item[1])
    main([*fid_command, "--threshold", str((ordered[6][1] + ordered[7][1]) / 2)])
    assert (tmp_path / "list.txt").read_text().splitlines() == sorted(name for name, _ in ordered[:7])


def test_all_scores_stand_beside_the_list(tmp_path: Path, fid_command: list[str]) -> None:
    main([*fid_command, "--count", "5"])
    with (tmp_path / "list_scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14
    assert {row["name"] for row in rows if row["chosen"] == "1"} == {f"planted_{i}.png" for i in range(5)}


def test_a_quarter_of_the_labelled_images_is_chosen(tmp_path: Path, fid_command: list[str]) -> None:
    first, second = _labelled(tmp_path / "first", 9), _labelled(tmp_path / "second", 3)
    main([*fid_command, "--ratio", "0.25", "--labelled", f"{first},{second}"])
    assert _chosen(tmp_path / "list.txt") == _three_nearest(tmp_path)


def _three_nearest(tmp_path: Path) -> list[str]:
    with (tmp_path / "list_scores.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["fid"]))
    return sorted(Path(row["name"]).stem for row in rows[:3])


def test_a_ratio_without_enough_candidates_takes_all_and_says_so(
    tmp_path: Path, night: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled = _labelled(tmp_path / "labelled", 40)
    command = ["histogram", "--images", str(night), "--out", str(tmp_path / "list.txt"), "--band", "10", "30"]
    main([*command, "--ratio", "0.25", "--labelled", str(labelled)])
    assert _chosen(tmp_path / "list.txt") == ["grey_1", "grey_2"]
    assert "10 were asked for, there are no more candidates" in capsys.readouterr().out


def test_the_histogram_method_takes_the_band_and_only_the_band(tmp_path: Path, night: Path) -> None:
    """Planted levels are (80 + i + 20 + 5) / 2.5 = 42 … 43.6, greys their value."""
    command = ["histogram", "--images", str(night), "--out", str(tmp_path / "list.txt")]
    main([*command, "--band", "24", "48"])
    assert _chosen(tmp_path / "list.txt") == ["grey_2", "grey_3", "grey_4", *(f"planted_{i}" for i in range(5))]
    main([*command, "--band", "24", "48", "--count", "2"])
    assert _chosen(tmp_path / "list.txt") == ["grey_3", "planted_0"]


def test_candidates_restrict_the_choice(tmp_path: Path, night: Path, fid_command: list[str]) -> None:
    (tmp_path / "candidates.txt").write_text("day.png\nplanted_2.png\ngrey_0.png\n")
    main([*fid_command, "--count", "2", "--candidates", str(tmp_path / "candidates.txt")])
    assert _chosen(tmp_path / "list.txt") == ["grey_0", "planted_2"]
    command = ["histogram", "--images", str(night), "--out", str(tmp_path / "list.txt"), "--band", "0", "255"]
    main([*command, "--candidates", str(tmp_path / "candidates.txt")])
    assert _chosen(tmp_path / "list.txt") == ["day", "grey_0", "planted_2"]


def test_a_reference_list_restricts_the_reference(tmp_path: Path, night: Path, fid_command: list[str]) -> None:
    (tmp_path / "reference.txt").write_text("grey_2.png\ngrey_3.png\n")
    command = [*fid_command, "--count", "2"]
    command[command.index("--reference") + 1] = str(night)
    main([*command, "--reference-list", str(tmp_path / "reference.txt")])
    assert _chosen(tmp_path / "list.txt") == ["grey_2", "grey_3"]


@given(
    levels=st.lists(st.integers(0, 60), min_size=1, max_size=40),
    low=st.integers(0, 30),
    width=st.integers(0, 30),
    count=st.none() | st.integers(1, 40),
)
@settings(deadline=None)
def test_a_band_is_thinned_from_its_ends_and_ties_go_by_name(
    levels: list[int], low: int, width: int, count: int | None
) -> None:
    high = low + width
    within = [(abs(2 * level - low - high), index) for index, level in enumerate(levels) if low <= level <= high]
    if not within:
        with pytest.raises(InputError, match="no candidate has a level within the band"):
            choose_by_level(np.array(levels, float), (low, high), count=count)
        return
    chosen = choose_by_level(np.array(levels, float), (low, high), count=count)
    assert chosen.tolist() == [index for _, index in sorted(within)][:count]


def test_a_ratio_counts_labelled_images_over_folders(tmp_path: Path) -> None:
    folders = [_labelled(tmp_path / "first", 4), _labelled(tmp_path / "second", 2)]
    assert count_by_ratio(0.5, folders) == 3
    with pytest.raises(InputError, match="ratio 0; expected more than 0"):
        count_by_ratio(0, folders)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "0 images are to be chosen"),
        (["--threshold", "-1"], "no candidate has a distance of at most -1"),
        (["--ratio", "0.01", "--labelled", "{labelled}"], "0 images are to be chosen; .* --ratio"),
        (["--ratio", "0.25", "--labelled", "{labelled},{night}"], "night.image is not a folder"),
    ],
)
def test_choices_of_nothing_are_refused_and_nothing_written(
    tmp_path: Path, fid_command: list[str], arguments: list[str], message: str
) -> None:
    places = {"labelled": _labelled(tmp_path / "labelled", 4), "night": tmp_path / "night"}
    with pytest.raises(SystemExit, match=f"select_images: .*{message}"):
        main([*fid_command, *(argument.format(**places) for argument in arguments)])
    assert not list(tmp_path.glob("list*"))


@pytest.mark.parametrize("arguments", [[], ["--ratio", "0.25"], ["--threshold", "1", "--count", "2"]])
def test_the_command_line_says_how_many(fid_command: list[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*fid_command, *arguments])


def test_an_unreadable_image_is_named(night: Path, fid_command: list[str]) -> None:
    (night / "grey_3.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match=r"grey_3\.png cannot be decoded"):
        main([*fid_command, "--count", "2"])


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(SystemExit, match="none holds no images"):
        main(["histogram", "--images", str(tmp_path / "none"), "--out", str(tmp_path / "list.txt")])


def test_the_contact_sheet_shows_every_image_in_its_place(tmp_path: Path) -> None:
    folder = _write(tmp_path / "images", **{f"{i:02d}": 40 + 8 * i for i in range(8)})
    paths = sorted(folder.iterdir())
    sheet = draw_contact_sheet(paths, ["caption"] * 8)
    assert sheet.shape == (4 + 2 * 196, 4 + 6 * 292, 3)
    for index in range(8):
        row, column = divmod(index, 6)
        tile = sheet[4 + row * 196 : 4 + row * 196 + 162, 4 + column * 292 : 4 + column * 292 + 288]
        assert (tile == 40 + 8 * index).all()


def test_a_sheet_of_the_best_24_is_written(tmp_path: Path) -> None:
    folder = _write(tmp_path / "images", **{f"{i:02d}": 10 for i in range(30)})
    main(["histogram", "--images", str(folder), "--out", str(tmp_path / "list.txt"), "--band", "5", "15"])
    sheet = cv2.imread(str(tmp_path / "list_sheet.png"))
    assert sheet.shape == (4 + 4 * 196, 4 + 6 * 292, 3)
    assert len(_chosen(tmp_path / "list.txt")) == 30


def test_a_ratio_is_rounded_to_the_nearest_count(generated_data: Path) -> None:
    assert count_by_ratio(0.3, [generated_data / "source"]) == 2  # 1.8 of 6 images
    assert count_by_ratio(0.2, [generated_data / "source"]) == 1  # 1.2
