"""A CycloneDX parts list of this Python environment and a model bundle, the same bytes each time.

    python -m engines.sbom [--bundle engines/darkseg_slim] [--out out/sbom.json]

Every installed distribution is a component with its version, its package URL and its licence, where its metadata gives
one that CycloneDX takes. The bundle is a component of the type ``machine-learning-model`` with a file for each of its
parts and its SHA-256. The serial number follows from the components, the time is that of the bundle.

Source: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from datetime import datetime, timezone
from importlib.metadata import Distribution, distributions
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from darkseg_ros.errors import DarksegError, one_line
from darkseg_ros.installed_files import bundle_folder
from darkseg_ros.model.bundle import ModelBundle, load_bundle, sha256_of
from darkseg_ros.whole_files import write_whole

_LICENCE_CHARACTERS_MAX = 100
"""Longer ones are whole licence texts in the wrong field."""


def main(arguments: list[str] | None = None) -> int:
    """Write the list; returns the exit status."""
    parser = argparse.ArgumentParser(prog="engines.sbom", description="Write a CycloneDX list of all parts.")
    parser.add_argument("--bundle", type=Path, help="the model's folder (default: the shipped one)")
    parser.add_argument("--out", type=Path, default=Path("out/sbom.json"), help="(default: out/sbom.json)")
    options = parser.parse_args(arguments)
    try:
        bundle = load_bundle(bundle_folder(options.bundle))
        components = [*environment_components(), bundle_component(bundle)]
        write_whole(options.out, parts_list(components, made=_created(bundle)).encode())
    except (DarksegError, OSError) as error:
        print(f"engines.sbom: {one_line(error)}", file=sys.stderr)
        return 1
    print(f"{options.out}: {len(components)} components")
    return 0


def parts_list(components: list[Component], *, made: datetime) -> str:
    """The components as CycloneDX JSON."""
    named = "\n".join(sorted(f"{component.bom_ref.value}" for component in components))
    serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"{named}\n{made.isoformat()}")
    bom = Bom(components=components, serial_number=serial_number, metadata=BomMetaData(timestamp=made))
    return f"{JsonV1Dot6(bom).output_as_string(indent=2)}\n"


def environment_components() -> list[Component]:
    """One for each distribution that this interpreter can import."""
    found = {_normal(distribution.metadata["Name"]): distribution for distribution in distributions()}
    return [_component(name, found[name]) for name in sorted(found)]


def bundle_component(bundle: ModelBundle) -> Component:
    """The model with its files."""
    folder, reference = bundle.directory, f"bundle:{bundle.name}"
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=reference,
        name=bundle.name,
        version=f"{_created(bundle):%Y-%m-%d}",
        hashes=[_sha256(folder / "model.json")],
        components=[
            Component(
                type=ComponentType.FILE, bom_ref=f"{reference}/{path.name}", name=path.name, hashes=[_sha256(path)]
            )
            for path in sorted(folder.iterdir())
            if path.is_file()
        ],
    )


def _component(name: str, distribution: Distribution) -> Component:
    purl = PackageURL("pypi", None, name, distribution.version)
    metadata = distribution.metadata
    licence = metadata.get("License-Expression") or metadata.get("License") or ""
    short = 0 < len(licence) <= _LICENCE_CHARACTERS_MAX and "\n" not in licence
    return Component(
        bom_ref=purl.to_string(),
        name=name,
        version=distribution.version,
        purl=purl,
        description=metadata.get("Summary"),
        licenses=[LicenseFactory().make_from_string(licence)] if short else [],
    )


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _created(bundle: ModelBundle) -> datetime:
    manifest = json.loads((bundle.directory / "model.json").read_text(encoding="utf-8"))
    return datetime.fromisoformat(manifest["created"]).replace(tzinfo=timezone.utc)


def _sha256(path: Path) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=sha256_of(path))


if __name__ == "__main__":
    sys.exit(main())
