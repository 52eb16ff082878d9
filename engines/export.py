"""Export a checkpoint to a bundle: fused ONNX, int8 graphs for CPU and TensorRT, golden answer, model card.

    python -m engines.export --checkpoint runs/segmenter_slim/checkpoints/last.pt --name darkseg_slim

With ``--reference``, a checkpoint that was trained without real night images, the confidence is calibrated for the
night as well; see engines/temperature.py.

The images for calibration and validation are those of the checkpoint's own config; where they lie elsewhere now:

    python -m engines.export --checkpoint … --name … data.night=/data/night data.validation.day=/data/val …

Nothing is written unless int8 on
the CPU keeps the accuracy, with layers in float where need be, and all graphs answer as the network in torch does. An
int8 graph for TensorRT that does not keep it is left out, and the model card says so.
"""

from __future__ import annotations

import os
import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from darkseg_ros.classes import ClassTable
from darkseg_ros.errors import InputError
from darkseg_ros.evaluation.folder import evaluate_files
from darkseg_ros.evaluation.metrics import Metrics
from darkseg_ros.frames.labelled import LabelledImage, read_labelled
from darkseg_ros.frames.source import read_image
from darkseg_ros.model.backends import open_engine
from darkseg_ros.model.backends.open import check_golden
from darkseg_ros.model.bundle import ANY_MATCH, EXACT_MATCH, Golden, GoldenMatch, ModelBundle, load_bundle
from darkseg_ros.model.exposure import Exposure
from darkseg_ros.model.segmenter import Segmenter, preprocess
from darkseg_ros.night.cheap_night import CheapNight, darken
from darkseg_ros.synthetic_drive import SyntheticDrive
from engines.bundle_writer import BundleContent, check_name, write_bundle
from engines.fused_graph import FusedGraph, LogitsGraph, cut_at_logits
from engines.half_precision import measured_fp16_match
from engines.model_card import Int8Graph, ModelFacts, data_rows, write_model_card
from engines.parity import CPU_BACKENDS, compare
from engines.quantisation import (
    FLOAT_LAYERS_TRIED,
    float_layers,
    quantise,
    quantise_symmetric,
    quantise_within,
    relative_time,
)
from engines.temperature import (
    collect_agreement,
    collect_logits,
    fit_temperature,
    match_temperature,
    temperature_between,
)
from training.adaptation.settings import AdaptationData
from training.adaptation.teacher import load_teacher
from training.data.class_table import classes_of
from training.data.pairs import find_images, find_labelled_pool, find_validation_sets
from training.networks.config import complete, exposure_of, input_hw_of
from training.networks.input_size import SIDE_MULTIPLE
from training.runs.config import in_todays_form
from training.runs.results import one_line_errors
from training.segmenter_config import DataConfig

MIOU_LOSS_MAX = 0.005
"""int8 may cost this much mIoU against float on the set that `judged_set` names, by day as a rule. By night it is told
and not judged: on 17 images the mIoU has a 95 % interval of 0.08, and a class that one of them holds moves it by more
than this limit."""

_OPSET = 20
_CALIBRATION_IMAGES = 96
FUSED_MATCH = GoldenMatch(agreement=0.995, confidence_difference=16.0)
"""What the graph must reach that made the golden answer, in other libraries and in fp16 too."""
_INT8_AGREEMENT_MARGIN = 0.03  # other CPUs and GPUs round int8 a little differently
_OPENINGS = 3
_INT8_CONFIDENCE_MARGIN = 11.0  # of 255; with the shipped graph's 5 it makes the 16 that bundles without a limit have
_PARITY_EVERY = 5  # of the day validation images: torch takes its time


