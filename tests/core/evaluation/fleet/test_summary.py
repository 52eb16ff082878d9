from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.fleet.judgement import DriveJudgement, Stretch, Sums
from darkseg_ros.evaluation.fleet.summary import SHOWN_DRIVES, FleetSummary, read_tags
from darkseg_ros.fleet.drives import Drive


def judgement(name: str, *, right: int = 0, wrong: int = 0, camera: str = "/camera") -> DriveJudgement:
    """Road that is called road or sky; nothing labelled where both are 0."""
    sums = Sums.empty(2)
    sums.confusion[0, :2] = right, wrong
    sums.warped[0, 0] = 1
    sums.certainty[255] = 1
    sums.predicted[:] = 1
    sums.frames, sums.seen, sums.scored = 1, 1, int(right + wrong > 0)
    stretch = Stretch(camera, "22", "0–10", sums)
    return DriveJudgement(f"/drives/{name}", ("road", "sky"), (stretch,), sums.scored, 0, (), "", None, None)


def test_pixels_add_up_over_drives_and_the_worst_come_first() -> None:
    summary = FleetSummary()
    for name, right, wrong in (("a", 90, 10), ("b", 10, 90), ("c", 50, 50)):
        summary.add(judgement(name, right=right, wrong=wrong), {})
    result = summary.result()
    assert result.figures["pixel_accuracy"] == 0.5
    assert result.figures["drives"] == 3
    assert [each.drive.name for each in result.worst_drives] == ["b", "c", "a"]
    assert result.ci95["pixel_accuracy"][0] < 0.5 < result.ci95["pixel_accuracy"][1]


def test_groups_hold_their_own_drives() -> None:
    summary = FleetSummary()
    summary.add(judgement("a", right=1, camera="/front"), {"weather": "rain"})
    summary.add(judgement("b", wrong=1, camera="/rear"), {"weather": "rain"})
    summary.add(judgement("c", right=1, camera="/rear"), {"weather": "fog"})
    groups = summary.result().groups
    accuracy = {
        kind: {value: figures["pixel_accuracy"] for value, figures in values.items()} for kind, values in groups.items()
    }
    assert accuracy["camera"] == {"/front": 1.0, "/rear": 0.5}
    assert accuracy["weather"] == {"fog": 1.0, "rain": 0.5}
    assert list(accuracy) == ["camera", "hour", "level", "weather"]


def test_drives_without_label_maps_are_ranked_apart() -> None:
    summary = FleetSummary()
    summary.add(judgement("labelled", right=1), {})
    summary.add(judgement("unlabelled"), {})
    result = summary.result()
    assert [each.drive.name for each in result.worst_drives] == ["labelled"]
    assert [each.drive.name for each in result.least_trusted] == ["unlabelled"]


def test_what_is_kept_does_not_grow_with_the_fleet() -> None:
    summary = FleetSummary()
    for index in range(3 * SHOWN_DRIVES):
        summary.add(judgement(f"{index:03d}", right=100 - index, wrong=index), {})
        summary.fail(Drive(f"/bad/{index}"), "cut off")
    result = summary.result()
    assert [each.drive.name for each in result.worst_drives] == [
        f"{index:03d}" for index in reversed(range(2 * SHOWN_DRIVES, 3 * SHOWN_DRIVES))
    ]
    assert result.figures["failed_drives"] == 3 * SHOWN_DRIVES


def test_a_fleet_of_failures_says_why() -> None:
    summary = FleetSummary()
    summary.fail(Drive("/drives/a"), "it is cut off")
    with pytest.raises(InputError, match=r"none of the 1 drives .* it is cut off"):
        summary.result()


def test_drives_of_other_classes_are_not_added_up() -> None:
    summary = FleetSummary()
    summary.add(judgement("a", right=1), {})
    other = DriveJudgement("/drives/b", ("street", "sky"), (), 0, 0, (), "", None, None)
    with pytest.raises(InputError, match="other classes"):
        summary.add(other, {})


def test_tags_are_found_by_name_and_by_place(tmp_path: Path) -> None:
    table = tmp_path / "tags.csv"
    table.write_text("\ufeffdrive,weather,road\na,rain,wet\n/drives/b,fog,\n", encoding="utf-8")
    tags = read_tags(table)
    assert tags.tags_of(Drive("/else/a")) == {"weather": "rain", "road": "wet"}
    assert tags.tags_of(Drive("/drives/b")) == {"weather": "fog", "road": "no tag"}
    assert tags.tags_of(Drive("/drives/c")) == {"weather": "no tag", "road": "no tag"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "column drive"),
        ("name,weather\na,rain\n", "column drive"),
        ("drive\na\n", "column for each tag"),
        ("drive,hour\na,1\n", "hour is known"),
        ("drive,weather\na,rain\na,fog\n", "twice"),
    ],
)
def test_tables_that_cannot_be_used_are_told(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "tags.csv").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=reason):
        read_tags(tmp_path / "tags.csv")


def test_sums_do_not_depend_on_the_order() -> None:
    confusions = [np.random.default_rng(seed).integers(0, 99, 2) for seed in range(5)]
    results = []
    for order in (range(5), reversed(range(5))):
        summary = FleetSummary()
        for index in order:
            summary.add(judgement(str(index), right=int(confusions[index][0]), wrong=int(confusions[index][1])), {})
        results.append(summary.result().figures)
    assert results[0] == results[1]
