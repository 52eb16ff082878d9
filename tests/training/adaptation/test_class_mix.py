from __future__ import annotations

import torch

from training.adaptation.class_mix import mix_classes, mix_in_some_steps


def test_a_mixed_image_shows_source_pixels_exactly_where_it_has_source_labels() -> None:
    source_labels = torch.tensor([[[0, 0, 1, 1, 2, 2, 255]]])
    images, labels = mix_classes(
        torch.ones(1, 3, 1, 7), source_labels, torch.zeros(1, 3, 1, 7), torch.full((1, 1, 7), 9), seed=0
    )
    pasted = labels[0, 0] != 9
    assert images[0, 0, 0].tolist() == pasted.float().tolist()
    assert set(labels[0, 0][pasted].tolist()) < {0, 1, 2}
    assert len(set(labels[0, 0][pasted].tolist())) == 2  # half of three classes, rounded up
    assert labels[0, 0, 6] == 9  # an unlabelled source pixel is never pasted


def test_the_choice_of_classes_depends_on_the_seed_alone() -> None:
    source_labels = torch.arange(18).reshape(1, 1, 18)
    arguments = (torch.ones(1, 3, 1, 18), source_labels, torch.zeros(1, 3, 1, 18), torch.full((1, 1, 18), 18))
    _, first = mix_classes(*arguments, seed=3, step=7)
    _, again = mix_classes(*arguments, seed=3, step=7)
    _, other = mix_classes(*arguments, seed=3, step=8)
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_a_source_without_labels_leaves_the_target_alone() -> None:
    target_labels = torch.full((1, 2, 2), 4)
    images, labels = mix_classes(
        torch.ones(1, 3, 2, 2), torch.full((1, 2, 2), 255), torch.zeros(1, 3, 2, 2), target_labels, seed=0
    )
    assert labels.tolist() == target_labels.tolist()
    assert images.sum() == 0


def test_a_process_pastes_on_its_images_what_one_process_would() -> None:
    source_labels = torch.arange(18).reshape(1, 1, 18).repeat(4, 1, 1)
    images, target_labels = torch.ones(4, 3, 1, 18), torch.full((4, 1, 18), 18)
    _, whole = mix_classes(images, source_labels, images, target_labels, seed=3)
    _, second = mix_classes(images[2:], source_labels[2:], images[2:], target_labels[2:], seed=3, first_position=2)
    assert second.tolist() == whole[2:].tolist()
    assert whole[0].tolist() != whole[1].tolist()


def test_images_are_mixed_in_that_share_of_the_steps_and_otherwise_stay() -> None:
    labelled = {"images": torch.ones(4, 3, 2, 2), "labels": torch.zeros(4, 2, 2, dtype=torch.int64)}
    images, labels = torch.zeros(2, 3, 2, 2), torch.full((2, 2, 2), 4)
    mixed = 0
    for step in range(200):
        answer, found = mix_in_some_steps(labelled, images, labels, share=0.3, seed=0, step=step, rank=0)
        assert torch.equal(answer[:, 0] == 1, found == 0)
        mixed += bool(answer.any())
    assert 40 <= mixed <= 80


def test_every_other_labelled_image_is_mixed_where_there_are_twice_as_many() -> None:
    labelled = {
        "images": torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 3, 1, 1),
        "labels": torch.zeros(4, 1, 1).long(),
    }
    images, labels = torch.full((2, 3, 1, 1), 9.0), torch.full((2, 1, 1), 4)
    answer, _ = mix_in_some_steps(labelled, images, labels, share=1, seed=0, step=0, rank=0)
    assert answer[:, 0, 0, 0].tolist() == [0, 2]
