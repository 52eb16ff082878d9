"""Finds out in ten minutes what a GPU can tell about this project: `python -m engines.gpu`."""
