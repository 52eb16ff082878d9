from __future__ import annotations

import pytest

pytest.importorskip("nncf")

from engines.bench_finish import DEFINITION, FALLBACK, KERNEL, ONNX_RUNTIME, TORCH, compare_finishes, main


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, which differ by version
def test_every_way_does_the_same_work_and_the_kernel_is_the_fastest() -> None:
    times = compare_finishes((19, 64, 96), rounds=5)
    assert set(times) == {KERNEL, FALLBACK, DEFINITION, TORCH, ONNX_RUNTIME}
    assert all(row.agreement > 0.9999 for row in times.values())
    assert times[KERNEL].ratio == 1
    assert times[ONNX_RUNTIME].ratio > 3


@pytest.mark.filterwarnings("ignore")
def test_the_table_has_a_line_for_every_way(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--shape", "3", "4", "5", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert "3x4x5 logits, one thread, medians of 1 rounds" in lines
    assert [line.split()[0] for line in lines[-5:]] == [KERNEL, "OpenCV,", DEFINITION, TORCH, "onnxruntime"]
