"""Whether the tests of the pure core notice planted faults: `make mutants`.

    python -m tests.mutants [--sample 60] [--seed 0] [--only stream]

Cosmic Ray's operators change one place of a module at a time, in a copy of the checkout; the module's own test file
must then fail. The sample takes each place at most once. Exit status: 0, 1 where less than 90 % were noticed.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import NoReturn

import cv2  # noqa: F401 (loaded once for all forks, as are the next two)
import hypothesis  # noqa: F401
import numpy  # noqa: F401
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
SCORE_MIN = 0.9
ROOMS = ("evaluation", "frames", "night", "pictures", "stream")
"""Of darkseg_ros: pure functions and classes, each module with a test file of its own."""

_SLOW = {"bag", "bags", "report", "videos", "video_writer", "source", "inference_thread"}
"""Modules whose tests write files or wait: minutes for a sample."""

_EQUAL_FOR_IDENTICAL = ("_Is_Eq", "_IsNot_NotEq")
_CHECK_OF = {"dataclass": "frozen", "zip": "strict"}
"""Options that only check the code itself."""


@dataclass(frozen=True)
class Place:
    """A place of a module, and what can be changed there: names of operators, and which of its occurrences each."""

    module: str
    line: int
    changes: tuple[tuple[str, int], ...]


def modules() -> dict[str, str]:
    """The modules that are mutated, and the test file of each; both relative to the checkout."""
    found = {"darkseg_ros/classes.py": "tests/core/test_classes.py"}
    for room in ROOMS:
        for path in sorted((ROOT / "darkseg_ros" / room).glob("*.py")):
            test = f"tests/core/{room}/test_{path.name}"
            if path.stem not in _SLOW and (ROOT / test).is_file():
                found[f"darkseg_ros/{room}/{path.name}"] = test
    return found


def places_of(code: str, *, module: str) -> list[Place]:
    """Every place of a module that operators can change, in the order of the text."""
    nodes = list(ast_nodes(get_ast(code)))
    changes_at: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments():
            continue
        starts = (start for node in nodes for start, _ in operator().mutation_positions(node))
        for occurrence, start in enumerate(starts):
            changes_at.setdefault(start, []).append((name, occurrence))
    return [Place(module, line, tuple(changes)) for (line, _), changes in sorted(changes_at.items())]


def mutant_of(code: str, place: Place, rng: random.Random) -> str | None:
    """One of the programs that operators make at a place; None where they make none that differs.

    Left out are those that do not compile, which any test would notice, and those that none could:

    - annotations, the kind of parameters and whether a dataclass is frozen, which mypy holds; ``==`` for ``is``, which
      ruff holds;
    - the check of zip that its arguments are equally long (``strict``), which correct code never fails;
    - a limit moved by less than a tenth (a number that the module names in capitals): no property tells 1024 from 1025;
    - a number with a decimal point or an exponent changed behind its eighth digit: what is measured has fewer, so
      999999999.0 nanoseconds make a second as well as 1e9.
    """
    changes = [(name, occurrence) for name, occurrence in place.changes if not name.endswith(_EQUAL_FOR_IDENTICAL)]
    for name, occurrence in rng.sample(changes, len(changes)):
        try:
            mutant = mutate_code(code, get_operator(name)(), occurrence)
        except AttributeError:  # Cosmic Ray cannot replace a dotted name in a tuple of exceptions
            continue
        if mutant is not None and _differs(code, mutant):
            return str(mutant)
    return None


def _differs(code: str, mutant: str) -> bool:
    before, after = _behaviour(code), _behaviour(mutant)
    if before is None or after is None:
        return False
    pairs = zip(before.limits, after.limits, strict=False)  # where their number changes, the rest does
    return before.rest != after.rest or any(abs(new - old) >= 0.1 * abs(old) for old, new in pairs)


@dataclass(frozen=True)
class _Behaviour:
    """Of a module: the numbers of its limits, and its syntax tree without what `mutant_of` leaves out, as text."""

    limits: list[float]
    rest: str


def _behaviour(code: str) -> _Behaviour | None:
    """None if the code does not compile."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
            compile(tree, "mutant", "exec")
    except SyntaxError:
        return None
    limits = []
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]).isupper():
            for number in _numbers(statement.value):
                limits.append(float(ast.literal_eval(number)))
                number.value = None
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) is float:
            node.value = float(f"{node.value:.8g}")
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.arguments):
            node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            node.posonlyargs, node.kwonlyargs = [], []
            node.defaults = [*node.defaults, *(value for value in node.kw_defaults if value is not None)]
            node.kw_defaults = []
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.Call) and (check := _CHECK_OF.get(ast.unparse(node.func))):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != check]
    return _Behaviour(limits, ast.dump(tree))


