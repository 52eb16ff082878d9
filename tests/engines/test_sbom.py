from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator

from darkseg_ros.model.bundle import load_bundle
from engines import sbom
from tests.bundles import write_tiny_bundle

ENVIRONMENT: dict[str, Any] = {
    "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "components": [{"type": "library", "bom-ref": "numpy", "name": "numpy", "version": "2.4.6"}],
}


def test_the_bundle_is_a_component_with_all_its_files(tmp_path: Path) -> None:
    bundle = load_bundle(write_tiny_bundle(tmp_path))
    parts = sbom.with_bundle(ENVIRONMENT, bundle)
    library, model = parts["components"]
    assert (library["name"], model["type"], model["name"]) == ("numpy", "machine-learning-model", bundle.name)
    hashes = {part["name"]: part["hashes"][0]["content"] for part in model["components"]}
    assert set(hashes) == {path.name for path in bundle.directory.iterdir()}
    for name, digest in hashes.items():
        assert digest == hashlib.sha256((bundle.directory / name).read_bytes()).hexdigest()
    validator = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(parts)) is None


@pytest.mark.timeout(600)
def test_two_lists_of_this_environment_are_the_same_bytes_and_name_no_path(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    contents = []
    for name in ("first.json", "second.json"):
        assert sbom.main(["--bundle", str(bundle), "--out", str(tmp_path / name)]) == 0
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    names = {component["name"] for component in json.loads(contents[0])["components"]}
    assert {"numpy", "torch", "openvino", bundle.name} <= names
    assert str(Path.home()).encode() not in contents[0]
    assert b"file:" not in contents[0]


def test_a_folder_that_is_no_bundle_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sbom.main(["--bundle", str(tmp_path), "--out", str(tmp_path / "sbom.json")]) == 1
    assert capsys.readouterr().err.startswith("engines.sbom: ")
    assert not (tmp_path / "sbom.json").exists()
