from __future__ import annotations

import random

import pytest

pytest.importorskip("cosmic_ray", reason="the mutants are made by Cosmic Ray, of requirements/develop.txt")

from tests.mutants import ROOT, modules, mutant_of, places_of


def mutants_of(code: str) -> set[str | None]:
    """Whatever forty draws give."""
    places = places_of(code, module="a.py")
    return {mutant_of(code, place, random.Random(seed)) for place in places for seed in range(40)}


def test_every_mutant_is_another_program() -> None:
    code = "def f(a, b):\n    return a < b and not a\n"
    mutants = mutants_of(code)
    assert "def f(a, b):\n    return a <= b and not a\n" in mutants
    assert "def f(a, b):\n    return a < b or not a\n" in mutants
    assert code not in mutants
    assert len(mutants) > 8


def test_annotations_and_what_does_not_compile_give_no_mutants() -> None:
    assert mutants_of(
        "def f(a: int | None, *, b: str | int = None) -> str | None:\n    c: int | str\n    return a\n"
    ) == {None}


def test_what_no_measurement_tells_is_left_out() -> None:
    assert not any("999999999" in str(mutant) or "1000000001" in str(mutant) for mutant in mutants_of("s = ns / 1e9\n"))
    assert any("1000001" in str(mutant) for mutant in mutants_of("ms = ns / 1e6\n"))
    assert any("1000000001" in str(mutant) for mutant in mutants_of("ns = s * 1000000000\n"))


def test_dotted_names_in_a_tuple_of_exceptions_stop_nothing() -> None:
    code = "try:\n    x = 1\nexcept (a.Error, ValueError):\n    x = 2\n"
    assert "try:\n    x = 1\nexcept (a.Error, CosmicRayTestingException):\n    x = 2\n" in mutants_of(code)


def test_places_tell_their_line() -> None:
    assert {place.line for place in places_of("x = 1\n\ny = 2\n", module="a.py")} == {1, 3}


def test_every_mutated_module_and_its_tests_are_there() -> None:
    found = modules()
    assert "darkseg_ros/stream/camera_health.py" in found
    assert "darkseg_ros/evaluation/metrics.py" in found
    for module, test in found.items():
        assert (ROOT / module).is_file()
        assert (ROOT / test).is_file()
