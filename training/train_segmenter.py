"""Train a segmenter on labelled images, some of them darkened, and, if asked, pseudo-labelled night images.

    python -m training.train_segmenter --config training/configs/segmenter_slim.yaml [key=value …]
    fabric run --devices 4 --num-nodes 2 … training/train_segmenter.py --config … [key=value …]

Started again with the same config, a run continues from its last checkpoint as if it had never stopped. Several
processes share every batch and end where one process would, rounding, dropout and BatchNorm apart: dropout is drawn by
step and process, and the batch statistics are each process' own (network.freeze_batch_norm does without them).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from training.data.cache import open_cache
from training.data.class_table import classes_of
from training.data.listing import file_digest, files_digest, pairs_digest
from training.data.pairs import find_images, find_labelled_pool, find_pseudo_labelled_images, find_validation_sets
from training.data.random_streams import Stream, generator
from training.data.shards import groups_by_shard
from training.runs.config import read_command_line
from training.runs.results import one_line_errors
from training.segmenter_config import SegmenterConfig, refuse_unusable

if TYPE_CHECKING:
    from torch import Tensor, nn


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    with one_line_errors("train_segmenter"):
        train(read_command_line(SegmenterConfig, __doc__ or "", arguments))


def train(config: DictConfig) -> None:
    """One whole run, or the rest of one: checkpoints, TensorBoard events and metrics.json in `config.output`.

    Args:
        config: a resolved `SegmenterConfig`.

    Raises:
        InputError: on unusable data, a checkpoint of another configuration, a loss that is no number, a full disk.
    """
    # What is wrong with settings and data is told before torch is loaded.
    refuse_unusable(config)
    self_training = config.self_training
    classes = classes_of(config)
    pairs = find_labelled_pool(config.data.source, classes)
    night_images = find_images(Path(config.data.night))
    night_pairs = (
        find_pseudo_labelled_images(Path(config.data.night), Path(config.data.pseudo_labels), classes)
        if self_training.batch_size
        else []
    )
    validation_sets = find_validation_sets(config.data.validation, classes)
    inputs = {
        "data.classes": repr(classes.to_json()),
        "data.source": pairs_digest(pairs),
        "data.night": files_digest(night_images),
        "data.pseudo_labels": pairs_digest(night_pairs),
        "network.encoder_weights": file_digest(config.network.encoder_weights),
        "network.start_checkpoint": file_digest(config.network.start_checkpoint),
        "distillation.checkpoint": file_digest(config.distillation.checkpoint),
    }

    import torch
    from lightning_fabric.utilities.seed import seed_everything

    from darkseg_ros.night.cheap_night import CheapNight
    from training.adaptation.class_mix import mix_classes
    from training.adaptation.teacher import copy_as_teacher, load_teacher, update_teacher
    from training.data.class_balance import class_shares, class_weights
    from training.data.draws import draw_evenly, draw_labelled
    from training.data.samples import LabelledSamples
    from training.losses import distillation_loss, mean_over_processes, pooled, segmentation_loss
    from training.networks.build import build_network, set_to_training
    from training.networks.config import exposure_of
    from training.optimiser import build_optimiser, set_learning_rate
    from training.runs.checkpoints import start_from
    from training.runs.fabric import load_from, refuse_nan, start_fabric
    from training.runs.loop import TrainingRun
    from training.validation import evaluate_network, write_metrics

    fabric = start_fabric(config)
    seed_everything(config.seed, verbose=False)

    # Data: draws depend on (seed, position) only.
    shares = class_shares(pairs, classes)
    store = open_cache(config.data.cache, [*pairs, *night_pairs], night_images if config.cheap_night.share else [])
    labelled_samples = LabelledSamples(
        pairs,
        night_images,
        draw=draw_labelled(
            shares,
            groups_by_shard(pairs, config.data.shard_groups),
            seed=config.seed,
            share=config.rare_class_share,
            temperature=config.rare_class_temperature,
            batch_size=config.batch_size,
        ),
        augmentation=config.augmentation,
        cheap_night=config.cheap_night,
        seed=config.seed,
        exposure=exposure_of(config.network),
        store=store,
    )
    # pseudo-labelled night images, drawn evenly and not darkened any further
    night_samples = LabelledSamples(
        night_pairs,
        [],
        draw=draw_evenly(max(len(night_pairs), 1), seed=config.seed, order=Stream.NIGHT_ORDER),
        augmentation=config.augmentation,
        cheap_night=CheapNight(share=0.0),
        seed=config.seed,
        view=Stream.NIGHT_VIEW,
        exposure=exposure_of(config.network),
        store=store,
    )

    # Network, teacher, optimiser; the tutor is the network that `distillation` names.
    network = build_network(config.network, num_classes=len(classes)).to(memory_format=torch.channels_last)
    ancestors = start_from(network, config.network)
    teacher = fabric.to_device(copy_as_teacher(network))
    tutor = None
    if config.distillation.checkpoint:
        loaded, _ = load_teacher(Path(config.distillation.checkpoint))
        tutor = fabric.to_device(loaded.to(memory_format=torch.channels_last))
    weights = torch.tensor(class_weights(shares, exponent=config.loss.class_weight_exponent), dtype=torch.float32)
    loss_of = partial(segmentation_loss, config=config.loss, class_weights=fabric.to_device(weights))
    student, optimiser = fabric.setup(network, build_optimiser(network, config))
    set_to_training(student, config.network)

    run = TrainingRun(
        config,
        fabric,
        {"student": student, "teacher": teacher, "optimiser": optimiser},
        inputs=inputs,
        ancestors=ancestors,
    )
    evaluate = partial(
        evaluate_network,
        teacher,
        validation_sets,
        input_px=config.network.input_px,
        exposure=exposure_of(config.network),
        classes=classes,
    )
    batches_of = partial(
        load_from, start_step=run.step, stop_step=config.steps, loader_workers=config.loader_workers, fabric=fabric
    )
    labelled_batches = iter(batches_of(labelled_samples, config.batch_size))
    night_batches = iter(batches_of(night_samples, self_training.batch_size)) if night_pairs else None

    while run.step < config.steps:
        set_learning_rate(optimiser, config, run.step)
        run.seed_dropout()
        labelled = next(labelled_batches)
        terms: dict[str, Tensor] = {}
        if night_batches is None:
            logits = student(labelled["images"])
            loss = terms["labelled"] = mean_over_processes(loss_of(logits, labelled["labels"]), fabric)
        else:
            night = next(night_batches)
            night_pixels, night_labels = night["images"], night["labels"]
            if generator(config.seed, Stream.MIX_OR_NOT, run.step).random() < self_training.mix_share:
                # every n-th labelled image, so that the pairs are the same in any number of processes
                every = max(config.batch_size // self_training.batch_size, 1)
                night_pixels, night_labels = mix_classes(
                    labelled["images"][::every],
                    labelled["labels"][::every],
                    night_pixels,
                    night_labels,
                    seed=config.seed,
                    step=run.step,
                    first_position=fabric.global_rank * len(night_pixels),
                )
            logits = student(torch.cat([labelled["images"], night_pixels]))
            labelled_logits, night_logits = logits.split([len(labelled["images"]), len(night_pixels)])
            by_day, by_night = loss_of(labelled_logits, labelled["labels"]), loss_of(night_logits, night_labels)
            terms["labelled"] = mean_over_processes(by_day, fabric)
            terms["pseudo_labelled"] = mean_over_processes(by_night, fabric)
            if self_training.pooled:
                loss = mean_over_processes(pooled(by_day, by_night, weight=self_training.weight), fabric)
            else:
                loss = terms["labelled"] + self_training.weight * terms["pseudo_labelled"]
            if tutor is not None:
                distilled = distillation_loss(night_logits, answers_of(tutor, night_pixels))
                terms["distilled"] = mean_over_processes(distilled, fabric)
                loss = loss + config.distillation.weight * terms["distilled"]
        refuse_nan(loss, run.step, run.last, fabric=fabric)

        optimiser.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(student, optimiser, max_norm=config.optimiser.gradient_clip)
        optimiser.step()
        update_teacher(teacher, network, step=run.step, decay=config.optimiser.average_decay)
        scalars = {f"loss/{name}": term.detach() for name, term in terms.items()}
        scalars["learning_rate/decoder"] = torch.tensor(optimiser.param_groups[-1]["lr"])
        run.finish_step(scalars)

        if run.step % config.evaluate_every == 0 and run.step < config.steps:
            if fabric.is_global_zero:
                run.report(evaluate())
                run.keep()
            fabric.barrier()

    if fabric.is_global_zero:
        metrics = evaluate()
        run.report(metrics)
        write_metrics(run.output / "metrics.json", metrics)
    run.close()
    fabric.barrier()


def answers_of(tutor: nn.Module, images: Tensor) -> Tensor:
    """Its logits, (B, K, H/4, W/4), as constants."""
    import torch

    with torch.no_grad():
        answers: Tensor = tutor(images)
    return answers


if __name__ == "__main__":
    main()