def _numbers(value: ast.expr) -> list[ast.Constant]:
    """Of an expression of nothing but numbers; of any other none."""
    arithmetic = (ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop)
    nodes = list(ast.walk(value))
    numbers = [node for node in nodes if isinstance(node, ast.Constant) and type(node.value) in (int, float)]
    return numbers if all(node in numbers or isinstance(node, arithmetic) for node in nodes) else []


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sample and print what lived, then the score."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, default=60, help="mutants; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another sample; default: %(default)s")
    parser.add_argument("--only", default="", metavar="TEXT", help="modules whose path holds this text")
    arguments = parser.parse_args(argv)
    tests = {module: test for module, test in modules().items() if arguments.only in module}
    code_of = {module: (ROOT / module).read_text("utf-8") for module in tests}
    places = [place for module, code in code_of.items() for place in places_of(code, module=module)]
    rng = random.Random(arguments.seed)
    sample: list[tuple[Place, str]] = []
    for place in rng.sample(places, len(places)):
        mutant = mutant_of(code_of[place.module], place, rng)
        if mutant is not None:
            sample.append((place, mutant))
        if len(sample) == arguments.sample:
            break
    print(f"{len(sample)} of {len(places)} places in {len(tests)} modules", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        checkout = _copy(Path(folder) / "checkout")
        cpu_s = {module: _run(checkout, tests[module]) for module in sorted({place.module for place, _ in sample})}
        lived = 0
        for place, mutant in tqdm(sorted(sample, key=lambda one: (one[0].module, one[0].line)), disable=None):
            if not _is_noticed(checkout, place.module, mutant, tests[place.module], cpu_s[place.module]):
                lived += 1
                print("\n".join(_diff(place, mutant)), flush=True)
    score = 1 - lived / len(sample)
    print(f"{len(sample) - lived} of {len(sample)} mutants noticed: {score:.0%}, to reach: {SCORE_MIN:.0%}")
    return 0 if score >= SCORE_MIN else 1


def _copy(checkout: Path) -> Path:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in files.split("\0"):
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
            os.utime(checkout / name, (0, 0))  # so that no bytecode fits a mutant, which is younger
    return checkout


def _pytest(
    checkout: Path, test: str, *, cpu_s_max: int = resource.RLIM_INFINITY, keep_bytecode: bool
) -> tuple[int, float]:
    """The exit status of a test file, not 0 where it took longer than it may, and the CPU seconds that it took.

    It runs in a fork, which has the libraries loaded but nothing of ours. The limit is on CPU time, since a busy
    machine stretches all other; what waits for ever is ended by pytest-timeout.
    """
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        _run_in_fork(checkout, test, cpu_s_max=cpu_s_max, keep_bytecode=keep_bytecode)
    _, status, usage = os.wait4(process, 0)
    return status, usage.ru_utime + usage.ru_stime


def _run_in_fork(checkout: Path, test: str, *, cpu_s_max: int, keep_bytecode: bool) -> NoReturn:
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        os.chdir(checkout)
        sys.path[:] = [str(checkout), *(path for path in sys.path if Path(path).resolve() != ROOT)]
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        sys.dont_write_bytecode = not keep_bytecode
        os.environ |= {"PYTHONPATH": str(checkout), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s_max, cpu_s_max))
        plugins = ("-p", "no:cacheprovider", "-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin")
        status = int(pytest.main(["-x", "-q", *plugins, test]))
    finally:
        os._exit(status)


def _run(checkout: Path, test: str) -> float:
    """CPU seconds that the test file takes when nothing is planted."""
    status, cpu_s = _pytest(checkout, test, keep_bytecode=True)
    if status != 0:
        sys.exit(f"{test} fails without any mutant; mend it first")
    return cpu_s


def _is_noticed(checkout: Path, module: str, mutant: str, test: str, cpu_s: float) -> bool:
    path = checkout / module
    code = path.read_text("utf-8")
    path.write_text(mutant, "utf-8")
    try:
        # a loop without end is noticed by whoever waits
        status, _ = _pytest(checkout, test, cpu_s_max=20 + round(5 * cpu_s), keep_bytecode=False)
        return status != 0
    finally:
        path.write_text(code, "utf-8")


def _diff(place: Place, mutant: str) -> list[str]:
    code = (ROOT / place.module).read_text("utf-8")
    lines = list(unified_diff(code.splitlines(), mutant.splitlines(), lineterm="", n=0))[3:]
    return [f"lived: {place.module}:{place.line}", *lines]


if __name__ == "__main__":
    sys.exit(main())
