from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from darkseg_ros.errors import InputError
from training.adaptation.teacher import load_teacher
from training.average_weights import average_weights, main
from training.networks.build import build_network
from training.networks.config import NetworkConfig
from training.runs.checkpoints import save_checkpoint


def write_network(path: Path, *, seed: int, channels: int = 8, exposure_mean: float | None = None) -> Path:
    torch.manual_seed(seed)
    config = NetworkConfig(options={"channels": channels}, input_px=64, exposure_mean=exposure_mean)
    state = build_network(config).state_dict()
    save_checkpoint(path, {"step": seed, "config": {"network": asdict(config)}, "teacher": state})
    return path


def test_weights_lie_between_those_of_before_and_after(tmp_path: Path) -> None:
    before = write_network(tmp_path / "before.pt", seed=1)
    after = write_network(tmp_path / "after.pt", seed=2, exposure_mean=55)
    main(
        ["--checkpoint", str(before), "--checkpoint", str(after), "--share", "0.75", "--out", str(tmp_path / "mean.pt")]
    )
    (old, _), (new, _), (mean, state) = (load_teacher(tmp_path / f"{name}.pt") for name in ("before", "after", "mean"))
    for name, value in mean.state_dict().items():
        expected = new.state_dict()[name]
        if value.is_floating_point():
            expected = 0.25 * old.state_dict()[name] + 0.75 * expected
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert (state["step"], state["config"]["network"]["exposure_mean"]) == (2, 55)


def test_what_is_no_state_of_one_network_is_refused(tmp_path: Path) -> None:
    before, other = write_network(tmp_path / "a.pt", seed=1), write_network(tmp_path / "b.pt", seed=2, channels=16)
    out = tmp_path / "mean.pt"
    with pytest.raises(InputError, match="different networks or classes; name two states"):
        average_weights(before, other, share=0.5, out=out)
    with pytest.raises(InputError, match=r"--share is 1\.5; expected 0…1"):
        average_weights(before, before, share=1.5, out=out)
    with pytest.raises(SystemExit, match="given 1 times; expected two"):
        main(["--checkpoint", str(before), "--share", "0.5", "--out", str(out)])
    assert not out.exists()
