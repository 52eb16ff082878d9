"""Frozen dataclasses read back from JSON, each value checked against its annotation."""

from __future__ import annotations

import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def from_json(annotation: Any, value: Any, where: str) -> Any:
    """A value of the annotated type.

    Args:
        annotation: a dataclass, whose fields with a default may be missing, str, int, float, bool, None, a Literal,
            tuple[X, ...], tuple[X, Y], dict[str, X], or a union of those with None.
        value: what `json.loads` gave for what `dataclasses.asdict` gave.
        where: its place, for the message.

    Raises:
        ValueError: naming the place, what is expected there and what is.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if is_dataclass(annotation):
        return _dataclass_from_json(annotation, value, where)
    if origin in (Union, types.UnionType):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else from_json(inner, value, where)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        items = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        if len(items) == len(value):
            return tuple(
                from_json(item, part, f"{where}[{index}]")
                for index, (item, part) in enumerate(zip(items, value, strict=True))
            )
    if origin is dict and isinstance(value, dict):
        return {key: from_json(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if annotation is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if annotation in (str, int, bool) and type(value) is annotation:
        return value
    expected = annotation.__name__ if isinstance(annotation, type) and origin is None else annotation
    raise ValueError(f"{where} is {str(value)[:60]!r}, expected {expected}")


def _dataclass_from_json(annotation: Any, value: Any, where: str) -> Any:
    names = {field.name for field in fields(annotation)}
    required = {field.name for field in fields(annotation) if field.default is MISSING}
    if not isinstance(value, dict) or not required <= set(value) <= names:
        got = sorted((required - set(value)) | (set(value) - names)) if isinstance(value, dict) else str(value)[:60]
        raise ValueError(f"{where} is not a {annotation.__name__}: missing or unknown {got}")
    hints = get_type_hints(annotation)
    return annotation(**{name: from_json(hints[name], item, f"{where}.{name}") for name, item in value.items()})
