"""Descriptors of parameters: their meaning and bounds, and whether they can change at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from darkseg_ros.errors import DarksegError


def fixed(description: str) -> ParameterDescriptor:
    """A parameter that is set at start only."""
    return ParameterDescriptor(description=description, read_only=True)


def fixed_integer(description: str, *, low: int, high: int) -> ParameterDescriptor:
    """An integer within low…high that is set at start only."""
    return ParameterDescriptor(
        description=description, read_only=True, integer_range=[IntegerRange(from_value=low, to_value=high)]
    )


def fixed_number(description: str, *, low: float, high: float) -> ParameterDescriptor:
    """A floating-point number within low…high that is set at start only."""
    return ParameterDescriptor(
        description=description,
        read_only=True,
        floating_point_range=[FloatingPointRange(from_value=low, to_value=high)],
    )


def live_integer(description: str, *, low: int, high: int) -> ParameterDescriptor:
    """An integer within low…high that takes effect with the next frame."""
    return ParameterDescriptor(description=description, integer_range=[IntegerRange(from_value=low, to_value=high)])


def live_number(description: str, *, low: float, high: float) -> ParameterDescriptor:
    """A floating-point number within low…high that takes effect with the next frame."""
    return ParameterDescriptor(
        description=description, floating_point_range=[FloatingPointRange(from_value=low, to_value=high)]
    )


def live_choice(description: str, *, choices: Sequence[str]) -> ParameterDescriptor:
    """One of some words that takes effect with the next frame; `refuse_other_choices` holds it to them."""
    return ParameterDescriptor(description=description, additional_constraints=f"one of {', '.join(choices)}")


def refuse_other_choices(node: Node, choices: Mapping[str, Sequence[str]]) -> None:
    """From now on refuse to set a parameter to none of its choices; the range of words that ROS lacks."""

    def judge(parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name in choices and parameter.value not in choices[parameter.name]:
                reason = _complaint(parameter.name, choices[parameter.name], parameter.value)
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(judge)


def check_choices(node: Node, choices: Mapping[str, Sequence[str]]) -> None:
    """Check values from the command line or a file.

    Raises:
        DarksegError: if one is none of its choices.
    """
    for name, allowed in choices.items():
        value = node.get_parameter(name).value
        if value not in allowed:
            raise DarksegError(_complaint(name, allowed, value))


def _complaint(name: str, choices: Sequence[str], value: object) -> str:
    return f"{name} must be one of {', '.join(choices)}, got {value!r}"
