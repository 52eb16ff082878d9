from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path

import pytest

import darkseg_ros
from darkseg_ros.child_processes import spawned, start_python

PACKAGE = Path(darkseg_ros.__file__).parent


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder holds modules that would note that they were imported."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    note = f"open({str(tmp_path / 'sprung')!r}, 'a').write(__name__ + ' ')\n"
    for module in ("numpy", "cv2", "json", "pickle", "struct", "sitecustomize", "multiprocessing"):
        (folder / f"{module}.py").write_text(note)
    monkeypatch.chdir(folder)
    return tmp_path / "sprung"


def _say_in_child(path: Path) -> None:
    import json
    import struct

    path.write_text(json.dumps(struct.calcsize("B")))


@pytest.mark.parametrize("python_path", [None, "", ".", f":{os.sep}nowhere", "here:/nowhere"])
def test_modules_of_the_current_folder_do_not_run_in_a_child(
    trap: Path, monkeypatch: pytest.MonkeyPatch, python_path: str | None
) -> None:
    if python_path is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", python_path)
    program = "import json, pickle, struct, darkseg_ros.frames.messages; print(darkseg_ros.__file__)"
    with start_python(["-c", program], stdout=subprocess.PIPE, text=True) as child:
        said, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert Path(said.strip()) == PACKAGE / "__init__.py"
    assert not trap.exists()


def test_the_trap_springs_where_python_is_started_without_the_function(trap: Path) -> None:
    import sys

    subprocess.run([sys.executable, "-c", "import struct, json"], check=False, capture_output=True, timeout=60)
    assert trap.exists()


def test_modules_of_the_current_folder_do_not_run_in_a_spawned_function(trap: Path, tmp_path: Path) -> None:
    path = tmp_path / "said"
    with spawned(_say_in_child, (path,), name="child") as process:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert path.read_text() == "1"
    assert not trap.exists()
    assert "PYTHONSAFEPATH" not in os.environ


def test_a_spawned_function_ends_with_its_block() -> None:
    import time

    with spawned(time.sleep, (600,), name="sleeper") as process:
        assert process.is_alive()
    assert not process.is_alive()


def test_a_childs_own_environment_is_kept_apart_from_ours() -> None:
    program = "import os; print(os.environ.get('DARKSEG_TEST'), 'HOME' in os.environ, os.environ['PYTHONSAFEPATH'])"
    with start_python(["-c", program], environment={"DARKSEG_TEST": "a"}, stdout=subprocess.PIPE, text=True) as child:
        said, _ = child.communicate(timeout=60)
    assert said.split() == ["a", "False", "1"]


def test_no_other_module_starts_a_python() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.name == "child_processes.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("executable", "get_context", "Process", "fork"):
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
            if isinstance(node, ast.Name) and node.id in ("get_context", "Process", "ProcessPoolExecutor"):
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert found == []
