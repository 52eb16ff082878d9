"""Engines: a bundle's graph, loaded and ready to run on frames of the network's size."""

from darkseg_ros.model.backends.open import BACKENDS, DEVICES, open_engine
from darkseg_ros.model.backends.protocol import Engine, EngineOutput

__all__ = ["BACKENDS", "DEVICES", "Engine", "EngineOutput", "open_engine"]
