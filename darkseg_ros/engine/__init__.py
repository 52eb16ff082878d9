"""Engines: a bundle's graph, loaded and ready to run on frames of the network's size."""

from darkseg_ros.engine.backends import BACKENDS, open_engine
from darkseg_ros.engine.protocol import Engine, EngineOutput

__all__ = ["BACKENDS", "Engine", "EngineOutput", "open_engine"]
