from __future__ import annotations

import json
import os
import shutil
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from darkseg_ros.classes import CITYSCAPES, ClassTable, SegmentationClass
from darkseg_ros.errors import BundleError
from darkseg_ros.model.backends import open_engine
from darkseg_ros.model.bundle import GoldenMatch, load_bundle, load_classes, load_golden, load_translator_bundle
from engines.bundle_writer import sha256_of
from tests.bundles import write_tiny_bundle


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def bundle_folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "tiny")


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_whole_bundle_loads_with_its_facts(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    assert bundle.name == "tiny"
    assert bundle.network_hw == (64, 128)
    assert bundle.temperature == 1.0
    assert bundle.fused_onnx.path == bundle_folder / "model.onnx"


def test_how_well_each_graph_must_match_the_golden_answer_is_the_bundles_own(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    assert bundle.fused_match == GoldenMatch(0.999, 1.0)
    assert bundle.cpu_match == GoldenMatch(0.99, 4.0)
    assert bundle.int8_match == GoldenMatch(0.95, 16.0)
    change_manifest(bundle_folder, lambda m: m.pop("golden_confidence_difference_max"))  # as before 2026-11-28
    assert load_bundle(bundle_folder).cpu_match == GoldenMatch(0.99, 16.0)


def test_a_bundle_from_before_there_was_a_symmetric_int8_graph_loads(bundle_folder: Path) -> None:
    (bundle_folder / "int8.onnx").unlink()
    change_manifest(bundle_folder, lambda m: (m["files"].pop("int8_onnx"), m["golden_agreement_min"].pop("int8")))
    assert load_bundle(bundle_folder).int8_onnx is None


def test_a_plan_in_fp16_is_judged_as_in_fp32_where_the_bundle_does_not_say_otherwise(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    assert bundle.fp16_match == bundle.fused_match
    change_manifest(
        bundle_folder,
        lambda m: (m["golden_agreement_min"].update(fp16=0.97), m["golden_confidence_difference_max"].update(fp16=4)),
    )
    assert load_bundle(bundle_folder).fp16_match == GoldenMatch(agreement=0.97, confidence_difference=4)


CAMVID_STYLE = ClassTable((SegmentationClass("sky", "sky", (1, 2, 3)), SegmentationClass("road", "flat", (4, 5, 6))))


def test_a_bundle_of_cityscapes_classes_stays_readable_for_older_packages(bundle_folder: Path) -> None:
    manifest = json.loads((bundle_folder / "model.json").read_text())
    assert manifest["schema_version"] == 1
    assert manifest["class_names"] == list(CITYSCAPES.names)
    assert "classes" not in manifest
    assert load_bundle(bundle_folder).classes == load_classes(bundle_folder) == CITYSCAPES


def test_a_bundle_of_other_classes_brings_their_table(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, classes=CAMVID_STYLE)
    assert json.loads((folder / "model.json").read_text())["schema_version"] == 2
    assert load_bundle(folder).classes == load_classes(folder) == CAMVID_STYLE


@pytest.mark.parametrize(
    ("load", "writer"),
    [(load_bundle, r"engines\.export wrote"), (load_translator_bundle, r"engines\.export_translator wrote")],
)
def test_a_folder_without_a_bundle_is_told_what_writes_one(
    tmp_path: Path, load: Callable[[Path], object], writer: str
) -> None:
    with pytest.raises(BundleError, match=rf"no model bundle: it has no model\.json; name a folder that {writer}"):
        load(tmp_path)


@pytest.mark.parametrize(
    "name", ["model.onnx", "int8.onnx", "cpu_int8.xml", "cpu_int8.bin", "golden.npz", "model.json"]
)
def test_a_missing_file_is_named(bundle_folder: Path, name: str) -> None:
    (bundle_folder / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("name", ["model.onnx", "int8.onnx", "cpu_int8.xml", "cpu_int8.bin", "golden.npz"])
def test_one_changed_byte_is_noticed(bundle_folder: Path, name: str) -> None:
    path = bundle_folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="was altered: sha256"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("name", ["model.onnx", "int8.onnx"])
def test_a_truncated_file_is_noticed(bundle_folder: Path, name: str) -> None:
    path = bundle_folder / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BundleError, match=rf"{name} has \d+ bytes, model\.json says"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=3), "schema version 3, this package reads 1 and 2"),
        (lambda m: m.update(schema_version=2), "classes is None"),
        (lambda m: m.update(schema_version=2, classes=[]), "classes: expected 1…255 classes, got 0"),
        (lambda m: m.pop("schema_version"), "schema version None"),
        (lambda m: m["class_names"].pop(), "lists 18 classes, expected the 19"),
        (lambda m: m["class_names"].reverse(), "in their order"),
        (lambda m: m["input"].update(height=62), "input size 62×128; expected multiples of 4"),
        (lambda m: m["input"].update(width=130), "input size 64×130; expected multiples of 4"),
        (lambda m: m["files"]["fused_onnx"].update(path="../model.onnx"), "points outside the bundle"),
        (lambda m: m["files"]["fused_onnx"].update(path="/etc/hostname"), "points outside the bundle"),
        (lambda m: m["files"]["int8_onnx"].update(path="../model.onnx"), "int8_onnx points outside the bundle"),
        (lambda m: m["files"]["int8_onnx"].update(path="a\0b"), "int8_onnx names no file of the bundle"),
        (lambda m: m["files"].update(int8_onnx=None), "int8_onnx is None"),
        (lambda m: m["files"].pop("cpu_graph"), "cpu_graph is None"),
        (lambda m: m["input"].update(height=-4), "input size -4"),
        (lambda m: m["input"].update(height=10**9), "up to 8192"),
        (lambda m: m["input"].update(height="64"), "height is '64'"),
        (lambda m: m.update(temperature=0), "temperature is 0, expected 0.01…100"),
        (lambda m: m.update(temperature=float("nan")), "temperature is nan"),
        (lambda m: m["golden_agreement_min"].update(fused=float("nan")), "fused is nan, expected 0…1"),
        (lambda m: m["golden_agreement_min"].update(cpu=-1), "cpu is -1"),
        (lambda m: m["golden_agreement_min"].update(int8=2), "int8 is 2, expected 0…1"),
        (lambda m: m["golden_agreement_min"].pop("int8"), "int8 is None"),
        (lambda m: m["golden_confidence_difference_max"].update(cpu=256), "cpu is 256, expected 0…255"),
        (lambda m: m["golden_confidence_difference_max"].pop("cpu"), "cpu is None"),
        (lambda m: m.update(golden_confidence_difference_max=16), "golden_confidence_difference_max is 16"),
        (lambda m: m["golden_agreement_min"].update(fp16=1.5), "fp16 is 1.5, expected 0…1"),
        (lambda m: m.update(name=None), "name is None"),
        (lambda m: m.update(name="tiny\n[ERROR] forged line"), "printable characters"),
        (lambda m: m.update(name="x" * 101), "up to 100"),
        (lambda m: m["input"].update(height=8192, width=8192), "at most 8388608 pixels"),
        (lambda m: m["files"]["golden"].update(path="a\0b"), "golden names no file of the bundle"),
        (lambda m: m["files"]["golden"].update(path="x" * 5000), "golden names no file of the bundle"),
        (lambda m: m["files"]["golden"].update(path="."), "lacks"),
        (lambda m: m["files"]["golden"].update(path="sub/../../golden.npz"), "points outside the bundle"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    bundle_folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    change_manifest(bundle_folder, change)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\0", "[" * 200_000, '{"a":' * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(bundle_folder: Path, content: str) -> None:
    (bundle_folder / "model.json").write_text(content)
    with pytest.raises(BundleError, match=r"JSON|expected an object"):
        load_bundle(bundle_folder)


def replace_golden(folder: Path, **arrays: np.ndarray) -> None:
    path = folder / "golden.npz"
    with np.load(path) as archive:
        content = {**archive, **arrays}
    np.savez(path, **content)
    entry = {"path": "golden.npz", "sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    change_manifest(folder, lambda manifest: manifest["files"].update(golden=entry))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_graph_that_answers_otherwise_than_recorded_is_refused(bundle_folder: Path, backend: str) -> None:
    answer = load_golden(load_bundle(bundle_folder)).class_map
    replace_golden(bundle_folder, class_map=(answer + 1) % 19)
    with pytest.raises(BundleError, match=r"agrees with the golden answer on 0\.0%"):
        open_engine(load_bundle(bundle_folder), backend=backend)


def test_a_golden_answer_of_another_shape_is_refused(bundle_folder: Path) -> None:
    replace_golden(bundle_folder, class_map=np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(BundleError, match=r"class_map is .*\(1, 2, 2\).*, expected uint8 \(1, 64, 128\)"):
        load_golden(load_bundle(bundle_folder))


def test_a_pickle_in_the_golden_archive_is_never_loaded(bundle_folder: Path) -> None:
    replace_golden(bundle_folder, frames=np.array([Trap()], dtype=object))
    with pytest.raises(BundleError, match=r"frames is .*'\|O'.*, expected uint8"):
        load_golden(load_bundle(bundle_folder))
    assert not Trap.sprung


class Trap:
    """Says so when it is unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return setattr, (Trap, "sprung", True)


# --- sizes


def sign(folder: Path, role: str, name: str) -> None:
    """Enter a file as it is now into the manifest."""
    path = folder / name
    entry = {"path": name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size}
    change_manifest(folder, lambda manifest: manifest["files"].update({role: entry}))


def peak_bytes_while_refusing(folder: Path, load: Callable[[Path], object], message: str) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=message):
            load(folder)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def load_with_golden(folder: Path) -> object:
    return load_golden(load_bundle(folder))


def test_a_manifest_as_large_as_a_disk_is_not_read(bundle_folder: Path) -> None:
    os.truncate(bundle_folder / "model.json", 2**34)  # sparse: it takes no space
    peak = peak_bytes_while_refusing(bundle_folder, load_bundle, "larger than 1048576 bytes")
    assert peak < 8 * 2**20


@pytest.mark.parametrize(("role", "name"), [("fused_onnx", "model.onnx"), ("int8_onnx", "int8.onnx")])
def test_a_file_larger_than_any_model_is_refused_before_it_is_read(bundle_folder: Path, role: str, name: str) -> None:
    os.truncate(bundle_folder / name, 2**40)
    change_manifest(bundle_folder, lambda manifest: manifest["files"][role].update(size_bytes=2**40))
    started = time.thread_time()
    with pytest.raises(BundleError, match=rf"{name} has 1099511627776 bytes, expected at most 1073741824"):
        load_bundle(bundle_folder)
    assert time.thread_time() - started < 1.0  # hashing a terabyte takes minutes


def write_zip(folder: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(folder / "golden.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    sign(folder, "golden", "golden.npz")


def npy_header(shape: str, *, descr: str = "|u1") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_a_zip_bomb_in_the_golden_archive_is_not_unpacked(bundle_folder: Path) -> None:
    write_zip(bundle_folder, {"frames.npy": npy_header("(1, 64, 128, 3)") + bytes(2**25)})
    assert (bundle_folder / "golden.npz").stat().st_size < 2**16
    peak = peak_bytes_while_refusing(bundle_folder, load_with_golden, "frames unpacks to 33554560 bytes")
    assert peak < 8 * 2**20


def test_a_zip_directory_that_understates_a_bomb_unpacks_no_more_than_it_states(bundle_folder: Path) -> None:
    write_zip(bundle_folder, {"frames.npy": npy_header("(1, 64, 128, 3)") + bytes(2**25)})
    path = bundle_folder / "golden.npz"
    honest, stated = (2**25 + 128).to_bytes(4, "little"), (24576 + 128).to_bytes(4, "little")
    content = path.read_bytes()
    assert content.count(honest) == 2  # before the member and in the directory
    path.write_bytes(content.replace(honest, stated))
    sign(bundle_folder, "golden", "golden.npz")
    peak = peak_bytes_while_refusing(bundle_folder, load_with_golden, "no golden archive")
    assert peak < 8 * 2**20


def test_an_array_header_that_asks_for_a_terabyte_gets_none(bundle_folder: Path) -> None:
    write_zip(bundle_folder, {"frames.npy": npy_header("(1048576, 1048576)")})
    peak = peak_bytes_while_refusing(bundle_folder, load_with_golden, r"frames is .*\(1048576, 1048576\)")
    assert peak < 8 * 2**20


def test_a_golden_archive_beyond_the_input_size_is_not_opened(bundle_folder: Path) -> None:
    # a directory of a million names would be read whole, before any of them can be judged
    os.truncate(bundle_folder / "golden.npz", 2**24)
    sign(bundle_folder, "golden", "golden.npz")
    with pytest.raises(BundleError, match="has 16777216 bytes, expected at most"):
        load_golden(load_bundle(bundle_folder))


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"frames.npy": b""},
        {"frames.npy": b"\x80\x04\x95pickled"},
        {"frames.npy": npy_header("(1, 64, 128, 3)")},
        {"frames.npy": npy_header("(1, 64, 128, 3)") + bytes(17)},
        {"frames.npy": b"\x93NUMPY\x03\x00\xff\xff\xff\xff"},
    ],
    ids=["empty", "no array", "pickle", "no pixels", "few pixels", "version 3"],
)
def test_what_is_no_archive_of_arrays_is_refused(bundle_folder: Path, members: dict[str, bytes]) -> None:
    write_zip(bundle_folder, members)
    with pytest.raises(BundleError, match="no golden archive"):
        load_golden(load_bundle(bundle_folder))


@pytest.mark.parametrize(
    "shape", ["__import__('os').abort()", "(" * 9000, "[" * 60_000, "(1, 64, 128, 3" + ",)" * 3000, "'\\d'"]
)
def test_a_header_that_is_code_or_nests_without_end_is_not_evaluated(bundle_folder: Path, shape: str) -> None:
    write_zip(bundle_folder, {"frames.npy": npy_header(shape)[: 2**12]})
    with pytest.raises(BundleError, match=r"frames is|no golden archive"):
        load_golden(load_bundle(bundle_folder))


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_packing_whose_dictionary_may_take_gigabytes_is_refused(bundle_folder: Path, method: int) -> None:
    with zipfile.ZipFile(bundle_folder / "golden.npz", "w", method) as archive:
        archive.writestr("frames.npy", npy_header("(1, 64, 128, 3)") + bytes(64 * 128 * 3))
    sign(bundle_folder, "golden", "golden.npz")
    with pytest.raises(BundleError, match=f"packed by method {method}"):
        load_golden(load_bundle(bundle_folder))


@pytest.mark.parametrize("at", range(0, 120, 3))
def test_a_golden_archive_with_a_wrong_byte_is_no_traceback(bundle_folder: Path, at: int) -> None:
    path = bundle_folder / "golden.npz"
    content = bytearray(path.read_bytes())
    content[-at - 1] ^= 0xFF  # in the directory, which says where everything is
    path.write_bytes(content)
    sign(bundle_folder, "golden", "golden.npz")
    with suppress(BundleError):  # some bytes, such as dates, nobody reads
        load_golden(load_bundle(bundle_folder))


# --- formats


def test_a_cpu_graph_of_another_format_that_openvino_reads_is_refused(bundle_folder: Path) -> None:
    (bundle_folder / "cpu_int8.xml").write_bytes((bundle_folder / "model.onnx").read_bytes())
    sign(bundle_folder, "cpu_graph", "cpu_int8.xml")
    with pytest.raises(BundleError, match=r"cpu_int8\.xml is refused as cpu_graph: it is no OpenVINO IR"):
        load_bundle(bundle_folder)
    sign(bundle_folder, "cpu_graph", "model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx is refused as cpu_graph: its name must end in \.xml"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("role", ["fused_onnx", "int8_onnx"])
def test_a_fused_graph_in_onnx_runtimes_own_format_is_refused(bundle_folder: Path, role: str) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(bundle_folder / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(bundle_folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    sign(bundle_folder, role, "model.ort")
    with pytest.raises(BundleError, match=rf"model\.ort is refused as {role}: its name must end in \.onnx"):
        load_bundle(bundle_folder)
    (bundle_folder / "model.ort").rename(bundle_folder / "ort.onnx")
    sign(bundle_folder, role, "ort.onnx")
    with pytest.raises(BundleError, match=rf"ort\.onnx is refused as {role}: it is no ONNX"):
        load_bundle(bundle_folder)


# --- paths


@pytest.mark.parametrize(
    "name", ["model.json", "model.onnx", "int8.onnx", "cpu_int8.xml", "cpu_int8.bin", "golden.npz"]
)
def test_a_link_to_a_file_outside_is_refused(bundle_folder: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (bundle_folder / name).rename(outside)
    (bundle_folder / name).symlink_to(outside)
    with pytest.raises(BundleError, match="outside the bundle"):
        load_bundle(bundle_folder)


def test_a_linked_folder_inside_the_bundle_leads_nowhere(bundle_folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (bundle_folder / "golden.npz").rename(elsewhere / "golden.npz")
    (bundle_folder / "sub").symlink_to(elsewhere, target_is_directory=True)
    change_manifest(bundle_folder, lambda manifest: manifest["files"]["golden"].update(path="sub/golden.npz"))
    with pytest.raises(BundleError, match="points outside the bundle"):
        load_bundle(bundle_folder)


def test_a_link_to_itself_is_refused(bundle_folder: Path) -> None:
    (bundle_folder / "golden.npz").unlink()
    (bundle_folder / "golden.npz").symlink_to("golden.npz")
    with pytest.raises(BundleError, match=r"names no file of the bundle|lacks golden\.npz"):
        load_bundle(bundle_folder)


def test_a_link_to_the_whole_bundle_is_followed(bundle_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(bundle_folder, target_is_directory=True)
    assert load_bundle(tmp_path / "current").name == "tiny"


@pytest.mark.parametrize("location", ["../../../etc/hostname", "weights.bin"])
@pytest.mark.parametrize(("role", "name"), [("fused_onnx", "model.onnx"), ("int8_onnx", "int8.onnx")])
def test_a_graph_that_keeps_weights_in_another_file_is_refused(
    bundle_folder: Path, role: str, name: str, location: str
) -> None:
    path = bundle_folder / name
    graph = onnx.load(path)
    weight = graph.graph.initializer[0]
    onnx.external_data_helper.set_external_data(weight, location)
    weight.ClearField("raw_data")
    path.write_bytes(graph.SerializeToString())
    sign(bundle_folder, role, name)
    with pytest.raises(BundleError, match="keeps weights in other files"):
        load_bundle(bundle_folder)
