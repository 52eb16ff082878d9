"""Generated street scenes by day and by night, with exact label maps: demo and tests on any machine.

street: what stands and moves where, in metres. camera: metres to pixels. textures: surfaces made once per drive.
painting: draws surfaces, labels, depth and lamps. lighting: turns them into the picture of a camera.
"""

from __future__ import annotations

from darkseg_ros.synthetic_drive.drive import Scene, SyntheticDrive

__all__ = ["Scene", "SyntheticDrive"]
