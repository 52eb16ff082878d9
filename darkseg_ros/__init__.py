"""Nighttime semantic segmentation for driver assistance: the part installed on the vehicle.

numpy, OpenCV and one inference runtime; never torch. Only `darkseg_ros.nodes` imports rclpy.
"""
