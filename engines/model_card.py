"""The text of MODEL_CARD.md, from what the export measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkseg_ros.classes import CITYSCAPES, ClassTable
from darkseg_ros.evaluation.metrics import Metrics
from training.data.catalogue import data_set, origin_of
from training.data.class_table import classes_of
from training.data.pairs import MADE_BY, Source, source_of
from training.data.shards import written_from
from training.networks.config import NETWORKS
from training.networks.dense_stem import ENCODER_NAME as DENSE_STEM_ENCODER
from training.networks.input_size import side_at
from training.runs.config import in_todays_form

_ENCODERS = {
    "mobilenet_v2": "MobileNetV2",
    DENSE_STEM_ENCODER: "MobileNetV2",
    "resnet18": "ResNet-18",
    "resnet101": "ResNet-101",
}
"""As their papers write them; others go by segmentation_models_pytorch's name."""

_SPLITS = ("train", "val", "test")
_TORCHVISION_WEIGHTS = ("mobilenet_v2-", "mobilenet_v3", "resnet", "convnext", "efficientnet_")


@dataclass(frozen=True)
class Int8Graph:
    """What the card says of an int8 graph.

    Attributes:
        metrics: by validation set.
        float_layers: layers that stay float to keep the accuracy.
        plain_loss: day mIoU that it would lose without them; None where that was not too much.
        slowdown: how many times as long as without them it takes.
    """

    metrics: dict[str, Metrics]
    float_layers: tuple[str, ...] = ()
    plain_loss: float | None = None
    slowdown: float = 1.0


@dataclass(frozen=True)
class DataRow:
    """One line of the card's table of data: what, what for, on what terms."""

    data: str
    used_for: str
    terms: str


@dataclass(frozen=True)
class ModelFacts:
    """What a model card says.

    Attributes:
        name: of the bundle.
        step: optimiser steps of the last training run.
        network: a key of `training.networks.config.NETWORKS`.
        encoder: its, as `training.networks.config.NetworkConfig` names it.
        config: that run's YAML.
        recipe: Markdown on how the checkpoint was made.
        classes: that it tells apart.
        network_hw: input size.
        temperature: of the confidence.
        calibration: how it was found.
        float_metrics: of the fused graph, by validation set.
        cpu: the CPU graph.
        tensorrt: the symmetric int8 graph; None where it lost too much and was left out.
        miou_loss_max: mIoU that int8 may lose.
        judged: validation set on which.
        data: what the run and those before it read, and on what terms.
        parity: table of how far the graphs answer as the network in torch, Markdown.
        views: how often each frame is seen, as `training.average_views` wrote it; None for once.
    """

    name: str
    step: int
    network: str
    encoder: str
    config: str
    recipe: str
    classes: ClassTable
    network_hw: tuple[int, int]
    temperature: float
    calibration: str
    float_metrics: dict[str, Metrics]
    cpu: Int8Graph
    tensorrt: Int8Graph | None
    miou_loss_max: float
    judged: str
    data: tuple[DataRow, ...]
    parity: str
    views: Mapping[str, Any] | None = None


