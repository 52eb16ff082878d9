"""Generated street scenes by day and by night, with exact label maps: demo and tests on any machine.

street: what stands and moves where, in metres. camera: metres to pixels. textures: surfaces made once per
drive. vehicles: their shapes. canvas, painting: draw colours, labels, lamps and distances. lighting: turns
those into the picture that a camera records.
"""

from __future__ import annotations

from darkseg_ros.synthetic_drive.drive import Scene, SyntheticDrive

__all__ = ["Scene", "SyntheticDrive"]
