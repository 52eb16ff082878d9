from __future__ import annotations

import pytest
import torch
from torch import nn

from training.averaging import copy_as_teacher, update_teacher


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
