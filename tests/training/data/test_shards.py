from __future__ import annotations

import json
import tarfile
from pathlib import Path

import cv2
import fsspec
import numpy as np
import pytest

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage, read_labelled
from training.data.__main__ import main
from training.data.class_balance import class_shares
from training.data.draws import PositionSampler, draw_labelled
from training.data.listing import pairs_digest
from training.data.pairs import find_labelled_pool
from training.data.shards import ShardFile, ShardLabel, groups_by_shard, read_shards, write_shards


@pytest.fixture
def pairs(generated_data: Path) -> list[LabelledImage]:
    return find_labelled_pool([generated_data / "source"])


@pytest.fixture
def shards(pairs: list[LabelledImage], tmp_path: Path) -> Path:
    """Three shards of two images each."""
    folder = tmp_path / "shards"
    assert write_shards(pairs, folder, data_set="plain", shard_bytes=two_images(pairs)) == 3
    return folder


def two_images(pairs: list[LabelledImage]) -> int:
    """Bytes that a tar reaches with its second image."""
    return 3 * max(-(-Path(str(pair.image)).stat().st_size // 512) * 512 for pair in pairs) // 2


def test_shards_give_the_images_labels_digest_and_class_shares_of_the_folder(
    pairs: list[LabelledImage], shards: Path
) -> None:
    sharded = find_labelled_pool([{"folder": shards, "data_set": "shards"}])
    for one, other in zip(pairs, sharded, strict=True):
        assert one.image.read_bytes() == other.image.read_bytes()
        assert all(np.array_equal(a, b) for a, b in zip(read_labelled(one), read_labelled(other), strict=True))
    assert pairs_digest(pairs) == pairs_digest(sharded)  # a run may move from the folder to its shards
    assert np.array_equal(class_shares(pairs), class_shares(sharded))


def test_class_shares_of_shards_are_known_without_reading_them(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"folder": shards, "data_set": "shards"}
    expected = class_shares(find_labelled_pool([source]))
    monkeypatch.setattr(ShardFile, "read_bytes", None)
    assert np.array_equal(class_shares(find_labelled_pool([source])), expected)
    without_road = class_shares(find_labelled_pool([{**source, "ignore": ["road"]}]))
    assert expected[:, 0].all()
    assert not without_road[:, 0].any()
    assert np.array_equal(without_road[:, 1:], expected[:, 1:])


def test_a_format_that_parts_what_shards_hold_together_is_read_from_them(shards: Path) -> None:
    label = read_shards(str(shards))[0].label
    assert isinstance(label, ShardLabel)
    finer = type(label.label_format)("", {value: int(value == 255) for value in range(256)})
    coarse = ShardLabel(label.shard, label.name, label.offset, label.size, finer, {0: 1, 1: 1})
    assert coarse.counts(label.label_format) is None


def test_a_shard_is_a_tar_file_in_webdatasets_layout(shards: Path, pairs: list[LabelledImage]) -> None:
    with tarfile.open(shards / "000001.tar") as tar:
        names = tar.getnames()
        content = tar.extractfile(names[0])
        assert content is not None
        assert content.read() == pairs[2].image.read_bytes()
    assert names == ["00000002_2.png", "00000002_2.label.png", "00000003_3.png", "00000003_3.label.png"]


def test_shards_are_the_same_bytes_whenever_they_are_written(
    pairs: list[LabelledImage], shards: Path, tmp_path: Path
) -> None:
    write_shards(pairs, tmp_path / "again", data_set="plain", shard_bytes=two_images(pairs))
    for file in sorted(shards.iterdir()):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_shards_in_object_storage_are_read_through_fsspec(pairs: list[LabelledImage], shards: Path) -> None:
    storage = fsspec.filesystem("memory")
    try:
        storage.put(str(shards), "/bucket/shards", recursive=True)
        streamed = find_labelled_pool([{"folder": "memory://bucket/shards", "data_set": "shards"}])
        assert [pair.image.read_bytes() for pair in streamed] == [pair.image.read_bytes() for pair in pairs]
    finally:
        storage.rm("/bucket", recursive=True)


def test_processes_draw_from_shards_of_their_own_and_together_what_one_process_draws(shards: Path) -> None:
    sharded = read_shards(str(shards))
    draw = draw_labelled(
        class_shares(sharded), groups_by_shard(sharded, 2), seed=5, share=0.5, temperature=0.1, batch_size=4
    )

    def drawn(rank: int, world_size: int) -> list[int]:
        sampler = PositionSampler(start_step=0, stop_step=30, batch_size=4, rank=rank, world_size=world_size)
        return [draw(position) for position in sampler]

    first, second = (drawn(rank, 2) for rank in (0, 1))
    shards_of = [{str(getattr(sharded[index].image, "shard", "")) for index in indices} for indices in (first, second)]
    assert not shards_of[0] & shards_of[1]
    assert set.union(*shards_of) == {f"{shards}/00000{number}.tar" for number in range(3)}
    together = np.concatenate([np.reshape(first, (30, 2)), np.reshape(second, (30, 2))], axis=1)
    assert together.ravel().tolist() == drawn(0, 1)


def test_groups_that_do_not_fit_are_refused(shards: Path, pairs: list[LabelledImage]) -> None:
    with pytest.raises(InputError, match=r"shard_groups is 4 and there are 3 shards"):
        groups_by_shard(read_shards(str(shards)), 4)
    with pytest.raises(InputError, match=r"0\.png lies in no shard"):
        groups_by_shard(pairs, 2)
    with pytest.raises(InputError, match="a batch of 4 does not split over 3 groups"):
        draw_labelled(
            class_shares(pairs),
            groups_by_shard(read_shards(str(shards)), 3),
            seed=0,
            share=0,
            temperature=1,
            batch_size=4,
        )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "000001.tar").write_bytes((folder / "000001.tar").read_bytes()[:-2000]),
            "copy it anew",
        ),
        (lambda folder: (folder / "000001.tar").unlink(), r"000001\.tar cannot be found"),
        (lambda folder: (folder / "shards.json").unlink(), r"no readable shards\.json"),
        (lambda folder: (folder / "shards.json").write_text('{"shards": ['), r"shards\.json is damaged"),
    ],
    ids=["cut off", "missing", "no index", "damaged index"],
)
def test_unusable_shards_are_refused_before_a_run_begins(damage: object, message: str, shards: Path) -> None:
    damage(shards)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        find_labelled_pool([{"folder": shards, "data_set": "shards"}])


def test_an_address_that_nothing_opens_is_refused() -> None:
    with pytest.raises(InputError, match="correct the URL"):
        read_shards("nowhere://bucket/shards")


def test_shard_verb_writes_what_training_reads_and_check_counts(
    generated_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["shard", str(generated_data / "source"), "--out", str(out)]) == 0
    assert "6 images into 1 shards" in capsys.readouterr().out
    assert json.loads((out / "shards.json").read_text())["data_set"] == "plain"
    assert main(["check", str(out)]) == 0
    assert "6 pairs" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="holds shards already"):
        main(["shard", str(generated_data / "source"), "--out", str(out)])


def test_a_broken_image_leaves_no_index(tmp_path: Path) -> None:
    for part in ("image", "label"):
        (tmp_path / "data" / part).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data" / part / "a.png"), np.zeros((8, 8), np.uint8))
    image = tmp_path / "data" / "image" / "a.png"
    image.write_bytes(image.read_bytes()[:-20])
    with pytest.raises(SystemExit, match=r"a\.png"):
        main(["shard", str(tmp_path / "data"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out" / "shards.json").exists()
