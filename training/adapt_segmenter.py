"""Adapt a segmenter to the night: its own average answers unlabelled night images, from which it learns.

    python -m training.adapt_segmenter --config training/configs/adapt_slim.yaml [key=value …]
    fabric run --devices 4 --num-nodes 2 … training/adapt_segmenter.py --config … [key=value …]

In each step the averaged student (the teacher) answers the night images, together with larger teachers if
`data.answers` holds theirs. The student learns these answers from a changed view of the same pixels. Each part of the
recipe is a setting of `training.adaptation.settings` and can be switched alone. Started again with the same config, a
run continues from its last checkpoint as if it had never stopped.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from darkseg_ros.classes import IGNORE_INDEX
from training.adaptation.settings import AdaptationConfig
from training.data.cache import open_cache
from training.data.class_table import classes_of
from training.data.listing import file_digests, files_digest, pairs_digest
from training.data.pairs import find_images, find_labelled_pool, find_validation_sets
from training.data.shards import groups_by_shard
from training.runs.config import read_command_line
from training.runs.results import one_line_errors
from training.segmenter_config import refuse_unusable_loss, refuse_unusable_sizes


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    with one_line_errors("adapt_segmenter"):
        adapt(read_command_line(AdaptationConfig, __doc__ or "", arguments))


def adapt(config: DictConfig) -> None:
    """One whole run, or the rest of one: checkpoints, TensorBoard events and metrics.json in `config.output`.

    Args:
        config: a resolved `AdaptationConfig`.

    Raises:
        InputError: on unusable data, a checkpoint of another configuration, a loss that is no number, a full disk.
    """
    # What is wrong with settings and data is told before torch is loaded.
    refuse_unusable_loss(config.loss)
    refuse_unusable_sizes(config)
    classes = classes_of(config)
    pairs = find_labelled_pool(config.data.source, classes)
    night_images = find_images(Path(config.data.night))
    validation_sets = find_validation_sets(config.data.validation, classes)
    inputs = {
        "data.classes": repr(classes.to_json()),
        "data.source": pairs_digest(pairs),
        "data.night": files_digest(night_images),
        **file_digests(config, "data.boxes", "data.answers", "network.encoder_weights", "network.start_checkpoint"),
    }

    import torch
    from lightning_fabric.utilities.seed import seed_everything

    from training.adaptation.class_mix import mix_in_some_steps
    from training.adaptation.distillation import FeatureAnchor, paste_labels, soft_cross_entropy
    from training.adaptation.masking import mask_blocks
    from training.adaptation.night_answers import night_answers
    from training.adaptation.night_samples import NightSamples
    from training.adaptation.object_warp import ObjectWarpedSamples
    from training.adaptation.second_opinion import read_boxes
    from training.adaptation.student import Student
    from training.data.class_balance import class_shares
    from training.data.draws import draw_labelled
    from training.data.samples import LabelledSamples
    from training.losses import class_weight_tensor, mean_over_processes, segmentation_loss
    from training.networks.build import build_network
    from training.networks.config import exposure_of, input_hw_of
    from training.runs.fabric import load_from, refuse_nan, start_fabric
    from training.runs.loop import TrainingRun
    from training.validation import evaluate_network, write_metrics

    fabric = start_fabric(config)
    seed_everything(config.seed, verbose=False)
    night_config, exposure = config.night, exposure_of(config.network)

    # Data: draws depend on (seed, position) only.
    shares = class_shares(pairs, classes)
    store = open_cache(config.data.cache, pairs, night_images)
    labelled_samples = ObjectWarpedSamples(
        LabelledSamples(
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
            exposure=exposure,
            store=store,
        ),
        share=config.object_warp_share,
        seed=config.seed,
        classes=classes,
    )
    night_samples = NightSamples(
        night_images,
        augmentation=config.augmentation,
        strong=config.strong,
        exposure=exposure,
        boxes=read_boxes(Path(config.data.boxes)) if config.data.boxes else {},
        score_min=night_config.box_score_min,
        answers=Path(config.data.answers) if config.data.answers else None,
        seed=config.seed,
        store=store,
        classes=classes,
    )

    # The anchor is the encoder before the weights of ``network.start_checkpoint``.
    network = build_network(config.network, num_classes=len(classes)).to(memory_format=torch.channels_last)
    anchor = FeatureAnchor(network.encoder, network.encoder, classes) if config.anchor_weight else None
    student = Student(network, config, fabric)
    weights = fabric.to_device(class_weight_tensor(shares, exponent=config.loss.class_weight_exponent))
    log_weights = fabric.to_device(class_weight_tensor(shares, exponent=1.0).log())
    answers_of = partial(night_answers, config=night_config, log_weights=log_weights, classes=classes)

    run = TrainingRun(config, fabric, student.parts, inputs=inputs, ancestors=student.ancestors)
    evaluate = partial(
        evaluate_network,
        student.teacher,
        validation_sets,
        input_hw=input_hw_of(config.network),
        exposure=exposure,
        classes=classes,
    )
    batches_of = partial(
        load_from, start_step=run.step, stop_step=config.steps, loader_workers=config.loader_workers, fabric=fabric
    )
    labelled_batches = iter(batches_of(labelled_samples, config.batch_size))
    night_batches = iter(batches_of(night_samples, night_config.batch_size))

    while run.step < config.steps:
        run.seed_dropout()
        labelled, night = next(labelled_batches), next(night_batches)
        with fabric.autocast():
            wanted, trust = answers_of(student.teacher, night)
        images, pasted = mix_in_some_steps(
            labelled,
            night["strong"],
            labelled["labels"].new_full((len(night["strong"]), *night["strong"].shape[-2:]), IGNORE_INDEX),
            share=night_config.mix_share,
            seed=config.seed,
            step=run.step,
            rank=fabric.global_rank,
        )
        wanted, trust = paste_labels(wanted, trust, pasted)
        images = mask_blocks(
            images,
            share=night_config.masked_share,
            ratio=night_config.masked_ratio,
            block_px=night_config.masked_block_px,
            seed=config.seed,
            step=run.step,
            first_position=fabric.global_rank * len(images),
        )
        logits = student(torch.cat([labelled["images"], images]))
        labelled_logits, night_logits = logits.split([len(labelled["images"]), len(images)])
        terms = {
            "labelled": segmentation_loss(
                labelled_logits, labelled["labels"], config=config.loss, class_weights=weights
            ),
            "night": soft_cross_entropy(night_logits, wanted, trust),
        }
        if anchor:
            terms["anchor"] = anchor.distance(labelled["images"], labelled["labels"])
        means = {name: mean_over_processes(term, fabric) for name, term in terms.items()}
        factors = {"labelled": 1.0, "night": night_config.weight, "anchor": config.anchor_weight}
        loss = torch.stack([factors[name] * mean for name, mean in means.items()]).sum()
        refuse_nan(loss, run.step, run.last, fabric=fabric)

        student.learn(loss, step=run.step)
        run.finish_step({f"loss/{name}": mean.detach() for name, mean in means.items()})

        if run.is_due(config.evaluate_every):
            if fabric.is_global_zero:
                metrics = evaluate()
                run.report(metrics)
                write_metrics(run.output / "metrics.json", metrics)
            fabric.barrier()
    run.close()


if __name__ == "__main__":
    main()
