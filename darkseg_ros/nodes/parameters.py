"""Descriptors of parameters: their meaning and bounds, and whether they can change at run time."""

from __future__ import annotations

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor


def fixed(description: str) -> ParameterDescriptor:
    """A parameter that is set at start only."""
    return ParameterDescriptor(description=description, read_only=True)


def fixed_integer(description: str, *, low: int, high: int) -> ParameterDescriptor:
    """An integer within low…high that is set at start only."""
    return ParameterDescriptor(
        description=description, read_only=True, integer_range=[IntegerRange(from_value=low, to_value=high)]
    )


def live_integer(description: str, *, low: int, high: int) -> ParameterDescriptor:
    """An integer within low…high that takes effect with the next frame."""
    return ParameterDescriptor(description=description, integer_range=[IntegerRange(from_value=low, to_value=high)])


def live_number(description: str, *, low: float, high: float) -> ParameterDescriptor:
    """A floating-point number within low…high that takes effect with the next frame."""
    return ParameterDescriptor(
        description=description, floating_point_range=[FloatingPointRange(from_value=low, to_value=high)]
    )