def write_model_card(facts: ModelFacts) -> str:
    """Markdown."""
    height, width = facts.network_hw
    network, encoder = NETWORKS[facts.network].title, _ENCODERS.get(facts.encoder, facts.encoder)
    stem = " behind dense convolutions on camera pixels" if facts.encoder == DENSE_STEM_ENCODER else ""
    return f"""# {facts.name}

Semantic segmentation of street scenes by night and by day into {_classes(facts.classes)}.
{network} on {encoder}{stem}; camera frames are stretched to {width}×{height} and come back at their
own size.{told_views(facts.views, height)}

## Intended use and limits

For research and development of driver assistance (QM; not certified for any safety function). Forward-facing camera at
bonnet to roof height, urban and rural roads of central Europe and North America. Not for: other viewpoints, fish-eye
lenses, thermal or infra-red cameras, identifying people. Thin and small things (poles, signs, distant people) are the
weakest, and rare classes (train, bus, truck, motorcycle, wall) are often confused with each other. Unlit sky, buildings
and trees look alike at night: read the confidence, and set `min_confidence` where a wrong class costs more than none.

## Data and terms

{_data(facts)}

The weights inherit these terms{_research_only(facts)}. No image is contained in the bundle; its golden frame is
generated.

## Figures

{_figures(facts)}

"present" is the mean over the classes that the ground truth holds, with its 95 % bootstrap interval over images; mIoU
follows cityscapesScripts. int8 is what OpenVINO runs, float what ONNX Runtime runs; both include the resize to the
camera's geometry. ECE is the expected calibration error with 15 bins.
The temperature is {facts.temperature:.3f}: {facts.calibration}.

{_int8(facts)}

{_per_class(facts.classes, facts.cpu.metrics)}

## Parity

Every way to run the bundle against the network in torch, on validation images, at the camera's geometry; "onnxruntime
int8" is the graph that TensorRT's int8 plans are built from. mIoU is here that of present classes. What int8 costs is
told by the figures above, on all images.

{facts.parity}

## Recipe

{facts.recipe.strip()}

Last run, {facts.step} steps:

```yaml
{facts.config.strip()}
```
"""