def main(arguments: list[str] | None = None) -> None:
    """Run the export from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint of training.train_segmenter")
    parser.add_argument("--name", required=True, help="of the bundle and its folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of bundles (default: engines/)")
    parser.add_argument("--reference", type=Path, help="checkpoint of a day segmenter: calibrate for the night too")
    parser.add_argument(
        "--night-agreement",
        type=float,
        metavar="SHARE",
        help="in the place of --reference: the share of night pixels on which it agreed with the model trained further",
    )
    parser.add_argument("--recipe", type=Path, help="Markdown text on how the checkpoint was made, for the model card")
    parser.add_argument(
        "--input-hw",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help=f"size that frames are stretched to, multiples of {SIDE_MULTIPLE}; default: the training's",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="data.key=value",
        help="where data of the checkpoint's config lie on this machine",
    )
    parsed = parser.parse_args(arguments)
    with one_line_errors("export"):
        bundle = export(
            parsed.checkpoint,
            name=parsed.name,
            out=parsed.out,
            reference=parsed.reference,
            night_agreement=parsed.night_agreement,
            recipe=parsed.recipe,
            input_hw=tuple(parsed.input_hw) if parsed.input_hw else None,
            overrides=parsed.overrides,
        )
    print(f"wrote {bundle}")


def export(
    checkpoint: Path,
    *,
    name: str,
    out: Path,
    reference: Path | None = None,
    night_agreement: float | None = None,
    recipe: Path | None = None,
    input_hw: tuple[int, int] | None = None,
    overrides: Sequence[str] = (),
) -> Path:
    """Write the bundle ``out/name`` and return its path.

    Args:
        checkpoint: of `training.train_segmenter`; its averaged weights are exported.
        name: of the bundle.
        out: folder of bundles.
        reference: checkpoint of a segmenter of the same input size, trained without real night images.
        night_agreement: where no reference is at hand, the agreement that the model card of an earlier state of this
            model tells, 0…1.
        recipe: Markdown file for the model card's section on training.
        input_hw: size of the graphs, multiples of `SIDE_MULTIPLE`; None takes the training's.
        overrides: ``data.key=value`` that replace settings of the checkpoint's config.

    Raises:
        InputError: if ``out/name`` cannot be a bundle, a checkpoint is none, the two differ in input size, the size
            does not fit, the images or the recipe are missing, int8 loses more than `MIOU_LOSS_MAX` on the CPU, or a
            graph answers otherwise than the network in torch.
    """
    if input_hw is not None and (min(input_hw) < SIDE_MULTIPLE or any(side % SIDE_MULTIPLE for side in input_hw)):
        raise InputError(
            f"the input size {input_hw[0]}×{input_hw[1]} does not fit; expected multiples of {SIDE_MULTIPLE}, "
            "such as --input-hw 512 1024"
        )
    if night_agreement is not None and (reference is not None or not 0 < night_agreement < 1):
        raise InputError(f"--night-agreement is {night_agreement}; expected 0…1, and no --reference beside it")
    check_name(out, name)
    network, state = load_teacher(checkpoint)
    config = config_of(state, overrides)
    trained_hw, classes = input_hw_of(config.network), classes_of(config)
    try:
        recipe_text = recipe.read_text(encoding="utf-8") if recipe else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the recipe {recipe} cannot be read ({error}); expected a Markdown file") from error
    day_network = _load_day_network(reference, trained_hw, classes) if reference else None
    network_hw = input_hw or trained_hw
    exposure = exposure_of(config.network)

    day_train = find_labelled_pool(config.data.source, classes)
    night_images = find_images(Path(config.data.night))
    validation = find_validation_sets(config.data.validation, classes)
    judged = judged_set(list(validation))
    counts = {"source": len(day_train), "night": len(night_images)}
    counts |= {f"validation.{name}": len(pairs) for name, pairs in validation.items()}

    # Calibrated on training images the network saw least of: pixels of the day validation set would flatter its ECE.
    temperature = fit_temperature(
        *collect_logits(network, day_train[::15], night_images, network_hw=network_hw, exposure=exposure)
    )
    calibration = "fitted on training images, half of them darkened"
    if day_network is not None:
        logits, agreement = collect_agreement(
            network, day_network, night_images[::8], network_hw=network_hw, exposure=exposure
        )
        night_temperature = match_temperature(logits, agreement)
        calibration = (
            f"the geometric mean of {temperature:.3f}, {calibration}, and {night_temperature:.3f}, at which the mean "
            f"confidence on unlabelled night images is the share of pixels, {agreement:.3f}, on which a segmenter "
            "trained without such images agrees"
        )
        temperature = temperature_between(temperature, night_temperature)
    elif night_agreement is not None:
        logits, _ = collect_agreement(network, network, night_images[::8], network_hw=network_hw, exposure=exposure)
        night_temperature = match_temperature(logits, night_agreement)
        calibration = (
            f"the geometric mean of {temperature:.3f}, {calibration}, and {night_temperature:.3f}, at which the mean "
            f"confidence on unlabelled night images is {night_agreement:.3f}, the share of pixels on which a segmenter "
            "trained without such images agreed with the model that this one began as"
        )
        temperature = temperature_between(temperature, night_temperature)
    print(f"temperature {temperature:.3f}: {calibration}")

    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        graph = FusedGraph(LogitsGraph(network), temperature=temperature)
        fused_onnx, logits_onnx = work / "fused.onnx", work / "logits.onnx"
        frames = golden_frames(network_hw, exposure)
        export_onnx(graph, frames, fused_onnx, ["class_map", "confidence"])
        cut_at_logits(fused_onnx, logits_onnx)
        calibration_set = calibration_frames(day_train, night_images, network_hw, exposure)
        golden = golden_answer(fused_onnx, frames)
        content = BundleContent(
            name=name,
            network_hw=network_hw,
            temperature=temperature,
            fused_onnx=fused_onnx,
            cpu_graph=quantise(logits_onnx, calibration_set, work / "cpu_int8.xml"),
            golden=golden,
            fused_match=FUSED_MATCH,
            fp16_match=measured_fp16_match(fused_onnx, golden),
            cpu_match=ANY_MATCH,
            model_card="",
            exposure=exposure,
            classes=classes,
        )
        draft = write_bundle(work / "draft", content)
        float_metrics = evaluate_bundle(load_bundle(draft), "onnxruntime", validation)
        cpu = Int8Graph(evaluate_bundle(load_bundle(draft), "openvino", validation))
        plain_loss = miou_loss(float_metrics, cpu.metrics, judged)
        if plain_loss > MIOU_LOSS_MAX:
            print(
                f"int8 on the CPU loses {plain_loss:.4f} {judged} mIoU, allowed is {MIOU_LOSS_MAX}: "
                "trying layers in float"
            )
            within = quantise_within(
                logits_onnx,
                calibration_set,
                work / "cpu_within.xml",
                validation=validation[judged],
                miou_loss_max=MIOU_LOSS_MAX,
                exposure=exposure,
                classes=classes,
            )
            float_anyway = float_layers(content.cpu_graph)
            kept = tuple(layer for layer in float_layers(within) if layer not in float_anyway)
            slowdown = relative_time(within, content.cpu_graph, frames)
            content = replace(content, cpu_graph=within)
            draft = write_bundle(work / "draft", content)
            metrics = evaluate_bundle(load_bundle(draft), "openvino", validation)
            cpu = Int8Graph(metrics, float_layers=kept, plain_loss=plain_loss, slowdown=slowdown)
        loss = miou_loss(float_metrics, cpu.metrics, judged)
        if loss > MIOU_LOSS_MAX:
            raise InputError(
                f"int8 loses {loss:.4f} {judged} mIoU, at most {MIOU_LOSS_MAX} is allowed; nothing was written: "
                "use more calibration images or another encoder"
            )
        content = replace(content, cpu_match=least_match_of(match_on_golden(load_bundle(draft), "openvino")))

        content, tensorrt = _with_int8_for_tensorrt(content, calibration_set, float_metrics, validation, work, judged)
        draft = write_bundle(work / "draft", content)
        # that int8 keeps its mIoU was judged above, on all images; here the graphs are held against torch
        some = validation | {judged: validation[judged][::_PARITY_EVERY]}
        parity = compare(draft, checkpoint, some, backends=CPU_BACKENDS)
        if failures := parity.failures():
            raise InputError(
                f"the graphs answer otherwise than the network; nothing was written: {'; '.join(failures)}"
            )
        facts = ModelFacts(
            name=name,
            step=state["step"],
            network=config.network.name,
            encoder=config.network.encoder,
            config=without_data_root(OmegaConf.to_yaml(config)),
            recipe=recipe_text,
            classes=classes,
            network_hw=network_hw,
            temperature=temperature,
            calibration=calibration,
            float_metrics=float_metrics,
            cpu=cpu,
            tensorrt=tensorrt,
            miou_loss_max=MIOU_LOSS_MAX,
            judged=judged,
            data=data_rows([*state.get("ancestors", []), cast(dict[str, Any], OmegaConf.to_container(config))], counts),
            parity=parity.table(),
            views=state.get("views"),
        )
        return write_bundle(out, replace(content, model_card=write_model_card(facts)))


def _with_int8_for_tensorrt(
    content: BundleContent,
    calibration_set: list[np.ndarray],
    float_metrics: dict[str, Metrics],
    validation: dict[str, list[LabelledImage]],
    work: Path,
    judged: str,
) -> tuple[BundleContent, Int8Graph | None]:
    """The bundle with a symmetric int8 graph, and its figures; as it was, and None, if each loses too much."""
    int8_onnx = work / "int8.onnx"
    for positions in FLOAT_LAYERS_TRIED:
        kept = tuple(quantise_symmetric(content.fused_onnx, calibration_set, int8_onnx, float_layers=positions))
        strip_origins(int8_onnx)
        draft = write_bundle(work / "draft", replace(content, int8_onnx=int8_onnx, int8_match=ANY_MATCH))
        bundle = in_onnx_runtime(load_bundle(draft))
        metrics = evaluate_bundle(bundle, "onnxruntime", validation)
        loss = miou_loss(float_metrics, metrics, judged)
        print(f"int8 for TensorRT, {len(kept)} dense convolutions in float: loses {loss:.4f} {judged} mIoU")
        if loss <= MIOU_LOSS_MAX:
            least = least_match_of(match_on_golden(bundle, "onnxruntime"))
            return (
                replace(content, int8_onnx=int8_onnx, int8_match=least),
                Int8Graph(metrics, float_layers=kept),
            )
    print(
        f"warning: the bundle gets no int8 graph for TensorRT: each loses more than {MIOU_LOSS_MAX} {judged} mIoU; "
        "build its plans with --precision fp16"
    )
    return content, None


def config_of(state: Mapping[str, Any], overrides: Sequence[str]) -> DictConfig:
    """The settings of a checkpoint's run, with data where they lie now.

    Raises:
        InputError: if an override does not begin with ``data.`` or is no setting.
    """
    other = next((override for override in overrides if not override.startswith("data.")), None)
    if other is not None:
        raise InputError(f"{other} cannot be changed after the training; expected data.key=value")
    try:
        saved = in_todays_form(state["config"])["data"]
        schema = AdaptationData if "boxes" in saved else DataConfig
        given = OmegaConf.merge(OmegaConf.structured(schema), saved)
        asked = OmegaConf.create(
            in_todays_form(cast(dict[str, Any], OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))))
        )
        given = OmegaConf.merge(given, asked.get("data", {}))
    except OmegaConfBaseException as error:
        raise InputError(f"{' '.join(overrides)}: {str(error).splitlines()[0]}") from error
    return OmegaConf.create({**state["config"], "data": OmegaConf.to_container(given)})


def judged_set(names: Sequence[str]) -> str:
    """The validation set whose mIoU int8 must keep: day where there is one, else the first.

    Raises:
        InputError: if there is none.
    """
    if not names:
        raise InputError("the run has no validation set to judge int8 by; name one: data.validation.day=FOLDER")
    return "day" if "day" in names else names[0]


def miou_loss(float_metrics: dict[str, Metrics], metrics: dict[str, Metrics], judged: str) -> float:
    """What a graph loses of the float graph's mIoU on one validation set."""
    return float_metrics[judged].miou - metrics[judged].miou


