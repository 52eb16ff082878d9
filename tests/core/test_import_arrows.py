"""The import arrows of CONTRIBUTING.md: training → darkseg_ros ← engines, rclpy in darkseg_ros/nodes only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAINING_LIBRARIES = {
    "torch",
    "torchvision",
    "segmentation_models_pytorch",
    "timm",
    "lightning",
    "lightning_fabric",
}
ROS_LIBRARIES = {"rclpy", "launch", "launch_ros", "builtin_interfaces", "rcl_interfaces", "std_srvs"}
MAY_START_NODES = {
    "darkseg_ros/benchmark/ros_run.py",
    "darkseg_ros/cli.py",
    "darkseg_ros/demo.py",
    "darkseg_ros/node_process.py",
}


@dataclass(frozen=True)
class Import:
    """One imported module: its full dotted name, its line, and whether it waits for a function call."""

    module: str
    line: int
    lazy: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports_of(source: str, *, path: str) -> Iterator[Import]:
    """Every import of a file, relative ones resolved; `path` is relative to the checkout's root.

    ``from a import b`` yields ``a.b``: b may be a module. Imports under ``if TYPE_CHECKING:`` count as well,
    since an arrow is about what a reader has to know too. ``importlib.import_module("a")`` and
    ``__import__("a")`` yield ``a`` where the name is a literal.
    """
    package = path.split("/")[:-1]

    def walk(node: ast.AST, *, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, lazy)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                yield Import(f"{origin}.{alias.name}", node.lineno, lazy)
        elif isinstance(node, ast.Call) and _called_name(node) in {"import_module", "__import__"} and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield Import(name.value, node.lineno, lazy)
        inside_function = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, lazy=inside_function)

    yield from walk(ast.parse(source), lazy=False)


def _called_name(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def violations(source: str, *, path: str) -> list[str]:
    """The imports of a file that point against the arrows, one line each."""
    found = []
    for imported in imports_of(source, path=path):
        reason = _objection(imported, path=path)
        if reason:
            found.append(f"{path}:{imported.line}: {imported.module}: {reason}")
    return found


def _objection(imported: Import, *, path: str) -> str:
    area = path.split("/")[0]
    is_node = path.startswith("darkseg_ros/nodes/")
    is_ros = imported.top in ROS_LIBRARIES or imported.top.endswith("_msgs")
    if area == "training" and imported.top == "engines":
        return "training must not import engines"
    if area == "darkseg_ros" and imported.top in {"training", "engines"}:
        return f"darkseg_ros must not import {imported.top}"
    if area == "darkseg_ros" and imported.top in TRAINING_LIBRARIES:
        return "darkseg_ros must not import training libraries"
    if is_ros and not is_node:
        return "only darkseg_ros/nodes imports ROS"
    if area == "darkseg_ros" and not is_node and f"{imported.module}.".startswith("darkseg_ros.nodes."):
        if path not in MAY_START_NODES:
            return f"only {' and '.join(sorted(MAY_START_NODES))} start nodes"
        if not imported.lazy:
            return "import nodes inside the function that starts them"
    return ""


def source_files() -> list[Path]:
    return sorted(path for area in ("darkseg_ros", "training", "engines") for path in (ROOT / area).rglob("*.py"))


def test_no_import_points_against_the_arrows() -> None:
    files = source_files()
    assert len(files) > 3, f"expected the sources of this checkout below {ROOT}, found {files}"
    found = []
    for path in files:
        found += violations(path.read_text(encoding="utf-8"), path=path.relative_to(ROOT).as_posix())
    assert found == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("darkseg_ros/overlay.py", "import training"),
        ("darkseg_ros/overlay.py", "from engines.export import export"),
        ("darkseg_ros/nodes/overlay_node.py", "from training import train_segmenter"),
        ("darkseg_ros/segmenter.py", "def load():\n    import torch.nn"),
        ("darkseg_ros/nodes/segmentation_node.py", "import timm"),
        ("darkseg_ros/bags.py", "import rclpy"),
        ("darkseg_ros/bags.py", "def play():\n    from rclpy.node import Node"),
        ("darkseg_ros/image_messages.py", "from sensor_msgs.msg import Image"),
        ("darkseg_ros/image_messages.py", "if TYPE_CHECKING:\n    from sensor_msgs.msg import Image"),
        ("darkseg_ros/image_messages.py", "importlib.import_module('sensor_msgs.msg')"),
        ("darkseg_ros/image_messages.py", "__import__('rclpy')"),
        ("darkseg_ros/overlay.py", "def show():\n    from darkseg_ros.nodes import overlay_node"),
        ("darkseg_ros/overlay.py", "from .nodes.overlay_node import main"),
        ("darkseg_ros/engine/openvino.py", "from ..nodes import overlay_node"),
        ("darkseg_ros/cli.py", "from darkseg_ros.nodes import bag_player"),
        ("darkseg_ros/cli.py", "from darkseg_ros import nodes"),
        ("darkseg_ros/demo.py", "def play():\n    import rclpy"),
        ("training/train_segmenter.py", "from engines import export"),
        ("training/datasets.py", "import rclpy"),
        ("engines/export.py", "from sensor_msgs.msg import Image"),
    ],
)
def test_a_planted_violation_is_found(path: str, source: str) -> None:
    assert len(violations(source, path=path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("darkseg_ros/nodes/segmentation_node.py", "import rclpy\nfrom sensor_msgs.msg import Image"),
        ("darkseg_ros/nodes/segmentation_node.py", "from .lifecycle import autostart"),
        ("darkseg_ros/cli.py", "def play():\n    from darkseg_ros.nodes import bag_player"),
        ("darkseg_ros/image_messages.py", "import cv2\nfrom darkseg_ros.errors import ImageMessageError"),
        ("darkseg_ros/engine/openvino.py", "def open():\n    import openvino"),
        ("training/train_segmenter.py", "import torch\nfrom darkseg_ros.classes import CLASSES"),
        (
            "engines/export.py",
            "from training.networks import SlimFpn\nfrom darkseg_ros.bundle import load_bundle",
        ),
        ("darkseg_ros/overlay.py", "from darkseg_ros.classes import PALETTE_BGR\nimport trainingwheels"),
    ],
)
def test_what_follows_the_arrows_is_let_through(path: str, source: str) -> None:
    assert violations(source, path=path) == []


def test_importing_darkseg_ros_outside_nodes_loads_neither_torch_nor_ros() -> None:
    modules = []
    for path in sorted((ROOT / "darkseg_ros").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "nodes" not in parts and parts[-1] != "__main__":
            modules.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    program = (
        "import importlib, sys\n"
        f"for module in {modules!r}:\n"
        "    importlib.import_module(module)\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in "
        f"{sorted(TRAINING_LIBRARIES | {'rclpy', 'training', 'engines'})!r}\n"
        "             or name.partition('.')[0].endswith('_msgs')))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]"
