from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from darkseg_ros.errors import InputError
from training.adaptation.teacher import copy_as_teacher, load_teacher, update_teacher
from training.networks.slim_fpn import SlimFpn
from training.runs.checkpoints import save_checkpoint


def test_the_teacher_is_the_weighted_mean_of_itself_and_the_student() -> None:
    student = nn.BatchNorm1d(1)
    teacher = copy_as_teacher(student)
    with torch.no_grad():
        student.weight.fill_(3.0)
    student.num_batches_tracked.fill_(4)
    update_teacher(teacher, student, step=1, decay=0.9)  # α = min(1 − 1/2, 0.9) = 0.5
    assert teacher.weight.item() == pytest.approx(0.5 * 1 + 0.5 * 3)
    assert teacher.num_batches_tracked.item() == 4
    update_teacher(teacher, student, step=1000, decay=0.9)
    assert teacher.weight.item() == pytest.approx(0.9 * 2 + 0.1 * 3)


def test_the_teacher_learns_nothing_by_itself() -> None:
    teacher = copy_as_teacher(nn.BatchNorm1d(1))
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_a_checkpoint_from_before_there_were_architectures_is_a_slim_one(tmp_path: Path) -> None:
    network = SlimFpn(channels=8)
    settings = {"encoder": "mobilenet_v2", "encoder_weights": "gone.pth", "channels": 8, "input_px": 64}
    state = {"step": 1, "config": {"network": settings}, "teacher": network.state_dict()}
    save_checkpoint(tmp_path / "last.pt", state)
    teacher, _ = load_teacher(tmp_path / "last.pt")
    assert isinstance(teacher, SlimFpn)
    assert not teacher.training
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(teacher(images), network.eval()(images))


def test_a_checkpoint_with_settings_of_another_version_is_refused(tmp_path: Path) -> None:
    state = {"step": 1, "config": {"network": {"width": 8}}, "teacher": {}}
    save_checkpoint(tmp_path / "last.pt", state)
    with pytest.raises(InputError, match=r"last\.pt holds no segmenter that this version knows .*width"):
        load_teacher(tmp_path / "last.pt")
