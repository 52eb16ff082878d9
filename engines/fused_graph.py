"""The two graphs of a bundle: the one that `engines.export` traces, and the part of it that it quantises."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.utils
import torch
from torch import Tensor, nn

from darkseg_ros.model.bundle import LOGITS_STRIDE
from training.data.imagenet import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from training.networks.dense_stem import on_pixels
from training.networks.layers import upsample_bilinear


class LogitsGraph(nn.Module):
    """``frame`` uint8 (N, H, W, 3) BGR → ``logits`` float (N, 19, H/4, W/4): the CPU graph before quantisation.

    A network that can read pixels as they are does; for others they are brought to RGB and normalised in the graph.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        on_bgr = on_pixels(network)
        self.normalise = NormalisedRgb() if on_bgr is None else nn.Identity()
        self.network = network if on_bgr is None else on_bgr

    def forward(self, frame: Tensor) -> Tensor:
        bgr = frame.float().permute(0, 3, 1, 2)  # the cast comes first: no builder knows uint8 beyond the edge
        logits: Tensor = self.network(self.normalise(bgr))
        return logits


class NormalisedRgb(nn.Module):
    """BGR pixels, (N, 3, H, W) float of 0…255 → RGB, ImageNet-normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN_RGB).view(1, 3, 1, 1))
        self.register_buffer("scale", 1 / (255 * torch.tensor(IMAGENET_STD_RGB).view(1, 3, 1, 1)))
        self.mean: Tensor
        self.scale: Tensor

    def forward(self, bgr: Tensor) -> Tensor:
        return (bgr.flip(1) - self.mean) * self.scale


class FusedGraph(nn.Module):
    """``frame`` uint8 (N, H, W, 3) BGR → ``class_map`` and ``confidence`` uint8 (N, H, W)."""

    def __init__(self, logits_graph: LogitsGraph, *, temperature: float) -> None:
        super().__init__()
        self.logits_graph, self.temperature = logits_graph, temperature

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits_graph(frame)
        size_hw = (logits.shape[-2] * LOGITS_STRIDE, logits.shape[-1] * LOGITS_STRIDE)
        class_map = upsample_bilinear(logits, size_hw).argmax(1).float().to(torch.uint8)
        probability = torch.softmax(logits / self.temperature, 1).amax(1, keepdim=True)
        confidence = (upsample_bilinear(probability, size_hw)[:, 0] * 255).round().to(torch.uint8)
        return class_map, confidence


def cut_at_logits(fused_onnx: Path, logits_onnx: Path) -> None:
    """Write the part of a `FusedGraph` that is its `LogitsGraph`: to trace that as well takes seconds.

    Args:
        fused_onnx: frame → class_map, confidence.
        logits_onnx: frame → logits, written.
    """
    graph = onnx.load(str(fused_onnx)).graph
    maker = {output: node for node in graph.node for output in node.output}
    (argmax,) = (node for node in graph.node if node.op_type == "ArgMax")
    enlarged = maker[argmax.input[0]]
    onnx.utils.extract_model(str(fused_onnx), str(logits_onnx), ["frame"], [enlarged.input[0]])
    model = onnx.load(str(logits_onnx))
    model.graph.node.add(op_type="Identity", name="logits", input=[model.graph.output[0].name], output=["logits"])
    model.graph.output[0].name = "logits"
    onnx.save(model, str(logits_onnx))
