from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from darkseg_ros.errors import EngineError, InputError
from darkseg_ros.frames.labelled import LabelledImage, pair_files
from darkseg_ros.model.backends.tensorrt import engine as tensorrt
from darkseg_ros.model.backends.tensorrt import library as tensorrt_library
from darkseg_ros.model.backends.tensorrt.engine import Gpu
from darkseg_ros.model.backends.tensorrt.plan_builder import PlanOrder
from darkseg_ros.model.bundle import MANIFEST
from darkseg_ros.whole_files import sha256_of
from engines import check_parity, parity
from engines.check_parity import main
from engines.parity import (
    CPU_BACKENDS,
    CPU_INT8,
    FUSED_OPENVINO,
    FUSED_ORT,
    SYMMETRIC_INT8_ORT,
    TORCH,
    ParityReport,
    compare,
)
from tests.bundles import write_tiny_bundle
from tests.core.model.backends.tensorrt.fake_gpu import FakeDriver, FakeTensorRt

NETWORK_HW = (64, 128)
ROAD, VEGETATION, SKY = 0, 8, 10
COLOURS_BGR = {ROAD: (0, 0, 0), VEGETATION: (0, 255, 0), SKY: (255, 0, 0)}  # as the tiny network answers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), NETWORK_HW)


def write_images(folder: Path, train_ids: tuple[int, ...]) -> list[LabelledImage]:
    """One image a train id: its colour all over, and the label map of that."""
    for part in ("image", "label"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index, train_id in enumerate(train_ids):
        bgr = np.full((32, 48, 3), COLOURS_BGR[train_id], np.uint8)
        cv2.imwrite(str(folder / "image" / f"{index:03}.png"), bgr)
        cv2.imwrite(str(folder / "label" / f"{index:03}.png"), np.full((32, 48), train_id, np.uint8))
    return pair_files(folder / "image", folder / "label")


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle whose CPU graph takes road for sky and sky for road."""
    folder = tmp_path_factory.mktemp("swapped")
    bundle = write_tiny_bundle(folder, NETWORK_HW)
    model = onnx.load(str(folder / "logits.onnx"))
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight).copy()
        values[[ROAD, SKY]] = values[[SKY, ROAD]]
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, folder / "swapped.onnx")
    graph = openvino.convert_model(str(folder / "swapped.onnx"))
    openvino.save_model(graph, str(bundle / "cpu_int8.xml"), compress_to_fp16=False)
    manifest = json.loads((bundle / MANIFEST).read_text())
    for role, name in (("cpu_graph", "cpu_int8.xml"), ("cpu_weights", "cpu_int8.bin")):
        path = bundle / name
        manifest["files"][role] |= {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    return bundle


def bundle_that_says(tiny: Path, folder: Path, **manifest_values: Any) -> Path:
    """A copy of the tiny bundle with other entries in its manifest."""
    bundle = shutil.copytree(tiny, folder)
    manifest = json.loads((bundle / MANIFEST).read_text()) | manifest_values
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    return bundle


def figures(report: ParityReport, backend: str, image_set: str = "day") -> parity.BackendParity:
    (row,) = (row for row in report.compared if (row.backend, row.image_set) == (backend, image_set))
    return row


class TinyNetwork(nn.Module):
    """The tiny bundle's logits in torch: normalised RGB back to grey levels, then what tests/bundles.py says."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        rgb = (images * std[:, None, None] + mean[:, None, None]) * 255
        red, green, blue = nn.functional.avg_pool2d(rgb, 4).unbind(1)
        logits = torch.full((len(images), 19, *red.shape[-2:]), -4.0)
        logits[:, ROAD] = 3.0
        for train_id, colour in ((SKY, blue), (VEGETATION, green), (13, red)):
            logits[:, train_id] += 0.05 * colour
        return logits


@pytest.fixture
def checkpoint(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(parity, "load_teacher", lambda path: (TinyNetwork(), {}))
    return Path("last.pt")


def test_a_right_bundle_agrees_with_torch_in_every_way(tiny: Path, tmp_path: Path, checkpoint: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = write_images(tmp_path, (ROAD, SKY, VEGETATION))
    for pair in pairs:  # noise: classes change from pixel to pixel
        cv2.imwrite(str(pair.image), rng.integers(0, 255, (32, 48, 3)).astype(np.uint8))
    report = compare(tiny, checkpoint, {"day": pairs}, backends=CPU_BACKENDS)
    assert report.failures() == []
    assert report.reference == TORCH
    assert {row.backend for row in report.compared} >= {TORCH, FUSED_ORT, FUSED_OPENVINO, CPU_INT8}
    for row in report.compared:
        if row.backend == SYMMETRIC_INT8_ORT:  # the only graph of the tiny bundle that is quantised
            continue
        assert row.agreement > 0.999
        assert row.confidence_error_max <= 1 / 255
        assert row.images == 3


def test_without_a_checkpoint_onnx_runtime_is_the_reference_and_torch_is_left_out_with_its_reason(
    tiny: Path, tmp_path: Path
) -> None:
    report = compare(tiny, None, {"day": write_images(tmp_path, (ROAD,))}, backends=[TORCH, CPU_INT8])
    assert report.reference == FUSED_ORT
    assert [row.backend for row in report.compared] == [FUSED_ORT, CPU_INT8]
    assert [each.backend for each in report.skipped] == [TORCH]
    assert "not compared: torch: no checkpoint was named" in report.table()


def test_two_classes_exchanged_in_the_cpu_graph_are_found(swapped: Path, tmp_path: Path) -> None:
    images = {
        "day": write_images(tmp_path / "day", (ROAD, SKY, VEGETATION, VEGETATION)),
        "night": write_images(tmp_path / "night", (VEGETATION,)),
    }
    report = compare(swapped, None, images, backends=[FUSED_OPENVINO, CPU_INT8])
    row = figures(report, CPU_INT8)
    # two of four images are wrong everywhere; of three classes that occur, two have IoU 0 and one has 1
    assert row.agreement == pytest.approx(0.5)
    assert row.miou == pytest.approx(1 / 3)
    assert row.miou_change == pytest.approx(-2 / 3)
    low, high = row.miou_change_ci95
    assert low == pytest.approx(-1)  # draws without vegetation
    assert high <= 0
    # an exchange of two rows leaves the largest probability as it is
    assert row.confidence_error_max <= 1 / 255
    assert figures(report, CPU_INT8, "night").agreement == 1
    assert figures(report, FUSED_OPENVINO).miou_change == 0
    (failure,) = report.failures()
    assert failure.startswith(f"{CPU_INT8} on 4 images of the set day gives the class of {FUSED_ORT} on 50.000% ")


def test_another_temperature_is_found_by_the_confidence(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # int8's own limit is wider than what the golden answer lets through
    monkeypatch.setitem(parity.LIMITS, "int8", replace(parity.LIMITS["int8"], confidence_error_max=0.02))
    bundle = bundle_that_says(tiny, tmp_path / "bundle", temperature=1.3)
    report = compare(bundle, None, {"day": write_images(tmp_path / "day", (ROAD, SKY, SKY, SKY))}, backends=[CPU_INT8])
    row = figures(report, CPU_INT8)
    assert row.agreement == 1
    # dark: logits 3 and 18 of −4; 255 / (1 + 18 e^−7) = 250.9, at temperature 1.3 255 / (1 + 18 e^−5.38) = 235.6
    # blue: logits 8.75, 3 and 17 of −4; 254.2 and 251.7. A warmer one fails the golden frame
    dark, blue = 251 - 236, 254 - 252
    assert row.confidence_error_max == pytest.approx(dark / 255)
    assert row.confidence_error_mean == pytest.approx((dark + 3 * blue) / 4 / 255)
    (failure,) = report.failures()
    assert "mean confidence error of 0.0206" in failure
    assert "the temperature is not the one exported" in failure


def test_the_reference_in_torch_has_the_temperature_that_the_bundle_says(
    tiny: Path, tmp_path: Path, checkpoint: Path
) -> None:
    bundle = bundle_that_says(tiny, tmp_path / "bundle", temperature=1.3)
    report = compare(bundle, checkpoint, {"day": write_images(tmp_path / "day", (ROAD, SKY))}, backends=[CPU_INT8])
    assert report.reference == TORCH
    assert figures(report, CPU_INT8).confidence_error_max <= 1 / 255


def test_the_miou_of_int8_is_judged_on_enough_images_only(
    swapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "INT8_IMAGES_MIN", 10)
    pairs = write_images(tmp_path / "day", (ROAD,) + (VEGETATION,) * 9)
    for count, judged in ((9, False), (10, True)):
        report = compare(swapped, None, {"day": pairs[:count]}, backends=[CPU_INT8])
        row = figures(report, CPU_INT8)
        assert row.agreement == pytest.approx((count - 1) / count)  # above int8's limit
        assert row.miou_change == pytest.approx(-1 / 2)
        failures = report.failures()
        assert len(failures) == judged
        assert ("not judged: the mIoU of int8 on fewer than 10 images" in report.table()) != judged
        assert all("loses 0.5000 mIoU against onnxruntime fp32, expected at most 0.005" in line for line in failures)


def test_float_backends_may_not_lose_what_int8_may() -> None:
    row = parity.BackendParity(
        backend=FUSED_OPENVINO,
        engine="",
        image_set="night",
        images=17,
        agreement=0.9995,
        confidence_error_mean=0.0,
        confidence_error_max=0.0,
        miou=0.4,
        miou_change=-0.002,
        miou_change_ci95=(-0.003, -0.001),
    )
    report = ParityReport(bundle="", fused_sha256="", reference=TORCH, compared=(row,), skipped=())
    assert [line.split(";")[0] for line in report.failures()] == [
        "openvino fp32 on 17 images of the set night loses 0.0020 mIoU against torch, expected at most 0.001"
    ]

    gained = replace(row, miou_change=0.2, miou_change_ci95=(0.1, 0.3))
    assert replace(report, compared=(gained,)).failures() == []


def test_the_camera_geometry_is_what_counts(tiny: Path, tmp_path: Path) -> None:
    """A 1×1 frame is stretched to the network's size and comes back as one pixel."""
    pair = write_images(tmp_path, (SKY,))[0]
    cv2.imwrite(str(pair.image), np.full((1, 1, 3), COLOURS_BGR[SKY], np.uint8))
    cv2.imwrite(str(pair.label), np.full((1, 1), SKY, np.uint8))
    assert figures(compare(tiny, None, {"day": [pair]}, backends=[CPU_INT8]), CPU_INT8).miou == 1


def test_what_cannot_be_compared_is_refused(tiny: Path, tmp_path: Path) -> None:
    pairs = write_images(tmp_path, (ROAD,))
    with pytest.raises(InputError, match="no backends tpu; known are torch, onnxruntime fp32"):
        compare(tiny, None, {"day": pairs}, backends=["tpu"])
    with pytest.raises(InputError, match="the set night has no image"):
        compare(tiny, None, {"day": pairs, "night": []}, backends=[CPU_INT8])
    cv2.imwrite(str(pairs[0].label), np.full((32, 48), 255, np.uint8))
    with pytest.raises(InputError, match="no pixel of the set day has ground truth"):
        compare(tiny, None, {"day": pairs}, backends=[CPU_INT8])


def test_tensorrt_is_left_out_with_its_reason_where_no_gpu_is(tiny: Path, tmp_path: Path) -> None:
    try:
        Gpu.find()
    except EngineError as error:
        reason = str(error)
    else:
        pytest.skip("this machine has a GPU: there TensorRT is compared")
    report = compare(tiny, None, {"day": write_images(tmp_path, (ROAD,))}, backends=["tensorrt fp16"])
    assert [(each.backend, each.reason) for each in report.skipped] == [("tensorrt fp16", reason)]


def test_the_symmetric_int8_graph_is_compared_where_the_bundle_holds_one(tiny: Path, tmp_path: Path) -> None:
    pairs = write_images(tmp_path / "day", (ROAD, SKY))
    # steps of 2: blue becomes 200 (half to even), as green is, and of equals the lower train id is taken
    cv2.imwrite(str(pairs[1].image), np.full((32, 48, 3), (201, 200, 0), np.uint8))
    report = compare(tiny, None, {"day": pairs}, backends=[SYMMETRIC_INT8_ORT])
    row = figures(report, SYMMETRIC_INT8_ORT)
    assert row.engine == f"onnxruntime {onnxruntime.__version__} int8 CPU"
    assert row.agreement == 0.5
    assert report.skipped == ()
    files = json.loads((tiny / MANIFEST).read_text())["files"]
    del files["int8_onnx"]
    old = bundle_that_says(tiny, tmp_path / "old", files=files)
    without = compare(old, None, {"day": pairs}, backends=[SYMMETRIC_INT8_ORT])
    assert [each.backend for each in without.skipped] == [SYMMETRIC_INT8_ORT]
    assert "its model card says whether the export left it out" in without.table()


def test_a_plan_of_each_precision_is_compared_where_a_gpu_is(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FakeDriver()
    orders = []

    def build_plan(order: PlanOrder, *, progress: Any) -> None:
        orders.append(order.precision)
        # the fake takes the float graph of fp16 too, and of int8 one that is wrong everywhere
        model = onnx.load(order.onnx)
        if order.precision == "int8":
            bias = next(weight for weight in model.graph.initializer if weight.name == "bias")
            bias.CopyFrom(numpy_helper.from_array(np.arange(19, dtype=np.float32) * 99, "bias"))
        Path(order.plan).write_bytes(model.SerializeToString())

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tensorrt_library, "find_spec", lambda name: name == "tensorrt" or None)
    monkeypatch.setattr(tensorrt, "load_driver", lambda: driver)
    monkeypatch.setattr(tensorrt, "import_library", lambda name: FakeTensorRt(driver))
    monkeypatch.setattr(tensorrt, "build_plan", build_plan)
    plans = ["tensorrt fp32", "tensorrt fp16", "tensorrt int8"]
    images = {"day": write_images(tmp_path / "day", (ROAD, SKY))}
    report = compare(tiny, None, images, backends=plans)
    assert orders == ["fp32", "fp16", "int8"]
    assert [figures(report, plan).agreement for plan in plans] == [1, 1, 0]
    assert figures(report, "tensorrt fp16").engine == "tensorrt 11.4.1 fp16 batch 1 NVIDIA Fake 1 (SM86)"
    assert not driver.memory
    assert driver.contexts == driver.streams == 0


# The command


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_images(tmp_path / "data" / "source_day_cityscapes" / "val", (ROAD, SKY, VEGETATION))
    write_images(tmp_path / "data" / "acdc_night_dev", (ROAD, SKY))
    monkeypatch.setenv("DARKSEG_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def only_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, a machine with a GPU would build three plans for each call."""

    def compare_on_cpu(*arguments: Any) -> ParityReport:
        return compare(*arguments, backends=CPU_BACKENDS)

    monkeypatch.setattr(check_parity, "compare", compare_on_cpu)


@pytest.mark.usefixtures("data", "only_cpu")
def test_the_command_shows_every_set_and_writes_the_figures(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "parity.json"
    assert main(["--bundle", str(tiny), "--count", "2", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert "| day | 2 | openvino int8 | openvino " in shown.out
    assert "| night | 2 | onnxruntime fp32 | onnxruntime " in shown.out
    assert shown.err == ""
    written = json.loads(out.read_text())
    assert written["bundle"] == "tiny"
    assert written["failures"] == []
    assert written["limits"]["int8"]["miou_loss_max"] == 0.005
    assert {row["image_set"] for row in written["compared"]} == {"day", "night"}


@pytest.mark.usefixtures("only_cpu")
def test_a_missed_limit_ends_with_status_3(swapped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "street", (ROAD,))
    folders = ["--images", str(tmp_path / "street" / "image"), "--labels", str(tmp_path / "street" / "label")]
    assert main(["--bundle", str(swapped), *folders]) == 3
    shown = capsys.readouterr()
    assert "| image | 1 | openvino int8 |" in shown.out
    assert "check_parity: openvino int8 on 1 images of the set image gives the class" in shown.err


def test_without_data_the_command_says_where_to_get_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKSEG_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match=r"nowhere.*set DARKSEG_DATA to a folder with .*--images and --labels"):
        main(["--bundle", str(tiny)])


@pytest.mark.parametrize("options", [["--images", "a"], ["--labels", "a"], ["--count", "0"], ["--count", "all"]])
def test_a_wrong_command_line_ends_with_status_2(options: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(options)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (2, [0, 3]), (3, [0, 2, 4]), (7, range(7)), (9, range(7)), (None, range(7))]
)
def test_images_are_taken_evenly_from_a_set(count: int | None, expected: Any) -> None:
    pairs = [LabelledImage(Path(f"{index}.png"), Path(f"{index}.png")) for index in range(7)]
    assert [int(pair.image.stem) for pair in check_parity.spread(pairs, count)] == list(expected)
