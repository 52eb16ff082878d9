"""The import arrows of CONTRIBUTING.md: training → darkseg_ros ← engines, rclpy in darkseg_ros/nodes only, and the
layers of darkseg_ros, each of which imports only what lies below it.
"""

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
LAYERS = (
    {
        "classes",
        "errors",
        "whole_files",
        "installed_files",
        "cache_folder",
        "child_processes",
    },  # the ground: modules at the top
    {"frames", "pictures", "synthetic_drive"},
    {"model"},
    {"stream", "night", "fleet"},
    {"evaluation"},
    {"nodes"},
    {"benchmark"},
    {"commands"},
)
"""Of darkseg_ros, from the ground up. Rooms of one layer do not import each other, the modules of the ground apart."""

MAY_IMPORT_NODES = ("darkseg_ros/benchmark/", "darkseg_ros/commands/")
WITHOUT_ROS = "darkseg_ros.nodes.node_process"
"""Starts nodes as processes of their own; imports no ROS, so that it may be imported at the top of a module."""


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
        if not path.startswith(MAY_IMPORT_NODES):
            return f"only {' and '.join(MAY_IMPORT_NODES)} start nodes"
        if not imported.lazy and not imported.module.startswith(f"{WITHOUT_ROS}."):
            return "import nodes inside the function that starts them"
    return _objection_of_layers(imported, path=path)


def _objection_of_layers(imported: Import, *, path: str) -> str:
    if not path.startswith("darkseg_ros/") or imported.top != "darkseg_ros":
        return ""
    room, other = path.split("/")[1].removesuffix(".py"), [*imported.module.split("."), ""][1]
    level, other_level = _level(room), _level(other)
    if other == room or level is None or other_level is None:
        return ""
    if other_level > level:
        return f"{room} lies below {other}"
    if other_level == level > 0:
        return f"{room} and {other} lie in one layer, which do not import each other"
    return ""


def _level(room: str) -> int | None:
    return next((level for level, rooms in enumerate(LAYERS) if room in rooms), None)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Modules that reach themselves over imports, one list a circle; `arrows` maps each module to what it imports."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = arrows.get(waiting.pop(), set()) - seen
            seen |= new
            waiting += new
        return seen

    reach = {module: reachable(module) for module in arrows}
    found = {frozenset({a} | {b for b in reach[a] if a in reach.get(b, set())}) for a in arrows if a in reach[a]}
    return sorted(sorted(circle) for circle in found)


def module_name(path: Path) -> str:
    """Dotted name of a source file, its package's for an ``__init__.py``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph() -> dict[str, set[str]]:
    """Which module of ours imports which, at the top or in a function; a package stands for its ``__init__.py``."""
    files = {module_name(path): path for path in source_files()}

    def target(name: str) -> str:
        while name and name not in files:
            name = name.rpartition(".")[0]
        return name

    graph = {}
    for module, path in files.items():
        source = path.read_text(encoding="utf-8")
        imported = imports_of(source, path=path.relative_to(ROOT).as_posix())
        graph[module] = {target(one.module) for one in imported} - {"", module}
    return graph


def source_files() -> list[Path]:
    return sorted(path for area in ("darkseg_ros", "training", "engines") for path in (ROOT / area).rglob("*.py"))


def test_no_import_points_against_the_arrows() -> None:
    files = source_files()
    assert len(files) > 3, f"expected the sources of this checkout below {ROOT}, found {files}"
    found = []
    for path in files:
        found += violations(path.read_text(encoding="utf-8"), path=path.relative_to(ROOT).as_posix())
    assert found == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(import_graph()) == []


def test_a_planted_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}, "e": {"a"}}) == [["b", "c"], ["d"]]


def test_every_module_of_darkseg_ros_lies_in_a_layer() -> None:
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "darkseg_ros").iterdir() if path.name[0] not in "_."}
    assert rooms == set().union(*LAYERS)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("darkseg_ros/errors.py", "from darkseg_ros.frames import bags"),
        ("darkseg_ros/frames/bags.py", "from darkseg_ros.model.segmenter import Segmenter"),
        ("darkseg_ros/frames/bags.py", "def draw():\n    from darkseg_ros.pictures.overlay import draw_overlay"),
        ("darkseg_ros/stream/monitor.py", "from darkseg_ros.night.cheap_night import darken"),
        ("darkseg_ros/model/bundle.py", "import darkseg_ros.stream.batching"),
        ("darkseg_ros/evaluation/bag.py", "from ..commands import cli"),
        ("darkseg_ros/pictures/overlay.py", "import training"),
        ("darkseg_ros/pictures/overlay.py", "from engines.export import export"),
        ("darkseg_ros/nodes/overlay_node.py", "from training import train_segmenter"),
        ("darkseg_ros/model/segmenter.py", "def load():\n    import torch.nn"),
        ("darkseg_ros/nodes/segmentation_node.py", "import timm"),
        ("darkseg_ros/frames/bags.py", "import rclpy"),
        ("darkseg_ros/frames/bags.py", "def play():\n    from rclpy.node import Node"),
        ("darkseg_ros/frames/messages.py", "from sensor_msgs.msg import Image"),
        ("darkseg_ros/frames/messages.py", "if TYPE_CHECKING:\n    from sensor_msgs.msg import Image"),
        ("darkseg_ros/frames/messages.py", "importlib.import_module('sensor_msgs.msg')"),
        ("darkseg_ros/frames/messages.py", "__import__('rclpy')"),
        ("darkseg_ros/pictures/overlay.py", "def show():\n    from darkseg_ros.nodes import overlay_node"),
        ("darkseg_ros/pictures/overlay.py", "from ..nodes.overlay_node import main"),
        ("darkseg_ros/model/backends/openvino.py", "from ...nodes import overlay_node"),
        ("darkseg_ros/commands/cli.py", "from darkseg_ros.nodes import bag_player"),
        ("darkseg_ros/commands/cli.py", "from darkseg_ros import nodes"),
        ("darkseg_ros/commands/demo.py", "def play():\n    import rclpy"),
        ("training/train_segmenter.py", "from engines import export"),
        ("training/data/pairs.py", "import rclpy"),
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
        ("darkseg_ros/commands/cli.py", "def play():\n    from darkseg_ros.nodes import bag_player"),
        ("darkseg_ros/frames/messages.py", "import cv2\nfrom darkseg_ros.errors import ImageMessageError"),
        ("darkseg_ros/model/backends/openvino.py", "def open():\n    import openvino"),
        ("training/train_segmenter.py", "import torch\nfrom darkseg_ros.classes import CITYSCAPES"),
        (
            "engines/export.py",
            "from training.networks.build import SlimFpn\nfrom darkseg_ros.model.bundle import load_bundle",
        ),
        ("darkseg_ros/pictures/overlay.py", "from darkseg_ros.classes import CITYSCAPES\nimport trainingwheels"),
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