def without_data_root(config_yaml: str) -> str:
    """A run's settings with $DARKSEG_DATA for the folder it names: model cards travel, a machine's paths need not."""
    root = os.environ.get("DARKSEG_DATA", "").rstrip("/")
    return config_yaml.replace(f"{root}/", "$DARKSEG_DATA/") if root else config_yaml


def least_match_of(measured: GoldenMatch) -> GoldenMatch:
    """How well every machine's int8 must match the golden answer, from how well this one's does."""
    return GoldenMatch(
        agreement=round(max(measured.agreement - _INT8_AGREEMENT_MARGIN, 0.0), 3),
        confidence_difference=round(min(measured.confidence_difference + _INT8_CONFIDENCE_MARGIN, 255.0), 1),
    )


def _load_day_network(reference: Path, trained_hw: tuple[int, int], classes: ClassTable) -> torch.nn.Module:
    network, state = load_teacher(reference)
    reference_hw = input_hw_of(complete(state["config"]["network"]))
    if reference_hw != trained_hw:
        raise InputError(
            f"{reference} sees {reference_hw[0]}×{reference_hw[1]} pixels, the checkpoint to export "
            f"{trained_hw[0]}×{trained_hw[1]}; choose a reference of the same network.input_px and width_over_height"
        )
    if classes_of(state["config"]) != classes:
        raise InputError(f"{reference} has other classes than the checkpoint to export; choose one of the same classes")
    return network


