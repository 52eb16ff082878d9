from __future__ import annotations

import bz2
from pathlib import Path

import lz4.frame
import pytest
from backports import zstd

from darkseg_ros.errors import BagError
from darkseg_ros.frames.bags import BagReader
from darkseg_ros.frames.storage.compression import decompress_block, decompress_file
from tests.core.frames.storage.mcap_files import MAGIC, Topic, described, image_cdr, message, write_mcap

PACK = {"zstd": zstd.compress, "lz4": lz4.frame.compress, "bz2": bz2.compress, "": bytes}


@pytest.mark.parametrize("compression", list(PACK))
def test_a_block_within_its_limit_unpacks(compression: str) -> None:
    content = bytes(range(200)) * 5
    assert decompress_block(PACK[compression](content), compression, limit=1000) == content


@pytest.mark.parametrize("compression", ["zstd", "lz4", "bz2"])
def test_a_block_beyond_its_limit_or_cut_off_is_refused(compression: str) -> None:
    packed = PACK[compression](bytes(range(200)) * 5)
    with pytest.raises(BagError, match="more than 999 bytes"):
        decompress_block(packed, compression, limit=999)
    with pytest.raises(BagError, match="is cut off"):
        decompress_block(packed[:-9], compression, limit=1000)


def test_a_file_of_several_frames_unpacks_whole(tmp_path: Path) -> None:
    (tmp_path / "a.zstd").write_bytes(zstd.compress(b"first ") + zstd.compress(b"second"))
    decompress_file(tmp_path / "a.zstd", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"first second"


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zstd").write_bytes(zstd.compress(bytes(range(256)))[:-3])
    with pytest.raises(BagError, match="is cut off"):
        decompress_file(tmp_path / "a.zstd", tmp_path / "a")


def test_a_file_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb.mcap.zstd").write_bytes(zstd.compress(MAGIC + bytes(2**26)))
    with pytest.raises(BagError, match="would unpack to more than"), BagReader(tmp_path / "bomb.mcap.zstd"):
        pass
    assert (tmp_path / "bomb.mcap.zstd").stat().st_size < 10_000


@pytest.mark.parametrize("name", ["drive.mcap.zstd", "drive", "drive.mp4"])
def test_a_packed_bag_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    plain = write_mcap(tmp_path / "plain.mcap", described([Topic("/camera")]) + message(1, 5, image_cdr(9)))
    (tmp_path / name).write_bytes(zstd.compress(plain.read_bytes()))
    with BagReader(tmp_path / name) as reader:
        assert len(list(reader.messages(["/camera"]))) == 1
