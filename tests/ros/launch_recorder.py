"""Stands in for `launch` and `launch_ros`, which are not on PyPI: notes what a launch file would start."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from darkseg_ros.installed_files import share_directory


@dataclass
class Context:
    """Values of the arguments."""

    values: dict[str, str] = field(default_factory=dict)


class Substitution:
    """One of launch's substitutions, with the part of its behaviour that launch files rely on."""

    def __init__(self, kind: str, *operands: Any) -> None:
        self.kind = kind
        self.operands = operands

    def perform(self, context: Context) -> str:
        if self.kind == "LaunchConfiguration":
            return context.values[self.operands[0]]
        if self.kind == "FindPackageShare":
            assert self.operands == ("darkseg_ros",)
            return str(share_directory())
        assert self.kind == "PathJoinSubstitution"
        return "/".join(text(part, context) for part in self.operands[0])


def text(value: Any, context: Context) -> Any:
    """A value with everything to be substituted in it substituted."""
    if isinstance(value, Substitution):
        return value.perform(context)
    if isinstance(value, Mapping):
        return {key: text(part, context) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(text(part, context) for part in value)
    return value


@dataclass(frozen=True)
class Action:
    """A recorded action and the keywords it was made with."""

    kind: str
    operands: tuple[Any, ...]
    options: dict[str, Any]


def run_launch_file(path: Path, **arguments: str) -> list[dict[str, Any]]:
    """The options of every node that the launch file starts with these arguments.

    Raises:
        AssertionError: if the file does not declare one of the arguments.
    """
    with _stand_ins():
        spec = importlib.util.spec_from_file_location("launch_file_under_test", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        actions = module.generate_launch_description()
        declared = [action for action in actions if action.kind == "DeclareLaunchArgument"]
        assert all(action.options["description"] for action in declared)
        unknown = set(arguments) - {action.operands[0] for action in declared}
        assert not unknown, f"not declared: {unknown}"
        context = Context()
        for action in declared:
            name = action.operands[0]
            context.values[name] = arguments.get(name, text(action.options["default_value"], context))
        return list(_started(actions, context))


def _started(actions: list[Action], context: Context) -> Iterator[dict[str, Any]]:
    for action in actions:
        if action.kind == "OpaqueFunction":
            yield from _started(action.options["function"](context), context)
        elif action.kind == "Node":
            options = dict(action.options)
            condition = options.pop("condition", None)
            if condition is None or text(condition.operands[0], context).lower() in ("true", "1"):
                yield text(options, context)


@contextmanager
def _stand_ins() -> Iterator[None]:
    def action(kind: str) -> Any:
        return lambda *operands, **options: Action(kind, operands, options)

    def substitution(kind: str) -> Any:
        return lambda *operands: Substitution(kind, *operands)

    contents: dict[str, dict[str, Any]] = {
        "launch": {"LaunchContext": Context, "LaunchDescription": list},
        "launch.actions": {name: action(name) for name in ("DeclareLaunchArgument", "OpaqueFunction")},
        "launch.conditions": {"IfCondition": action("IfCondition")},
        "launch.substitutions": {name: substitution(name) for name in ("LaunchConfiguration", "PathJoinSubstitution")},
        "launch_ros": {},
        "launch_ros.actions": {"Node": action("Node")},
        "launch_ros.substitutions": {"FindPackageShare": substitution("FindPackageShare")},
    }
    before = {name: sys.modules.get(name) for name in contents}
    for name, content in contents.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, original in before.items():
            if original is None:
                del sys.modules[name]
            else:
                sys.modules[name] = original
