"""What is wrong with GPU, driver, library, cache or bundle stands in one line with its cure, through both doors.

The doors are the command `build_plan`, and `open_engine`, whose message segmentation_node logs: "cannot configure: …".
"""

from __future__ import annotations

import enum
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import openvino
import pytest

from darkseg_ros.commands import build_plan as build_plan_command
from darkseg_ros.errors import BundleError, DarksegError, EngineError
from darkseg_ros.model.backends import open as backends
from darkseg_ros.model.backends import open_engine
from darkseg_ros.model.backends.cpu_settings import SettingsKey, keep_threads, kept_threads
from darkseg_ros.model.backends.tensorrt import cuda
from darkseg_ros.model.backends.tensorrt import engine as tensorrt
from darkseg_ros.model.backends.tensorrt import library as tensorrt_library
from darkseg_ros.model.backends.tensorrt.plan_builder import PlanOrder
from darkseg_ros.model.bundle import MANIFEST, ModelBundle, load_bundle
from darkseg_ros.whole_files import sha256_of
from tests.bundles import write_tiny_bundle
from tests.core.model.backends.tensorrt.fake_gpu import FakeDriver, FakeTensorRt

Door = Callable[[ModelBundle], str]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return load_bundle(write_tiny_bundle(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "darkseg_ros" / "plans"


@pytest.fixture(params=["build_plan", "open_engine"])
def door(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Door:
    """Opens a bundle on TensorRT and returns the one line that its failure leaves."""

    def by_command(bundle: ModelBundle) -> str:
        assert build_plan_command.main(["--bundle", str(bundle.directory)]) == 1
        errors = capsys.readouterr().err
        assert errors.startswith("build_plan: ")
        assert errors.count("\n") == 1
        return errors

    def by_engine(bundle: ModelBundle) -> str:
        with pytest.raises(DarksegError) as caught:
            open_engine(bundle, backend="tensorrt")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return by_command if request.param == "build_plan" else by_engine


def use(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver, library: Any | None = None) -> None:
    """Let the package find this driver, and this library where one is given."""
    monkeypatch.setattr(tensorrt, "load_driver", lambda: driver)
    if library is not None:
        monkeypatch.setattr(tensorrt_library, "find_spec", lambda name: name == library.__name__ or None)
        monkeypatch.setattr(tensorrt, "import_library", lambda name: library)


def build_with(monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object]) -> list[PlanOrder]:
    """Replace the builder's process; returns the list that its orders are added to."""
    orders: list[PlanOrder] = []

    def build_plan(order: PlanOrder, *, progress: Any) -> None:
        orders.append(order)
        write(Path(order.plan))

    monkeypatch.setattr(tensorrt, "build_plan", build_plan)
    return orders


class ComputeCapability(enum.Enum):
    CURRENT, SM75, SM86 = range(3)


class FakeTensorRtForRtx(FakeTensorRt):
    __name__ = "tensorrt_rtx"
    __version__ = "1.7.1"
    ComputeCapability = ComputeCapability


def test_an_unsupported_gpu(tiny: ModelBundle, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(capability=(6, 1))
    use(monkeypatch, driver, FakeTensorRtForRtx(driver))
    orders = build_with(monkeypatch, lambda plan: plan.write_bytes(b""))
    line = door(tiny)
    assert "tensorrt_rtx 1.7.1 does not support GPUs of SM61, it supports SM75, SM86; " in line
    assert "install the full TensorRT (`pip install tensorrt`), or choose backend openvino or onnxruntime" in line
    assert orders == []


def test_a_missing_library(tiny: ModelBundle, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_library, "find_spec", lambda name: None)
    assert "TensorRT is not installed; run `pip install tensorrt` " in door(tiny)


@pytest.mark.parametrize(
    ("package", "line"),
    [
        (
            "raise ImportError('libnvinfer.so.11: cannot open shared object file')",
            "tensorrt does not import (libnvinfer.so.11: cannot open shared object file); install it again, or choose",
        ),
        ("__version__ = '8.6.1'", "tensorrt is version 8.6.1, expected 10 or newer; update it"),
        # a folder without a module in it, such as /usr/src/tensorrt for who starts in /usr/src
        (None, "from another working folder, or run `pip install tensorrt`"),
    ],
)
def test_a_library_that_is_none(
    tiny: ModelBundle, door: Door, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str | None, line: str
) -> None:
    folder = tmp_path / "found" / "tensorrt"
    folder.mkdir(parents=True)
    if package is not None:
        (folder / "__init__.py").write_text(package)
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.delitem(tensorrt_library.importlib.sys.modules, "tensorrt", raising=False)
    use(monkeypatch, FakeDriver())
    assert line in door(tiny)
    tensorrt_library.importlib.sys.modules.pop("tensorrt", None)


def test_a_missing_driver(tiny: ModelBundle, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_library, "find_spec", lambda name: True)
    monkeypatch.setattr(cuda, "_LIBRARY", "libcuda-missing.so.1")
    assert re.search(r"no NVIDIA driver .*: install the driver, in a container start it with its GPU, or", door(tiny))


def test_a_gpu_that_the_driver_hides(tiny: ModelBundle, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """With CUDA_VISIBLE_DEVICES="" it is cuInit that fails, with CUDA_ERROR_NO_DEVICE."""
    driver = FakeDriver()
    monkeypatch.setattr(driver, "cuInit", lambda flags: 100)
    use(monkeypatch, driver, FakeTensorRt(driver))
    line = door(tiny)
    assert "needs an NVIDIA GPU, the driver offers none (cuInit failed with error 100, " in line
    assert "check nvidia-smi and CUDA_VISIBLE_DEVICES, start a container with its GPU, or choose backend" in line


def test_a_driver_older_than_the_library(tiny: ModelBundle, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver()
    complaint = "CUDA initialization failure with error: 35 (cudaError 35: CUDA driver version is insufficient ...)"
    use(monkeypatch, driver, FakeTensorRt(driver, complaint=complaint))
    build_with(monkeypatch, lambda plan: plan.write_bytes(b"plan"))
    line = door(tiny)
    assert "the NVIDIA driver is older than tensorrt 11.4.1 needs: it runs CUDA up to 13.2; " in line
    assert "update the driver, install a TensorRT for an older CUDA, or choose backend" in line


def test_a_driver_older_than_this_package(tiny: ModelBundle, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    class OldDriver(FakeDriver):
        def __getattribute__(self, name: str) -> Any:
            if name == "cuDevicePrimaryCtxRetain":
                raise AttributeError(f"libcuda.so.1: undefined symbol: {name}")
            return super().__getattribute__(name)

    driver = OldDriver()
    use(monkeypatch, driver, FakeTensorRt(driver))
    build_with(monkeypatch, lambda plan: plan.write_bytes(b"plan"))
    assert "has no cuDevicePrimaryCtxRetain, so it is older than CUDA 11.4; update the driver, or" in door(tiny)


def test_a_plan_that_a_newly_built_library_cannot_load(
    tiny: ModelBundle, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FakeDriver()
    use(monkeypatch, driver, FakeTensorRt(driver))
    build_with(monkeypatch, lambda plan: plan.write_bytes(b"of another GPU"))
    assert re.search(
        r"cannot make an engine of the plan \w+: Serialization assertion failed; update library and driver, or choose",
        door(tiny),
    )
    assert driver.contexts == driver.streams == 0


def test_a_cache_folder_that_cannot_be_written(
    tiny: ModelBundle, door: Door, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = FakeDriver()
    use(monkeypatch, driver, FakeTensorRt(driver))
    orders = build_with(monkeypatch, lambda plan: plan.write_bytes(b"plan"))
    (tmp_path / "file").touch()  # root writes to read-only folders, nobody makes a folder in a file
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    line = door(tiny)
    assert f"the plan cache {tmp_path / 'file'}/darkseg_ros/plans cannot be written (Not a directory); " in line
    assert "make it writable, or set XDG_CACHE_HOME to a folder that is" in line
    assert orders == []


def test_a_disk_that_fills_up_during_a_build(
    tiny: ModelBundle, door: Door, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def fill(plan: Path) -> None:
        plan.write_bytes(b"half a pl")
        Path("/dev/full").write_bytes(b"an")

    driver = FakeDriver()
    use(monkeypatch, driver, FakeTensorRt(driver))
    build_with(monkeypatch, fill)
    line = door(tiny)
    assert f"the disk is full: {cache} has no room for a plan; free some, or set XDG_CACHE_HOME" in line
    assert [path.name for path in cache.iterdir()] == ["build.lock"]


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A bundle with right hashes whose graphs call their input ``image``."""
    folder = tmp_path_factory.mktemp("renamed")
    bundle = write_tiny_bundle(folder)
    for path in (bundle / "model.onnx", folder / "logits.onnx"):
        model = onnx.load(str(path))
        model.graph.input[0].name = model.graph.node[0].input[0] = "image"
        onnx.save(model, path)
    graph = openvino.convert_model(str(folder / "logits.onnx"))
    openvino.save_model(graph, str(bundle / "cpu_int8.xml"), compress_to_fp16=False)
    manifest = json.loads((bundle / MANIFEST).read_text())
    for entry in manifest["files"].values():
        path = bundle / entry["path"]
        entry |= {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    return load_bundle(bundle)


def test_a_bundle_whose_graph_has_other_input_names(
    renamed: ModelBundle, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FakeDriver()
    use(monkeypatch, driver, FakeTensorRt(driver))  # the builder's process is the real one
    line = door(renamed)
    assert "model.onnx has inputs and outputs (['image'], ['class_map', 'confidence'])" in line
    assert "expected frame → class_map, confidence, all UINT8: export the model again" in line


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_bundle_whose_graph_has_other_input_names_on_the_cpu(renamed: ModelBundle, backend: str) -> None:
    with pytest.raises(DarksegError, match=r"image.*expected.*frame.*export the model again") as caught:
        open_engine(renamed, backend=backend)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("backend", "file"), [("openvino", "cpu_int8.xml"), ("onnxruntime", "model.onnx")])
def test_a_bundle_whose_graph_is_none_on_the_cpu(tiny: ModelBundle, tmp_path: Path, backend: str, file: str) -> None:
    folder = shutil.copytree(tiny.directory, tmp_path / "bundle")
    (folder / file).write_bytes(b"no graph\n" * 9)
    manifest = json.loads((folder / MANIFEST).read_text())
    for entry in manifest["files"].values():
        if entry["path"] == file:
            entry |= {"sha256": sha256_of(folder / file), "size_bytes": (folder / file).stat().st_size}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(
        BundleError, match=r"is refused as (cpu_graph|fused_onnx): it is no .*; export the model"
    ) as caught:
        open_engine(load_bundle(folder), backend=backend)
    assert "\n" not in str(caught.value)


def test_auto_says_what_keeps_it_from_a_gpu_with_an_old_driver(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver = FakeDriver()
    monkeypatch.setattr(driver, "cuInit", lambda flags: 803)
    use(monkeypatch, driver, FakeTensorRt(driver))
    monkeypatch.setattr(backends, "find_spec", lambda name: True)
    with caplog.at_level("INFO"):
        open_engine(tiny).close()
    assert "auto does not take TensorRT: CUDA needs an NVIDIA GPU, the driver offers none (cuInit" in caplog.text


def test_a_cache_that_cannot_be_written_costs_openvino_a_measurement_not_the_start(
    tiny: ModelBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    open_engine(tiny, backend="openvino").close()
    key = SettingsKey(graph_sha256="ab" * 32, library_version="1", cpu="a CPU", cpus=(0, 1))
    keep_threads(key, 2)
    assert kept_threads(key) is None
    complaint = caplog.messages[-1]
    assert f"{tmp_path / 'file'}/darkseg_ros/cpu_settings cannot be written (Not a directory)" in complaint
    assert "set XDG_CACHE_HOME" in complaint


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No XDG_CACHE_HOME, no HOME, no entry in /etc/passwd."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_folder(tiny: ModelBundle, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver()
    use(monkeypatch, driver, FakeTensorRt(driver))
    assert re.search(r"no home folder to keep plans in .*; set XDG_CACHE_HOME to a folder that can be", door(tiny))


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_folder_starts_on_the_cpu(tiny: ModelBundle, caplog: pytest.LogCaptureFixture) -> None:
    open_engine(tiny, backend="openvino").close()
    key = SettingsKey(graph_sha256="ab" * 32, library_version="1", cpu="a CPU", cpus=(0, 1))
    keep_threads(key, 2)
    assert kept_threads(key) is None
    assert (
        "threads is measured again at each start: there is no home folder to keep cpu_settings" in caplog.messages[-1]
    )
    assert "set XDG_CACHE_HOME to a folder that can be written" in caplog.messages[-1]


def test_a_failing_library_names_a_cure() -> None:
    log = tensorrt_library.LibraryLog(FakeTensorRt(FakeDriver()))
    with pytest.raises(
        EngineError, match=r"cannot make its builder: it gives no reason; update library and driver, or"
    ):
        log.created(lambda: None, "its builder")
