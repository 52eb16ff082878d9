"""Stands in for `launch` and `launch_ros`, which are not on PyPI: notes what a launch file would start."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
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
        if self.kind == "ExecutableInPackage":
            executable, package = self.operands
            return f"lib/{package}/{executable}"
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
    """What the launch file would start with these arguments.

    Returns:
        The options of every Node and ExecuteProcess, included files as well, each with its `kind`; of every event
        handler the process whose end it waits for and what would be done then.

    Raises:
        AssertionError: if the file does not declare one of the arguments, leaves one of its own without a value, or
            does not list the value among its choices.
    """
    with _stand_ins():
        return list(_run(path, arguments))


def _run(path: Path, arguments: Mapping[str, str]) -> Iterator[dict[str, Any]]:
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
        assert name in arguments or "default_value" in action.options, f"{name} has to be given"
        value = arguments.get(name, text(action.options.get("default_value"), context))
        choices = action.options.get("choices", [value])
        assert value in choices, f"{name} must be one of {choices}, got {value!r}"
        context.values[name] = value
    yield from _started(actions, context)


def _started(actions: Iterable[Action], context: Context) -> Iterator[dict[str, Any]]:
    for action in actions:
        if action.kind == "OpaqueFunction":
            yield from _started(action.options["function"](context), context)
        elif action.kind == "GroupAction":
            yield from _started(action.operands[0], context)
        elif action.kind == "IncludeLaunchDescription":
            (source,) = action.operands
            (path_parts,) = source.operands
            path = "".join(text(path_parts, context))
            yield from _run(Path(path), dict(text(list(action.options["launch_arguments"]), context)))
        elif action.kind in ("Node", "ExecuteProcess"):
            yield {"kind": action.kind, **text(action.options, context)}
        elif action.kind == "RegisterEventHandler":
            (handler,) = action.operands
            yield {"kind": handler.kind, **handler.options}
        else:
            assert action.kind == "DeclareLaunchArgument", action.kind


@contextmanager
def _stand_ins() -> Iterator[None]:
    def actions(*kinds: str) -> dict[str, Any]:
        return {kind: partial(_action, kind) for kind in kinds}

    def substitutions(*kinds: str) -> dict[str, Any]:
        return {kind: partial(Substitution, kind) for kind in kinds}

    contents: dict[str, dict[str, Any]] = {
        "launch": {"LaunchContext": Context, "LaunchDescription": list},
        "launch.actions": actions(
            "DeclareLaunchArgument",
            "EmitEvent",
            "ExecuteProcess",
            "GroupAction",
            "IncludeLaunchDescription",
            "OpaqueFunction",
            "RegisterEventHandler",
            "Shutdown",
            "TimerAction",
        ),
        "launch.event_handlers": actions("OnProcessExit"),
        "launch.events": actions("matches_action"),
        "launch.events.process": actions("ShutdownProcess"),
        "launch.launch_description_sources": actions("PythonLaunchDescriptionSource"),
        "launch.substitutions": substitutions("LaunchConfiguration", "PathJoinSubstitution"),
        "launch_ros": {},
        "launch_ros.actions": actions("Node"),
        "launch_ros.substitutions": substitutions("ExecutableInPackage", "FindPackageShare"),
    }
    # what imported the real ones, or other stand-ins, is imported anew
    before = {name: sys.modules.pop(name, None) for name in (*contents, "darkseg_ros.nodes.launch_arguments")}
    for name, content in contents.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name, original in before.items():
            if original is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = original


def _action(kind: str, *operands: Any, **options: Any) -> Action:
    return Action(kind, operands, options)
