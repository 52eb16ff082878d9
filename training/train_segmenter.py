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
from training.data.listing import file_digests, files_digest, pairs_digest
from training.data.pairs import find_images, find_labelled_pool, find_pseudo_labelled_images, find_validation_sets
from training.data.random_streams import Stream
from training.data.shards import groups_by_shard
from training.runs.config import read_command_line
from training.runs.results import one_line_errors
from training.segmenter_config import SegmenterConfig, refuse_unusable

if TYPE_CHECKING:
    from torch import Tensor


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
        **file_digests(config, "network.encoder_weights", "network.start_checkpoint", "distillation.checkpoint"),
    }

    import torch
    from lightning_fabric.utilities.seed import seed_everything

    from darkseg_ros.night.cheap_night import CheapNight
    from training.adaptation.class_mix import mix_in_some_steps
    from training.adaptation.student import Student
    from training.adaptation.teacher import load_tutor
    from training.data.class_balance import class_shares
    from training.data.draws import draw_evenly, draw_labelled
    from training.data.samples import LabelledSamples
    from training.losses import (
        class_weight_tensor,
        distillation_loss,
        mean_over_processes,
        pooled,
        segmentation_loss,
    )
    from training.networks.build import build_network
    from training.networks.config import exposure_of, input_hw_of
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

    network = build_network(config.network, num_classes=len(classes)).to(memory_format=torch.channels_last)
    student = Student(network, config, fabric)
    tutor = load_tutor(config.distillation.checkpoint, fabric)
    weights = class_weight_tensor(shares, exponent=config.loss.class_weight_exponent)
    loss_of = partial(segmentation_loss, config=config.loss, class_weights=fabric.to_device(weights))
    run = TrainingRun(config, fabric, student.parts, inputs=inputs, ancestors=student.ancestors)
    evaluate = partial(
        evaluate_network,
        student.teacher,
        validation_sets,
        input_hw=input_hw_of(config.network),
        exposure=exposure_of(config.network),
        classes=classes,
    )
    batches_of = partial(
        load_from, start_step=run.step, stop_step=config.steps, loader_workers=config.loader_workers, fabric=fabric
    )
    labelled_batches = iter(batches_of(labelled_samples, config.batch_size))
    night_batches = iter(batches_of(night_samples, self_training.batch_size)) if night_pairs else None

    while run.step < config.steps:
        run.seed_dropout()
        labelled = next(labelled_batches)
        terms: dict[str, Tensor] = {}
        if night_batches is None:
            logits = student(labelled["images"])
            loss = terms["labelled"] = mean_over_processes(loss_of(logits, labelled["labels"]), fabric)
        else:
            night = next(night_batches)
            night_pixels, night_labels = mix_in_some_steps(
                labelled,
                night["images"],
                night["labels"],
                share=self_training.mix_share,
                seed=config.seed,
                step=run.step,
                rank=fabric.global_rank,
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
                distilled = distillation_loss(night_logits, tutor(night_pixels))
                terms["distilled"] = mean_over_processes(distilled, fabric)
                loss = loss + config.distillation.weight * terms["distilled"]
        refuse_nan(loss, run.step, run.last, fabric=fabric)
        student.learn(loss, step=run.step)
        scalars = {f"loss/{name}": term.detach() for name, term in terms.items()}
        scalars["learning_rate/decoder"] = torch.tensor(student.optimiser.param_groups[-1]["lr"])
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


if __name__ == "__main__":
    main()
