from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from darkseg_ros.errors import InputError
from training.data.image_lists import write_image_list
from training.runs import fabric as stage_run
from training.runs.checkpoints import load_checkpoint, save_checkpoint
from training.runs.fabric import pick_device
from training.runs.results import one_line_errors, write_picture, write_result


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 4 kB: what a full disk does to a write, as EFBIG instead of ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("the label map\n  is torn;\nfetch it"), "stage: the label map is torn; fetch it"),
        (OSError(28, "No space left on device"), "stage: [Errno 28] No space left on device"),
        (InputError("Caught InputError in worker 0.\nTraceback:\n  a line\nInputError: a.png is torn\n"),
         "stage: InputError: a.png is torn"),
        (KeyboardInterrupt(), 130),
    ],
)  # fmt: skip
def test_what_the_user_can_cure_is_one_line_and_ctrl_c_is_none(error: BaseException, line: str | int) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors("stage"):
        raise error
    assert ended.value.code == line


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_line_errors("stage"):
        raise ZeroDivisionError


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_named_and_leaves_the_earlier_file(tmp_path: Path) -> None:
    picture, last = tmp_path / "sheet.png", tmp_path / "last.pt"
    write_picture(picture, np.zeros((2, 2, 3), np.uint8))
    save_checkpoint(last, {"step": 1})
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    with pytest.raises(InputError, match=r"sheet\.png cannot be written .*make room"):
        write_picture(picture, noise)
    with pytest.raises(InputError, match=r"last\.pt cannot be written .*make room"):
        save_checkpoint(last, {"step": 2, "weights": torch.zeros(10_000)})
    assert cv2.imread(str(picture)).shape == (2, 2, 3)
    assert load_checkpoint(last)["step"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "sheet.png"]


def test_a_picture_comes_back_as_it_was(tmp_path: Path) -> None:
    bgr = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    write_picture(tmp_path / "new" / "a b ü.png", bgr)
    read = cv2.imdecode(np.fromfile(tmp_path / "new" / "a b ü.png", np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, bgr)


def test_a_file_name_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"list\.txt cannot hold 'b\\udcff'.*rename"):
        write_image_list(tmp_path / "list.txt", ["a.png", b"b\xff.png".decode("utf-8", "surrogateescape")])
    with pytest.raises(InputError, match="rename"):
        write_result(tmp_path / "levels.csv", "name\n\udcff.png,3\n")
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused() -> None:
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match=r"accelerator gpu cannot be used here .*auto"):
        pick_device("gpu")


def test_a_stage_of_one_process_refuses_to_be_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_run, "start_fabric", lambda _settings: SimpleNamespace(world_size=2))
    with pytest.raises(InputError, match="started 2 processes; this stage runs in one"):
        pick_device("cpu")