def data_rows(lineage: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> tuple[DataRow, ...]:
    """What a model learned from and is judged on, from the settings of its runs and the catalogue of data sets.

    Args:
        lineage: settings of every run that its weights went through, its own last.
        counts: images by setting of the own run: source, night, validation.NAME.
    """
    rows: list[DataRow] = []
    for settings in lineage:
        own, data = settings is lineage[-1], in_todays_form(settings)["data"]
        sources = [source_of(entry, classes_of(settings)) for entry in data["source"]]
        for source in sources:
            images = counts["source"] if own and len(sources) == 1 else None
            rows.append(_row(source, "labelled", images, "training"))
        uses = ["night light", *(["pseudo-labels"] if data.get("pseudo_labels") else []), "int8 calibration"]
        rows.append(_row(source_of(data["night"]), "unlabelled", counts["night"] if own else None, ", ".join(uses)))
        rows += _reference_row(data.get("pseudo_labels"))
        weights = settings["network"].get("encoder_weights")
        if weights and not _is_own(weights, lineage):
            name = Path(weights).name
            known = any(name.startswith(prefix) for prefix in _TORCHVISION_WEIGHTS)
            what = f"ImageNet weights of torchvision, {name}" if known else f"weights {name}"
            rows.append(DataRow(what, "start of the encoder", "BSD-3" if known else "those of its authors"))
    own_sets = in_todays_form(lineage[-1])["data"].get("validation") or {}
    for name, entry in own_sets.items():
        if entry is not None:
            use = f"the figures of {name} below; never trained on"
            rows.append(_row(source_of(entry, classes_of(lineage[-1])), "labelled", counts[f"validation.{name}"], use))
    # the last run's rows have the counts: they replace those of earlier runs on the same data
    return tuple({(row.data.partition(",")[0], row.used_for.partition(",")[0]): row for row in rows}.values())


def _row(source: Source, kind: str, images: int | None, used_for: str) -> DataRow:
    folder = Path(source.folder)
    name = written_from(source.folder) if source.data_set == "shards" else source.data_set
    row = origin_of(folder) if name == "plain" else data_set(name)
    title = f"folder {folder.name}" if row is None else row.title
    where = f"{title} ({'/'.join(folder.parts[-2:] if folder.name in _SPLITS else folder.parts[-1:])})"
    terms = row.terms if row is not None else data_set("plain").terms
    return DataRow(f"{where}, {f'{images} ' if images is not None else ''}{kind} images", used_for, terms)


def _reference_row(pseudo_labels: str | None) -> list[DataRow]:
    """What `training.pseudo_label` aligned the labels to, where its note is at hand."""
    note = Path(pseudo_labels) / MADE_BY if pseudo_labels else None
    if note is None or not note.is_file():
        return []
    reference = json.loads(note.read_text(encoding="utf-8")).get("reference")
    use = "class shares that the pseudo-labels are aligned to"
    return [_row(source_of(reference), "unlabelled", None, use)] if reference else []


def _is_own(weights: str, lineage: Sequence[Mapping[str, Any]]) -> bool:
    """Whether encoder weights are a checkpoint of a run here, whose data stand in the lineage."""
    return Path(weights).suffix == ".pt" and (len(lineage) > 1 or Path(weights).parent.name == "checkpoints")


def _data(facts: ModelFacts) -> str:
    rows = [f"| {row.data} | {row.used_for} | {row.terms} |" for row in facts.data]
    return "\n".join(["| data | used for | terms |", "|---|---|---|", *rows])


def _research_only(facts: ModelFacts) -> str:
    return ": research use" if any("research" in row.terms for row in facts.data) else ""


def _figures(facts: ModelFacts) -> str:
    rows = [
        "| set | graph | images | mIoU | present | 95 % | pixel accuracy | ECE | AUROC | FPR@95 | AUPR error |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    graphs = {"int8": facts.cpu.metrics, "float": facts.float_metrics}
    if facts.tensorrt is not None:
        graphs["int8, TensorRT's"] = facts.tensorrt.metrics
    for graph, metrics_by_set in graphs.items():
        for name, metrics in metrics_by_set.items():
            low, high = metrics.ci95["miou_present"]
            trust = "– | – | –"
            if metrics.auroc is not None:
                trust = f"{metrics.auroc:.3f} | {metrics.fpr95:.3f} | {metrics.aupr_error:.3f}"
            rows.append(
                f"| {name} | {graph} | {metrics.images} | {metrics.miou:.3f} | {metrics.miou_present:.3f} | "
                f"{low:.3f}–{high:.3f} | {metrics.pixel_accuracy:.3f} | {metrics.ece or 0:.3f} | {trust} |"
            )
    return "\n".join(rows)


def _int8(facts: ModelFacts) -> str:
    allowed = f"{facts.miou_loss_max:g} of {facts.judged} mIoU that int8 may lose"
    if facts.cpu.plain_loss is None:
        cpu = f"All layers of the CPU graph that OpenVINO quantises are int8; that loses less than the {allowed}."
    else:
        cpu = (
            f"Layers of the CPU graph that stay float, since without them int8 would lose {facts.cpu.plain_loss:.4f}, "
            f"more than the {allowed}: {_listed(facts.cpu.float_layers)}. With them it takes {facts.cpu.slowdown:.2f} "
            "times as long, measured at export."
        )
    if facts.tensorrt is None:
        tensorrt = (
            f"The bundle holds no int8 graph for TensorRT: every one that was tried loses more than the {allowed}. "
            "Build its plans with --precision fp16."
        )
    else:
        tensorrt = (
            "TensorRT's int8 graph keeps depthwise convolutions in float, and of the dense ones "
            f"{_listed(facts.tensorrt.float_layers)}; its figures are those of ONNX Runtime, which runs the same graph."
        )
    return f"{cpu}\n{tensorrt}"


def _listed(layers: tuple[str, ...]) -> str:
    return ", ".join(f"`{layer}`" for layer in layers) or "none"


def told_views(views: Mapping[str, Any] | None, side: int) -> str:
    """A sentence on the views of a network whose input has this side; empty where each frame is seen once."""
    if views is None:
        return ""
    sides = " and ".join(str(side_at(side, scale)) for scale in views["scales"])
    mirrored = ", as it is and mirrored" if views["mirrored"] else ""
    return f"\nEach frame is seen {sides} pixels high{mirrored}; the answer is their mean."


def _classes(classes: ClassTable) -> str:
    return "Cityscapes' 19 classes" if classes == CITYSCAPES else f"{len(classes)} classes: {', '.join(classes.names)}"


def _per_class(classes: ClassTable, metrics_by_set: dict[str, Metrics]) -> str:
    rows = ["| IoU, int8 | " + " | ".join(metrics_by_set) + " |", "|---|" + "---|" * len(metrics_by_set)]
    for class_name in classes.names:
        values = (metrics.iou[class_name] for metrics in metrics_by_set.values())
        rows.append(f"| {class_name} | " + " | ".join("–" if v is None else f"{v:.2f}" for v in values) + " |")
    return "\n".join(rows)
