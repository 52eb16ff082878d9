"""Export a translator's checkpoint to a translator's bundle: fused ONNX, golden answer, model card.

    python -m engines.export_translator --checkpoint runs/unit_perceptual/checkpoints/last.pt --name my_translator

Use the bundle with `day2night_node` (parameter `bundle`) or `darkseg bag to-night --bundle`.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from darkseg_ros.errors import InputError
from darkseg_ros.model.segmenter import preprocess
from engines.bundle_writer import TranslatorContent, check_name, write_translator_bundle
from engines.export import export_onnx, generated_scene
from training.runs.results import one_line_errors
from training.translation.catalogue import TranslatorKind, name_of, translator_kind
from training.translation.load import load_translator

TORCH_DIFFERENCE_MAX = 0.5
"""Mean difference of the ONNX graph from torch, in grey levels: more than rounding is a fault of the export."""

_GOLDEN_DIFFERENCE_MAX = 2.0  # libraries and CPUs differ in the order of sums


def main(arguments: list[str] | None = None) -> None:
    """Run the export from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint of training.train_translator")
    parser.add_argument("--name", required=True, help="of the bundle and its folder")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of bundles (default: engines/)")
    parser.add_argument(
        "--input-hw",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="size that frames are stretched to; default: the square that the training squeezed images into",
    )
    parsed = parser.parse_args(arguments)
    with one_line_errors("export_translator"):
        bundle = export_translator(
            parsed.checkpoint,
            name=parsed.name,
            out=parsed.out,
            input_hw=tuple(parsed.input_hw) if parsed.input_hw else None,
        )
    print(f"wrote {bundle}")


class TranslatorGraph(nn.Module):
    """``frame`` uint8 (N, H, W, 3) BGR → ``night`` uint8 (N, H, W, 3) BGR."""

    def __init__(self, translator: nn.Module) -> None:
        super().__init__()
        self.translator = translator

    def forward(self, frame: Tensor) -> Tensor:
        rgb = frame.float().permute(0, 3, 1, 2).flip(1)  # the cast comes first: no builder knows uint8 beyond the edge
        night_rgb = self.translator(rgb / 127.5 - 1)
        night_bgr = ((night_rgb + 1) * 127.5).round().clamp(0, 255).flip(1).permute(0, 2, 3, 1)
        return night_bgr.to(torch.uint8)


def export_translator(checkpoint: Path, *, name: str, out: Path, input_hw: tuple[int, int] | None = None) -> Path:
    """Write the bundle ``out/name`` and return its path.

    Args:
        checkpoint: of `training.train_translator`; its averaged weights, day to night, are exported.
        name: of the bundle.
        out: folder of bundles.
        input_hw: size of the graph, multiples of the translator's stride; None takes the training's `view_px`.

    Raises:
        InputError: if ``out/name`` cannot be a bundle, the checkpoint is none, the size does not fit, or ONNX Runtime
            answers otherwise than torch.
    """
    check_name(out, name)
    translator, config = load_translator(checkpoint, "day_to_night")
    view_px = config["view_px"]
    input_hw = input_hw or (view_px, view_px)
    stride = translator.stride
    if min(input_hw) < stride or any(side % stride for side in input_hw):
        raise InputError(f"the size {input_hw[0]}×{input_hw[1]} does not fit; expected multiples of {stride}")
    graph = TranslatorGraph(translator).eval()
    frames = golden_day_frames(input_hw)
    with tempfile.TemporaryDirectory() as temporary:
        onnx = Path(temporary) / "translator.onnx"
        export_onnx(graph, frames, onnx, ["night"])
        session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
        (night,) = session.run(["night"], {"frame": frames})
        with torch.no_grad():
            expected = graph(torch.from_numpy(frames)).numpy()
        difference = float(np.abs(night.astype(np.int16) - expected).mean())
        if difference > TORCH_DIFFERENCE_MAX:
            raise InputError(
                f"ONNX Runtime differs from torch by {difference:.2f} grey levels on average, at most "
                f"{TORCH_DIFFERENCE_MAX} is allowed; nothing was written: try another version of onnxruntime or torch"
            )
        return write_translator_bundle(
            out,
            TranslatorContent(
                name=name,
                network_hw=input_hw,
                onnx=onnx,
                golden_frames=frames,
                golden_night=night,
                golden_difference_max=_GOLDEN_DIFFERENCE_MAX,
                model_card=_model_card(
                    name,
                    kind=translator_kind(name_of(config)),
                    config=OmegaConf.to_yaml(OmegaConf.create(config)),
                    input_hw=input_hw,
                ),
            ),
        )


def golden_day_frames(input_hw: tuple[int, int]) -> np.ndarray:
    """(1, H, W, 3) uint8: a generated day scene, since no real image may go into a bundle."""
    return preprocess(generated_scene(night=False), input_hw)


def _model_card(name: str, *, kind: TranslatorKind, config: str, input_hw: tuple[int, int]) -> str:
    height, width = input_hw
    return f"""# {name}

Translates street scenes by day into the same scenes by night ({kind.title}: {kind.source}).
Frames are stretched to {width}×{height} and come back at their own size, with the detail of the
graph's.

## Intended use and limits

For making labelled night data out of labelled day data, for research and tests. Not a picture of what the place looks
like by night: lamps and lit windows are invented, things may vanish, appear or change their class, so labels of the day
frame are only roughly those of the night frame. Each frame is translated by itself: details may flicker. Never feed a
vehicle's perception in traffic with it.

## Data and terms

The weights inherit the terms of the images that they were trained on, which the settings below name. No image is
contained in the bundle; its golden frame is generated.

## Training

```yaml
{config.strip()}
```
"""


if __name__ == "__main__":
    main()