def golden_frames(network_hw: tuple[int, int], exposure: Exposure | None = None) -> np.ndarray:
    """(1, H, W, 3) uint8: a generated night scene, since no real image may go into a bundle."""
    return preprocess(generated_scene(night=True), network_hw, exposure)


@lru_cache(maxsize=2)
def generated_scene(*, night: bool) -> np.ndarray:
    """(512, 1024, 3) uint8 BGR, the same each time; not to be changed."""
    return SyntheticDrive(seed=0, size_hw=(512, 1024), night=night).frame(0).bgr


def export_onnx(module: torch.nn.Module, frames: np.ndarray, path: Path, output_names: list[str]) -> None:
    """Trace a module from uint8 frames to one self-contained ONNX file."""
    torch.onnx.export(
        module.eval(),
        (torch.from_numpy(frames),),
        str(path),
        dynamo=True,
        opset_version=_OPSET,
        external_data=False,
        input_names=["frame"],
        output_names=output_names,
        verbose=False,
    )
    strip_origins(path)


def strip_origins(path: Path) -> None:
    """Remove what the exporter notes on every node: source lines, with the paths of the machine that exported."""
    model = onnx.load(str(path))
    for graph in (model.graph, *model.functions):
        for part in (graph, *graph.node, *graph.value_info):
            del part.metadata_props[:]
            part.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.metadata_props[:]
    path.write_bytes(model.SerializeToString())


