"""A CycloneDX parts list of this Python environment and a model bundle, the same bytes each time.

    python -m engines.sbom [--bundle engines/darkseg_slim] [--out out/sbom.json]

The environment's part is cyclonedx-py's. The bundle is one component of the type ``machine-learning-model`` with a file
for each of its parts and its SHA-256. Without a time and a serial number, which CycloneDX allows.

Source: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from darkseg_ros.errors import DarksegError, EngineError, one_line
from darkseg_ros.installed_files import default_bundle
from darkseg_ros.model.bundle import ModelBundle, load_bundle, sha256_of
from darkseg_ros.whole_files import write_whole


def main(arguments: list[str] | None = None) -> int:
    """Write the list; returns the exit status."""
    parser = argparse.ArgumentParser(prog="engines.sbom", description="Write a CycloneDX list of all parts.")
    parser.add_argument("--bundle", type=Path, help="the model's folder (default: the shipped one)")
    parser.add_argument("--out", type=Path, default=Path("out/sbom.json"), help="(default: out/sbom.json)")
    options = parser.parse_args(arguments)
    try:
        bundle = load_bundle(options.bundle or default_bundle())
        parts = with_bundle(environment_parts(Path(sys.executable)), bundle)
        write_whole(options.out, f"{json.dumps(parts, indent=2, sort_keys=True, ensure_ascii=False)}\n".encode())
    except (DarksegError, OSError) as error:
        print(f"engines.sbom: {one_line(error)}", file=sys.stderr)
        return 1
    print(f"{options.out}: {len(parts['components'])} components")
    return 0


def environment_parts(python: Path) -> dict[str, Any]:
    """What cyclonedx-py finds in the environment of an interpreter, less paths of this machine.

    Raises:
        EngineError: if it fails.
    """
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--no-validate"]
    done = subprocess.run([*command, "--of", "JSON", str(python)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"cyclonedx-py fails: {done.stderr}; run `make test` once, which installs it")
    parts: dict[str, Any] = json.loads(done.stdout)
    for component in parts["components"]:
        references = component.get("externalReferences", [])
        component["externalReferences"] = [each for each in references if not each["url"].startswith("file:")]
    parts["components"].sort(key=lambda component: (component["name"].lower(), component.get("version", "")))
    return parts


def with_bundle(parts: dict[str, Any], bundle: ModelBundle) -> dict[str, Any]:
    """The list with a bundle as one more component."""
    folder = bundle.directory
    files = sorted(path for path in folder.iterdir() if path.is_file())
    manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    model = {
        "type": "machine-learning-model",
        "bom-ref": f"bundle:{bundle.name}",
        "name": bundle.name,
        "version": manifest["created"],
        "description": manifest["task"],
        "hashes": [_sha256(folder / "model.json")],
        "components": [
            {
                "type": "file",
                "bom-ref": f"bundle:{bundle.name}/{path.name}",
                "name": path.name,
                "hashes": [_sha256(path)],
            }
            for path in files
        ],
    }
    return {**parts, "components": [*parts["components"], model]}


def _sha256(path: Path) -> dict[str, str]:
    return {"alg": "SHA-256", "content": sha256_of(path)}


if __name__ == "__main__":
    sys.exit(main())
