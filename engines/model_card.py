"""The text of MODEL_CARD.md, from what the export measured."""

from __future__ import annotations

from dataclasses import dataclass

from darkseg_ros.classes import CLASS_NAMES
from darkseg_ros.evaluation import Metrics


@dataclass(frozen=True)
class ModelFacts:
    """What a model card says.

    Attributes:
        name: of the bundle.
        step: optimiser steps of the last training run.
        architecture: of the network, in words.
        config: that run's YAML.
        recipe: Markdown on how the checkpoint was made.
        network_hw: input size.
        temperature: of the confidence.
        calibration: how it was found.
        float_metrics: of the fused graph, by validation set.
        int8_metrics: of the CPU graph.
    """

    name: str
    step: int
    architecture: str
    config: str
    recipe: str
    network_hw: tuple[int, int]
    temperature: float
    calibration: str
    float_metrics: dict[str, Metrics]
    int8_metrics: dict[str, Metrics]


def write_model_card(facts: ModelFacts) -> str:
    """Markdown."""
    height, width = facts.network_hw
    return f"""# {facts.name}

Semantic segmentation of street scenes by night and by day into Cityscapes' 19 classes.
{facts.architecture}; camera frames are stretched to {width}×{height} and come back at their own size.

## Intended use and limits

For research and development of driver assistance (QM; not certified for any safety function). Forward-facing camera at
bonnet to roof height, urban and rural roads of central Europe and North America. Not for: other viewpoints, fish-eye
lenses, thermal or infra-red cameras, identifying people. Thin and small things (poles, signs, distant people) are the
weakest, and rare classes (train, bus, truck, motorcycle, wall) are often confused with each other. Unlit sky, buildings
and trees look alike at night: read the confidence, and set `min_confidence` where a wrong class costs more than none.

## Data and terms

| data | used for | terms |
|---|---|---|
| Cityscapes, 2975 labelled day images at 256×256 | training | non-commercial research |
| BDD100K, 1000 unlabelled night images | night light, pseudo-labels, int8 calibration | research |
| BDD100K, 250 unlabelled day images | class shares that the night pseudo-labels are aligned to | research |
| ImageNet weights of torchvision | start of the encoder | BSD-3 |
| Cityscapes val (500), ACDC night (17) | the figures below; never trained on | non-commercial research |

The weights inherit these terms: research use. No image is contained in the bundle; its golden frame is generated.

## Figures

{_figures(facts)}

"present" is the mean over the classes that the ground truth holds, with its 95 % bootstrap interval over images; mIoU
follows cityscapesScripts. int8 is what OpenVINO runs, float what ONNX Runtime runs; both include the resize to the
camera's geometry. ECE is the expected calibration error with 15 bins.
The temperature is {facts.temperature:.3f}: {facts.calibration}.

{_per_class(facts.int8_metrics)}

## Recipe

{facts.recipe.strip()}

Last run, {facts.step} steps:

```yaml
{facts.config.strip()}
```
"""


def _figures(facts: ModelFacts) -> str:
    rows = [
        "| set | graph | images | mIoU | present | 95 % | pixel accuracy | ECE |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for graph, metrics_by_set in (("int8", facts.int8_metrics), ("float", facts.float_metrics)):
        for name, metrics in metrics_by_set.items():
            low, high = metrics.ci95["miou_present"]
            rows.append(
                f"| {name} | {graph} | {metrics.images} | {metrics.miou:.3f} | {metrics.miou_present:.3f} | "
                f"{low:.3f}–{high:.3f} | {metrics.pixel_accuracy:.3f} | {metrics.ece or 0:.3f} |"
            )
    return "\n".join(rows)


def _per_class(metrics_by_set: dict[str, Metrics]) -> str:
    rows = ["| IoU, int8 | " + " | ".join(metrics_by_set) + " |", "|---|" + "---|" * len(metrics_by_set)]
    for class_name in CLASS_NAMES:
        values = (metrics.iou[class_name] for metrics in metrics_by_set.values())
        rows.append(f"| {class_name} | " + " | ".join("–" if v is None else f"{v:.2f}" for v in values) + " |")
    return "\n".join(rows)