def calibration_frames(
    day: list[LabelledImage],
    night_images: list[Path],
    network_hw: tuple[int, int],
    exposure: Exposure | None = None,
) -> list[np.ndarray]:
    """A third day, a third darkened day, a third real night; each (1, H, W, 3) uint8."""
    rng = np.random.default_rng(0)
    frames = []
    for index in range(_CALIBRATION_IMAGES):
        night_bgr = read_image(night_images[rng.integers(len(night_images))])
        bgr = night_bgr
        if index % 3:
            bgr, _ = read_labelled(day[rng.integers(len(day))])
        if index % 3 == 2:
            bgr = darken(bgr, night_bgr, CheapNight(), rng)
        frames.append(preprocess(bgr, network_hw, exposure))
    return frames


def golden_answer(fused_onnx: Path, frames: np.ndarray) -> Golden:
    """The fused float graph's answer in ONNX Runtime: the reference for every engine."""
    session = onnxruntime.InferenceSession(str(fused_onnx), providers=["CPUExecutionProvider"])
    class_map, confidence = session.run(["class_map", "confidence"], {"frame": frames})
    return Golden(frames=frames, class_map=class_map, confidence=confidence)


def in_onnx_runtime(bundle: ModelBundle) -> ModelBundle:
    """The bundle with its symmetric int8 graph in place of the float one, which ONNX Runtime then runs."""
    assert bundle.int8_onnx is not None
    return replace(bundle, fused_onnx=bundle.int8_onnx, fused_match=bundle.int8_match)


def match_on_golden(bundle: ModelBundle, backend: str) -> GoldenMatch:
    """How well a backend's answer to the golden frame matches the float graph's, the worst of several openings.

    OpenVINO compiles some graphs anew each time: the int8 graph of a small segformer answered otherwise after each
    opening, and its confidence was 11 to 19 of 255 off. Convolutional networks, the shipped ones too, do not change.
    """
    worst = EXACT_MATCH
    for _ in range(_OPENINGS):
        with closing(open_engine(bundle, backend=backend)) as engine:
            worst = worst.or_worse(check_golden(engine, bundle, ANY_MATCH))
    return worst


def evaluate_bundle(
    bundle: ModelBundle, backend: str, validation: dict[str, list[LabelledImage]]
) -> dict[str, Metrics]:
    """Metrics of a bundle as the vehicle runs it, by validation set."""
    segmenter = Segmenter(bundle, open_engine(bundle, backend=backend))
    metrics = {name: evaluate_files(segmenter, pairs).metrics for name, pairs in validation.items()}
    segmenter.close()
    return metrics


if __name__ == "__main__":
    main()
