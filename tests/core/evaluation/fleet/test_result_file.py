from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.fleet.judgement import DriveJudgement, Stretch, Sums, WorstFrame
from darkseg_ros.evaluation.fleet.result_file import from_parquet, to_parquet


def some_judgement() -> DriveJudgement:
    rng = np.random.default_rng(0)
    sums = Sums(
        *(rng.integers(0, 9, (2, 3)) for _ in range(2)),
        rng.integers(0, 9, 2),
        *(rng.integers(0, 9, 256) for _ in range(3)),
        frames=4,
        scored=3,
        seen=2,
        unhealthy=1,
    )
    return DriveJudgement(
        place="s3://bucket/nächtlich",
        classes=("road", "sky"),
        stretches=(
            Stretch("/camera", "22", "0–10", sums, WorstFrame("1.0", 0.25, b"\xff\xd8")),
            Stretch("/camera", "23", "unknown", sums),
        ),
        label_maps=5,
        bad_frames=1,
        reasons=("one",),
        sha256="ab",
        bundle=None,
        backend=None,
    )


def test_a_result_is_read_as_it_was_written() -> None:
    before = some_judgement()
    after = from_parquet(to_parquet(before), name="x")
    for ours, theirs in zip(before.stretches, after.stretches, strict=True):
        for name, value in vars(ours.sums).items():
            np.testing.assert_array_equal(getattr(theirs.sums, name), value)
        assert (ours.camera, ours.hour, ours.level, ours.worst) == (
            theirs.camera,
            theirs.hour,
            theirs.level,
            theirs.worst,
        )
    assert {**vars(before), "stretches": ()} == {**vars(after), "stretches": ()}


def test_the_same_result_has_the_same_bytes() -> None:
    assert to_parquet(some_judgement()) == to_parquet(some_judgement())


def test_other_tools_read_the_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "x.parquet").write_bytes(to_parquet(some_judgement()))
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table.column("hour").to_pylist() == ["22", "23"]
    assert table.column("scored").to_pylist() == [3, 3]
    assert len(table.column("confusion")[0].as_py()) == 6


@pytest.mark.parametrize("content", [b"", b"PAR1 no", to_parquet(some_judgement())[:-20]])
def test_a_damaged_result_is_told(content: bytes) -> None:
    with pytest.raises(InputError, match=r"night\.parquet is damaged"):
        from_parquet(content, name="night.parquet")
