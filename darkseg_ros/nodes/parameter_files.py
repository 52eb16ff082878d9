"""Writes config/*.yaml and the README's tables of parameters from their declarations, in a checkout.

    python -m darkseg_ros.nodes.parameter_files

A test fails where the files hold anything else.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from darkseg_ros.installed_files import share_directory
from darkseg_ros.nodes.day2night_node import Day2NightParameters
from darkseg_ros.nodes.evaluation_node import EvaluationParameters
from darkseg_ros.nodes.overlay_node import OverlayParameters
from darkseg_ros.nodes.parameters import Declaration, declarations
from darkseg_ros.nodes.segmentation_parameters import SegmentationParameters
from darkseg_ros.whole_files import write_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PARAMETERS_OF_NODES: Mapping[str, type[DataclassInstance]] = {
    "segmentation_node": SegmentationParameters,
    "overlay_node": OverlayParameters,
    "evaluation_node": EvaluationParameters,
    "day2night_node": Day2NightParameters,
}

_NODES_OF_FILES = {
    "config/segmentation_node.yaml": ("segmentation_node", "overlay_node", "evaluation_node"),
    "config/day2night_node.yaml": ("day2night_node",),
}

_TABLE = re.compile(r"(<!-- parameters of (\w+) -->\n\n)(?:\|.*\n)*")
"""Where a page of the documentation has the table of a node."""

_WIDTH = 116


def yaml_text(nodes: tuple[str, ...]) -> str:
    """A file of parameters for these nodes: every default, with its meaning above it."""
    lines = [f"# Parameters of {', '.join(nodes)}, with their defaults. Live ones can be changed while the node runs."]
    lines.append("# Written by `python -m darkseg_ros.nodes.parameter_files` from the nodes' declarations.")
    for node in nodes:
        lines += [f"/**/{node}:", "  ros__parameters:"]
        for declaration in declarations(PARAMETERS_OF_NODES[node]):
            lines += textwrap.wrap(_comment(declaration), _WIDTH, initial_indent="    # ", subsequent_indent="    # ")
            lines.append(f"    {declaration.name}: {declaration.yaml_default}")
        lines.append("")
    return "\n".join(lines)


def _comment(declaration: Declaration) -> str:
    return " ".join(
        part
        for part in (
            f"({declaration.range_text})" if declaration.range_text else "",
            declaration.means,
            "Live." if declaration.live else "",
        )
        if part
    )


def table_text(node: str) -> str:
    """The parameters of a node as a table in Markdown."""
    rows = ["| parameter | default | range | live | means |", "|---|---|---|---|---|"]
    rows += [
        f"| `{declaration.name}` | {declaration.yaml_default} | {declaration.range_text or '–'} | "
        f"{'yes' if declaration.live else 'no'} | {declaration.means} |"
        for declaration in declarations(PARAMETERS_OF_NODES[node])
    ]
    return "\n".join(rows)


def with_tables(page: str) -> str:
    """A page of Markdown with the table of each node whose place it marks by ``<!-- parameters of … -->``."""
    return _TABLE.sub(lambda place: f"{place[1]}{table_text(place[2])}\n", page)


def expected_files() -> dict[Path, str]:
    """Every file that holds parameters, and its right content."""
    root = share_directory()
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    texts = {page: page.read_text(encoding="utf-8") for page in pages if page.is_file()}
    return {
        **{root / name: yaml_text(nodes) for name, nodes in _NODES_OF_FILES.items()},
        **{page: with_tables(content) for page, content in texts.items() if _TABLE.search(content)},
    }


def main() -> int:
    """Write the files."""
    for path, content in expected_files().items():
        write_whole(path, content.encode())
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
