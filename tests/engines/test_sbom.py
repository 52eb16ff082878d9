from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cyclonedx.model.bom import Bom

from darkseg_ros.model.bundle import load_bundle
from engines import sbom
from tests.bundles import write_tiny_bundle


def test_two_lists_are_the_same_bytes_and_name_environment_and_model(tmp_path: Path) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path / "bundle"))
    contents = []
    for name in ("first.json", "second.json"):
        assert sbom.main(["--bundle", str(bundle.directory), "--out", str(tmp_path / name)]) == 0
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    components = {component["name"]: component for component in json.loads(contents[0])["components"]}
    assert {"numpy", "torch", "openvino", bundle.name} <= set(components)
    assert components["numpy"]["purl"].startswith("pkg:pypi/numpy@")
    assert len(Bom.from_json(json.loads(contents[0])).components) == len(components)


def test_the_model_is_listed_with_the_hash_of_each_file(tmp_path: Path) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path))
    model = sbom.bundle_component(bundle)
    assert model.type == "machine-learning-model"
    hashes = {part.name: part.hashes[0].content for part in model.components}
    assert set(hashes) == {path.name for path in bundle.directory.iterdir()}
    for name, digest in hashes.items():
        assert digest == hashlib.sha256((bundle.directory / name).read_bytes()).hexdigest()


def test_another_environment_is_another_list(tmp_path: Path) -> None:
    made = sbom._created(load_bundle(write_tiny_bundle(tmp_path)))
    components = sbom.environment_components()
    assert sbom.parts_list(components, made=made) != sbom.parts_list(components[1:], made=made)


def test_a_folder_that_is_no_bundle_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sbom.main(["--bundle", str(tmp_path), "--out", str(tmp_path / "sbom.json")]) == 1
    assert capsys.readouterr().err.startswith("engines.sbom: ")
    assert not (tmp_path / "sbom.json").exists()
