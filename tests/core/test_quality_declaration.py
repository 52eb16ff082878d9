"""QUALITY_DECLARATION.md claims nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def missing_evidence(declaration: str) -> list[str]:
    """Files and make verbs that a page names in its third column and that this checkout lacks."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    rows = [line.split("|")[1:-1] for line in declaration.splitlines() if line.startswith("|")]
    named = [name for row in rows[2:] for name in re.findall(r"`([^`]+)`", row[-1])]
    assert named
    return [
        name
        for name in named
        if not (name.removeprefix("make ") in verbs if name.startswith("make ") else (ROOT / name).exists())
    ]


def test_all_evidence_exists() -> None:
    assert missing_evidence((ROOT / "QUALITY_DECLARATION.md").read_text(encoding="utf-8")) == []


def test_evidence_that_is_missing_is_found() -> None:
    page = "| a | b | c |\n|---|---|---|\n| 1 | claim | `make coffee`, `README.md`, `docs/absent.md` |\n"
    assert missing_evidence(page) == ["make coffee", "docs/absent.md"]


def test_version_and_licence_are_the_same_everywhere() -> None:
    setup, package = ((ROOT / name).read_text(encoding="utf-8") for name in ("setup.py", "package.xml"))
    (version,) = re.findall(r'version="([^"]+)"', setup)
    assert f"<version>{version}</version>" in package
    assert 'license="Apache-2.0"' in setup
    assert ">Apache-2.0</license>" in package
