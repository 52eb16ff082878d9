"""What package.xml, setup.py, requirements/ and the installed share folder promise to each other."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from darkseg_ros import installed_files
from darkseg_ros.errors import InputError
from darkseg_ros.installed_files import default_bundle, share_directory

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))


def setup_arguments() -> dict[str, ast.expr]:
    """The keyword arguments of setup.py's call of setup(), unevaluated."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setup":
            return {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    raise AssertionError("setup.py does not call setup()")


def package_xml() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


def console_scripts() -> dict[str, str]:
    scripts = ast.literal_eval(setup_arguments()["entry_points"])["console_scripts"]
    return dict(re.split(r"\s*=\s*", script) for script in scripts)


def requirement_names(path: Path) -> set[str]:
    """Distribution names of a requirements file, lower case, with - for _; options such as -r left out."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    names = {re.split(r"[\[=<>;\s]", line)[0] for line in lines if line and not line.startswith("-")}
    return {name.lower().replace("_", "-") for name in names}


def test_package_xml_is_format_3_and_built_by_ament_python() -> None:
    root = package_xml()
    assert root.get("format") == "3"
    assert root.findtext("name") == "darkseg_ros"
    assert root.findtext("license") == "Apache-2.0"
    assert root.findtext("export/build_type") == "ament_python"


def test_the_badges_are_true() -> None:
    shown = {
        path.stem: set(re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8")))
        for path in (ROOT / "docs/pictures").glob("badge_*.svg")
    }
    assert shown == {
        "badge_licence": {"licence", package_xml().findtext("license")},
        "badge_python": {"python", "3.10 or newer"},
        "badge_ros": {"ROS 2", "Jazzy"},
    }
    assert ast.literal_eval(setup_arguments()["python_requires"]) == ">=3.10"
    assert "ros-jazzy-rclpy" in requirement_names(ROOT / "requirements/ros_wheels.txt")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"docs/pictures/{name}.svg" in readme for name in shown)


def test_package_xml_and_setup_py_agree_on_the_version() -> None:
    assert package_xml().findtext("version") == ast.literal_eval(setup_arguments()["version"])


def test_package_xml_names_every_ros_package_that_the_code_imports() -> None:
    declared = {element.text for element in package_xml().iter("exec_depend")}
    imported = set()
    for path in [*(ROOT / "darkseg_ros" / "nodes").rglob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Import):
                imported.update(alias.name.partition(".")[0] for alias in node.names)
    optional = {"vision_msgs"}  # used only where it imports
    ros = {name for name in imported if name.endswith(("_msgs", "_srvs", "_interfaces"))}
    ros |= imported & {"rclpy", "launch", "launch_ros", "ament_index_python"}
    assert ros - optional <= declared


@pytest.mark.parametrize(("script", "target"), console_scripts().items())
def test_every_console_script_leads_to_a_function(script: str, target: str) -> None:
    module, _, function = target.partition(":")
    assert callable(getattr(importlib.import_module(module), function)), script


def test_the_commands_of_the_readme_are_console_scripts() -> None:
    assert {"darkseg", "segmentation_node", "overlay_node"} <= set(console_scripts())


def test_every_folder_of_the_package_is_installed() -> None:
    # find_packages passes over a folder without __init__.py, silently
    folders = {path.parent for path in (ROOT / "darkseg_ros").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_resource_index_marker_exists() -> None:
    assert (ROOT / "resource" / "darkseg_ros").is_file()


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_requirements_name_no_address_and_no_local_version(path: Path) -> None:
    text = "\n".join(line.partition("#")[0] for line in path.read_text(encoding="utf-8").splitlines())
    assert not re.search(r"://|\s@\s|--(extra-)?index-url|--find-links|\d\+\w", text)


def test_every_constraint_is_an_exact_version() -> None:
    lines = (ROOT / "requirements" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    pin = re.compile(r'[a-z0-9-]+==[0-9][0-9a-z.]*(; python_version (<|>=) "3\.\d+")?')
    assert len(pins) > 100
    assert [line for line in pins if not pin.fullmatch(line)] == []


@pytest.mark.parametrize("name", ["runtime.txt", "ros_wheels.txt", "develop.txt"])
def test_every_requirement_is_pinned(name: str) -> None:
    pinned = requirement_names(ROOT / "requirements" / "constraints.txt")
    assert requirement_names(ROOT / "requirements" / name) - pinned == set()


def test_the_runtime_needs_no_training_library() -> None:
    runtime = requirement_names(ROOT / "requirements" / "runtime.txt")
    runtime |= requirement_names(ROOT / "requirements" / "ros_wheels.txt")
    assert runtime & {"torch", "torchvision", "timm", "segmentation-models-pytorch", "nncf"} == set()


def test_files_are_found_beside_the_package_or_in_its_ament_share() -> None:
    share = share_directory()
    assert (share / "package.xml").is_file()
    assert (share / "launch").is_dir()
    assert (share / "config").is_dir()


def test_the_shipped_bundle_is_the_default() -> None:
    bundle = default_bundle()
    assert bundle == share_directory() / "engines" / "darkseg_slim"
    assert (bundle / "model.json").is_file()


def installed_module(directory: Path) -> str:
    """A path of installed_files.py as in an installation: no package.xml beside the package."""
    return str(directory / "lib" / "darkseg_ros" / "installed_files.py")


def ament_index(answer: str | Exception) -> dict[str, ModuleType]:
    packages = ModuleType("ament_index_python.packages")

    def get_package_share_directory(package: str) -> str:
        if isinstance(answer, Exception):
            raise answer
        return f"{answer}/share/{package}"

    packages.get_package_share_directory = get_package_share_directory  # type: ignore[attr-defined]
    return {"ament_index_python": ModuleType("ament_index_python"), "ament_index_python.packages": packages}


def test_an_installed_package_asks_the_ament_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installed_files, "__file__", installed_module(tmp_path))
    for name, module in ament_index("/opt/install").items():
        monkeypatch.setitem(sys.modules, name, module)
    assert share_directory() == Path("/opt/install/share/darkseg_ros")


def test_a_missing_default_bundle_says_where_it_was_expected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installed_files, "__file__", installed_module(tmp_path))
    for name, module in ament_index(str(tmp_path)).items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(InputError, match=r"share/darkseg_ros/engines/darkseg_slim"):
        default_bundle()


@pytest.mark.parametrize(
    "answer", [KeyError("package 'darkseg_ros' not found"), OSError("AMENT_PREFIX_PATH is not set")]
)
def test_no_checkout_and_no_share_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Exception
) -> None:
    monkeypatch.setattr(installed_files, "__file__", installed_module(tmp_path))
    for name, module in ament_index(answer).items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(InputError, match="source the workspace"):
        share_directory()


def test_without_ament_index_an_installed_package_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installed_files, "__file__", installed_module(tmp_path))
    monkeypatch.setitem(sys.modules, "ament_index_python", None)
    monkeypatch.setitem(sys.modules, "ament_index_python.packages", None)
    with pytest.raises(InputError, match="source the workspace"):
        share_directory()
