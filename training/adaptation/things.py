"""Which classes of a table are countable objects."""

from __future__ import annotations

from darkseg_ros.classes import ClassTable

_CATEGORIES = ("human", "vehicle")
_OTHERS = ("traffic light", "traffic sign", "sign symbol")  # the category that they share with poles does not tell


def things_of(classes: ClassTable) -> tuple[int, ...]:
    """Train ids of countable objects, which ImageNet knows: humans, vehicles, traffic lights and signs."""
    return tuple(
        train_id for train_id, each in enumerate(classes) if each.category in _CATEGORIES or each.name in _OTHERS
    )
