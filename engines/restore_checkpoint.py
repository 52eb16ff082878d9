"""Restore a checkpoint from a bundle, to train a shipped model further where its checkpoint is not at hand.

    python -m engines.restore_checkpoint --config CONFIG.yaml --bundle FOLDER --out FILE.pt [key=value …]

The config is that of the run the bundle was exported from (its model card holds it). The checkpoint answers as the
bundle does; a training run starts from it by ``network.start_checkpoint`` or ``network.encoder_weights``. It holds the
averaged weights alone: that run itself cannot be continued with it.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from omegaconf import DictConfig, OmegaConf
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from darkseg_ros.errors import InputError
from darkseg_ros.model.bundle import ModelBundle, load_bundle, load_golden
from engines.fused_graph import FusedGraph, LogitsGraph
from training.data.class_table import classes_of
from training.data.draws import draw_evenly
from training.data.pairs import find_images, find_labelled_pool
from training.data.random_streams import Stream
from training.data.samples import LabelledSamples
from training.networks.build import build_network
from training.networks.config import exposure_of, input_hw_of
from training.runs.checkpoints import save_checkpoint
from training.runs.config import load_config
from training.runs.results import one_line_errors
from training.segmenter_config import SegmenterConfig

_PREFIX = "logits_graph.network."
_SAMPLES = 256


def main(arguments: list[str] | None = None) -> None:
    """Restore from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="the model's folder")
    parser.add_argument("--config", type=Path, required=True, help="YAML file of its training run")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.pt", help="checkpoint to write")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parsed = parser.parse_args(arguments)
    with one_line_errors("restore_checkpoint"):
        restore(parsed.bundle, load_config(SegmenterConfig, parsed.config, parsed.overrides), parsed.out)
    print(f"wrote {parsed.out}")


def restore(bundle_folder: Path, config: DictConfig, out: Path) -> None:
    """Write a checkpoint whose averaged network answers as a bundle's float graph does.

    The export has folded every BatchNorm into the convolution before it. Here each of these filters is brought to
    length 1 (Salimans and Kingma, NeurIPS 2016, arXiv 1602.07868), and its BatchNorm gets the statistics of training
    images, with the scale and the shift that make the two answer as before: in evaluation mode exactly, in training
    mode as far as a batch is like all images.

    Args:
        bundle_folder: of a model exported from a run of `config`.
        config: a resolved `SegmenterConfig`; its network and its images are used, but the exposure is the bundle's.
        out: file to write.

    Raises:
        BundleError: if the bundle cannot be used.
        InputError: if the bundle is of another network than the config's, images are missing, or the disk is full.
    """
    bundle = load_bundle(bundle_folder)
    if bundle.exposure is not None:
        config.network.exposure_mean = bundle.exposure.target_mean
        config.network.exposure_gamma_min = bundle.exposure.gamma_min
    network = build_network({**config.network, "encoder_weights": None}, num_classes=len(classes_of(config))).eval()
    norms = _norm_of_convolutions(network, input_hw_of(config.network))
    _load_folded(network, norms, bundle)
    _unfold(network, norms, _training_images(config))
    _check_golden(network, bundle)
    state = {"step": 0, "config": OmegaConf.to_container(config), "teacher": network.state_dict()}
    save_checkpoint(out, state)


