"""Parameters, each declared once: a field of a node's frozen dataclass.

The field gives name, default, range, meaning, and whether the parameter is live. `declare_parameters` tells ROS,
`parameter_values` reads them back, `darkseg_ros.nodes.parameter_files` writes config/*.yaml and the README's table.

    @dataclass(frozen=True)
    class OverlayParameters:
        opacity: float = number(0.5, low=0.0, high=1.0, live=True, means="Share of the class colour in each pixel.")
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from darkseg_ros.errors import DarksegError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    _Parameters = TypeVar("_Parameters", bound=DataclassInstance)


@dataclass(frozen=True)
class Declaration:
    """One parameter.

    Attributes:
        name: of the field and of the parameter.
        default: what ROS takes: bool, int, float, str or a list of str.
        means: one or two sentences.
        live: whether it can change at run time and takes effect with the next frame; otherwise it is set at start only.
        bounds: lowest and highest value of a number.
        choices: the words that are allowed; empty where any text is.
        values: what a text means where it has no choices, such as "folder".
    """

    name: str
    default: Any
    means: str
    live: bool
    bounds: tuple[float, float] | None
    choices: tuple[str, ...]
    values: str

    @property
    def range_text(self) -> str:
        """The values that are allowed, for people; empty of a switch."""
        if self.bounds is not None:
            return f"{self.bounds[0]:g}…{self.bounds[1]:.10g}"
        return ", ".join(self.choices) or self.values

    @property
    def yaml_default(self) -> str:
        """The default as YAML."""
        plain_word = isinstance(self.default, str) and self.default.isalpha()
        return str(self.default) if plain_word else json.dumps(self.default)

    @property
    def descriptor(self) -> ParameterDescriptor:
        """The same for ROS."""
        descriptor = ParameterDescriptor(description=self.means, read_only=not self.live)
        if self.choices:
            descriptor.additional_constraints = f"one of {', '.join(self.choices)}"
        if self.bounds is not None:
            low, high = self.bounds
            if isinstance(self.default, float):
                descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
        return descriptor


def switch(default: bool, *, means: str) -> Any:
    """A field for true or false."""
    return _field(default, means=means)


def integer(default: int, *, low: int, high: int, means: str, live: bool = False) -> Any:
    """A field for an integer within low…high."""
    return _field(default, means=means, live=live, bounds=(low, high))


def number(default: float, *, low: float, high: float, means: str, live: bool = False) -> Any:
    """A field for a floating-point number within low…high; an integer is taken as well."""
    return _field(float(default), means=means, live=live, bounds=(low, high))


def choice(default: str, *, choices: Sequence[str], means: str, live: bool = False) -> Any:
    """A field for one of some words; `check_choices` and, at run time, ROS's callback hold it to them."""
    return _field(default, means=means, live=live, choices=tuple(choices))


def text(default: str, *, values: str, means: str) -> Any:
    """A field for a text; `values` says what it holds, such as "folder"."""
    return _field(default, means=means, values=values)


def texts(*, values: str, means: str) -> Any:
    """A field for a list of texts; its default is one empty text, since an empty list has no type in ROS."""
    return _field(("",), means=means, values=values)


def _field(
    default: Any,
    *,
    means: str,
    live: bool = False,
    bounds: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    values: str = "",
) -> Any:
    # the name is the field's, known only when the class is made
    told = {"means": means, "live": live, "bounds": bounds, "choices": choices, "values": values}
    return field(default=default, metadata=told)


def declarations(parameters: type[DataclassInstance]) -> Iterator[Declaration]:
    """The parameters that a class declares, in its order."""
    for entry in fields(parameters):
        default = list(entry.default) if isinstance(entry.default, tuple) else entry.default
        yield Declaration(name=entry.name, default=default, **entry.metadata)


def declare_parameters(node: Node, parameters: type[DataclassInstance]) -> None:
    """Declare all of them, and refuse from now on to set one to none of its choices.

    Raises:
        ParameterException: rclpy's, for a value of a wrong type or out of range.
    """
    declared = {declaration.name: declaration for declaration in declarations(parameters)}
    for name, declaration in declared.items():
        default, ignore_override = declaration.default, False
        if isinstance(default, float) and isinstance(given := _given_value(node, name, default), int):
            default, ignore_override = float(given), True
        node.declare_parameter(name, default, declaration.descriptor, ignore_override)

    def integers_to_numbers(changes: list[Parameter]) -> list[Parameter]:
        return [
            Parameter(change.name, value=float(change.value))
            if change.type_ == Parameter.Type.INTEGER
            and change.name in declared
            and isinstance(declared[change.name].default, float)
            else change
            for change in changes
        ]

    def refuse_other_choices(changes: list[Parameter]) -> SetParametersResult:
        for change in changes:
            if change.name in declared and (complaint := _complaint(declared[change.name], change.value)):
                return SetParametersResult(successful=False, reason=complaint)
        return SetParametersResult(successful=True)

    node.add_pre_set_parameters_callback(integers_to_numbers)
    node.add_on_set_parameters_callback(refuse_other_choices)


def _given_value(node: Node, name: str, default: float) -> object:
    """What the command line or a file says, of whatever type; True and False are no numbers."""
    given = node.declare_parameter(name, default, ParameterDescriptor(dynamic_typing=True)).value
    node.undeclare_parameter(name)
    return None if isinstance(given, bool) else given


def parameter_values(node: Node, parameters: type[_Parameters]) -> _Parameters:
    """The values in force; a list is a tuple here."""
    values = {entry.name: node.get_parameter(entry.name).value for entry in fields(parameters)}
    return parameters(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def check_choices(parameters: DataclassInstance) -> None:
    """Check values from the command line or a file.

    Raises:
        DarksegError: if one is none of its choices.
    """
    for declaration in declarations(type(parameters)):
        if complaint := _complaint(declaration, getattr(parameters, declaration.name)):
            raise DarksegError(complaint)


def _complaint(declaration: Declaration, value: object) -> str:
    if not declaration.choices or value in declaration.choices:
        return ""
    return f"{declaration.name} must be one of {', '.join(declaration.choices)}, got {value!r}"
