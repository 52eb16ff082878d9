from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from engines.compile_torch_tensorrt import main


@pytest.mark.skipif(find_spec("torch_tensorrt") is not None, reason="torch_tensorrt is installed")
def test_a_missing_torch_tensorrt_is_one_line_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"torch_tensorrt does not import .*install the version made for torch"):
        main(["--checkpoint", str(tmp_path / "last.pt"), "--out", str(tmp_path / "network.pt2")])
    assert list(tmp_path.iterdir()) == []