def _norm_of_convolutions(network: nn.Module, input_hw: tuple[int, int]) -> dict[str, _BatchNorm]:
    """The BatchNorm that takes each convolution's output, by the convolution's name; those without are left out."""
    made_by: dict[int, str] = {}
    outputs = []  # kept, so that no two tensors have one id
    norms: dict[str, _BatchNorm] = {}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):

            def note(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
                outputs.append(output)
                made_by[id(output)] = name

            hooks.append(module.register_forward_hook(note))
        elif isinstance(module, _BatchNorm):

            def find(norm: _BatchNorm, inputs: tuple[Tensor]) -> None:
                norms[made_by[id(inputs[0])]] = norm

            hooks.append(module.register_forward_pre_hook(find))
    with torch.inference_mode():
        network(torch.zeros(1, 3, *input_hw))
    for hook in hooks:
        hook.remove()
    return norms


def _load_folded(network: nn.Module, norms: dict[str, _BatchNorm], bundle: ModelBundle) -> None:
    """Load the bundle's weights; each BatchNorm only adds what was folded into its convolution's bias."""
    graph = onnx.load(str(bundle.fused_onnx.path)).graph
    stored = {
        weight.name.removeprefix(_PREFIX): torch.from_numpy(np.array(numpy_helper.to_array(weight)))
        for weight in graph.initializer
    }
    for name, norm in norms.items():
        one = torch.ones(norm.num_features)
        shift = _fitting(stored, f"{name}.weight_bias", norm.bias, bundle)
        _set_norm(norm, mean=0 * one, variance=one - norm.eps, scale=one, shift=shift)
    in_norms = {id(parameter) for norm in norms.values() for parameter in norm.parameters()}
    for name, parameter in network.named_parameters():
        if id(parameter) not in in_norms:
            with torch.no_grad():
                parameter.copy_(_fitting(stored, name, parameter, bundle))


def _fitting(stored: dict[str, Tensor], name: str, expected: Tensor, bundle: ModelBundle) -> Tensor:
    if name not in stored or stored[name].shape != expected.shape:
        found = f"has {tuple(stored[name].shape)} for" if name in stored else "lacks"
        raise InputError(
            f"{bundle.fused_onnx.path} {found} {name}, which is {tuple(expected.shape)} in the config's network; "
            "name the config of the run that the bundle was exported from"
        )
    return stored[name]


def _training_images(config: DictConfig) -> LabelledSamples:
    pairs = find_labelled_pool(config.data.source, classes_of(config))
    return LabelledSamples(
        pairs,
        find_images(Path(config.data.night)),
        draw=draw_evenly(len(pairs), seed=config.seed, order=Stream.LABELLED_ORDER),
        augmentation=config.augmentation,
        cheap_night=config.cheap_night,
        seed=config.seed,
        exposure=exposure_of(config.network),
    )


@torch.inference_mode()
def _unfold(network: nn.Module, norms: dict[str, _BatchNorm], samples: LabelledSamples) -> None:
    """Unit filters, the statistics of their outputs, and scale and shift that undo both."""
    sums = {norm: torch.zeros(2, norm.num_features, dtype=torch.float64) for norm in norms.values()}
    counts = dict.fromkeys(sums, 0)

    def collect(norm: _BatchNorm, inputs: tuple[Tensor]) -> None:
        values = inputs[0].double()
        sums[norm] += torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        counts[norm] += values[:, 0].numel()

    hooks = [norm.register_forward_pre_hook(collect) for norm in sums]
    for position in tqdm(range(_SAMPLES), desc="statistics", mininterval=10):
        network(samples[position]["images"][None])
    for hook in hooks:
        hook.remove()
    for name, norm in norms.items():
        weight = cast(nn.Conv2d, network.get_submodule(name)).weight
        mean, square = sums[norm] / counts[norm]
        length = weight.double().flatten(1).norm(dim=1).clamp(min=1e-12)  # a filter of zeros stays one
        variance = (square - mean.square()).clamp(min=0) / length.square()
        weight.copy_(weight / length.view(-1, 1, 1, 1))
        _set_norm(
            norm,
            mean=mean / length,
            variance=variance,
            scale=length * (variance + norm.eps).sqrt(),
            shift=norm.bias + mean,
        )


def _set_norm(norm: _BatchNorm, *, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor) -> None:
    seen = {"num_batches_tracked": torch.tensor(0)}
    norm.load_state_dict({"running_mean": mean, "running_var": variance, "weight": scale, "bias": shift, **seen})


@torch.inference_mode()
def _check_golden(network: nn.Module, bundle: ModelBundle) -> None:
    golden = load_golden(bundle)
    graph = FusedGraph(LogitsGraph(network).eval(), temperature=bundle.temperature).eval()
    class_map, _ = graph(torch.from_numpy(golden.frames))
    agreement = float((class_map.numpy() == golden.class_map).mean())
    if agreement < bundle.fused_match.agreement:
        raise InputError(
            f"the restored network agrees with {bundle.directory} on {agreement:.1%} of the golden frame, expected at "
            f"least {bundle.fused_match.agreement:.1%}; name the config of the run that it was exported from"
        )


if __name__ == "__main__":
    main()
