"""Train a translator between day and night images: UNIT, CycleGAN or Pix2Pix, as the config's `translator` says.

    python -m training.train_translator --config training/configs/cyclegan_mini.yaml [key=value …]
    fabric run --devices 4 … training/train_translator.py --config … [key=value …]

UNIT and CycleGAN learn from images without partners and without labels, Pix2Pix from pairs of the same name. Started
again with the same config, a run continues from its last checkpoint as if it had never stopped.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from darkseg_ros.errors import InputError
from training.data.cache import open_cache
from training.data.image_lists import find_domain_images
from training.data.listing import file_digest, files_digest
from training.runs.config import read_command_line
from training.runs.results import one_line_errors
from training.translation.catalogue import name_of, training_of, translator_kind


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    with one_line_errors("train_translator"):
        train(read_command_line(_schema_of, __doc__ or "", arguments))


def train(config: DictConfig) -> None:
    """One whole run, or the rest of one: checkpoints, TensorBoard events and sample sheets in `config.output`.

    Args:
        config: resolved, of the schema of its translator.

    Raises:
        InputError: on unusable data or settings, or a checkpoint of another configuration.
    """
    # What is wrong with settings and data is told before torch is loaded.
    kind = translator_kind(config.translator)
    kind.refuse_unusable(config)
    day_images = find_domain_images(config.data.day, config.data.day_list)
    night_images = find_domain_images(config.data.night, config.data.night_list)
    if kind.paired:
        day_images, night_images = paired(day_images, night_images)
    inputs = {"data.day": files_digest(day_images), "data.night": files_digest(night_images)}
    if config.translator == "unit":
        inputs["perceptual.vgg_weights"] = file_digest(
            config.perceptual.vgg_weights if config.weights.perceptual else None
        )

    from lightning_fabric.utilities.seed import seed_everything

    from training.runs.fabric import load_from, start_fabric
    from training.runs.loop import TrainingRun
    from training.runs.results import write_picture

    fabric = start_fabric(config)
    seed_everything(config.seed, verbose=False)
    store = open_cache(config.data.cache, [], [*day_images, *night_images])
    training = training_of(config.translator)(config, fabric, day_images, night_images, store)
    run = TrainingRun(config, fabric, training.parts, inputs=inputs)
    batches = load_from(
        training.samples,
        config.batch_size,
        start_step=run.step,
        stop_step=config.steps,
        loader_workers=config.loader_workers,
        fabric=fabric,
    )
    for batch in batches:
        terms = training.step(batch, run)
        run.finish_step({f"loss/{name}": value.detach() for name, value in terms.items()})
        if run.board and run.is_due(config.evaluate_every):
            sheet = training.sheet()
            write_picture(run.output / "samples" / f"step_{run.step:06d}.png", sheet)
            run.board.add_image("samples", sheet[:, :, ::-1], run.step, dataformats="HWC")
    run.close()


def paired(day: list[Path], night: list[Path]) -> tuple[list[Path], list[Path]]:
    """Images by day and their partners of the same stem by night.

    Raises:
        InputError: if a stem occurs twice in a domain, or an image has no partner.
    """
    by_stem = [{path.stem: path for path in images} for images in (day, night)]
    for images, known in zip((day, night), by_stem, strict=True):
        if twice := next((path for path in images if known[path.stem] is not path), None):
            raise InputError(f"{twice} has the stem of {known[twice.stem]}; partners are found by it: rename one")
    for known, others, light in ((by_stem[0], by_stem[1], "night"), (by_stem[1], by_stem[0], "day")):
        if alone := next((path for stem, path in known.items() if stem not in others), None):
            raise InputError(f"{alone} has no partner by {light}; add {alone.stem}.* there, or take it out")
    return day, [by_stem[1][path.stem] for path in day]


def _schema_of(path: Path) -> type:
    """The settings of the translator that a file names.

    Raises:
        InputError: if the file is missing or no mapping, or there is no such translator.
    """
    if not path.is_file():
        raise InputError(f"there is no config {path}; see training/configs/")
    try:
        settings = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no YAML: {error}") from error
    if not isinstance(settings, DictConfig):
        raise InputError(f"{path} holds no settings; see training/configs/")
    return translator_kind(name_of(settings)).schema


if __name__ == "__main__":
    main()
