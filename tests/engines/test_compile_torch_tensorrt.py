from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engines import compile_torch_tensorrt
from engines.compile_torch_tensorrt import main
from training.networks.build import build_network
from training.networks.config import NetworkConfig
from training.runs.checkpoints import save_checkpoint


@pytest.mark.skipif(find_spec("torch_tensorrt") is not None, reason="torch_tensorrt is installed")
def test_a_missing_torch_tensorrt_is_one_line_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"torch_tensorrt does not import .*install the version made for torch"):
        main(["--checkpoint", str(tmp_path / "last.pt"), "--out", str(tmp_path / "network.pt2")])
    assert list(tmp_path.iterdir()) == []


def test_the_program_is_compiled_for_the_network_s_input_and_compared_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a compiler that gives the program back as it is, and no GPU: a rectangle of 64×128."""
    config = NetworkConfig(options={"channels": 8}, input_px=64, width_over_height=2)
    checkpoint, out = tmp_path / "last.pt", tmp_path / "network.pt2"
    state = build_network(config).state_dict()
    save_checkpoint(checkpoint, {"step": 7, "config": {"network": asdict(config)}, "teacher": state})
    compiled_for: list[torch.Size] = []

    def as_it_is(program: Any, arg_inputs: list[torch.Tensor]) -> torch.nn.Module:
        compiled_for.extend(one.shape for one in arg_inputs)
        module: torch.nn.Module = program.module()
        return module

    fake = SimpleNamespace(
        dynamo=SimpleNamespace(compile=as_it_is),
        save=lambda module, path, arg_inputs: torch.export.save(torch.export.export(module, tuple(arg_inputs)), path),
    )
    monkeypatch.setattr(compile_torch_tensorrt, "_torch_tensorrt", lambda: fake)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    monkeypatch.setattr(torch.nn.Module, "cuda", lambda module: module)
    main(["--checkpoint", str(checkpoint), "--out", str(out)])
    assert compiled_for == [(1, 64, 128, 3)]
    assert "agrees with the checkpoint on 100.00%" in capsys.readouterr().out
    frames = torch.randint(0, 256, (1, 64, 128, 3), dtype=torch.uint8)
    assert torch.export.load(str(out)).module()(frames).shape == (1, 19, 16, 32)
