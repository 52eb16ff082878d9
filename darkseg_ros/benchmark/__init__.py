"""Benchmarks: this package's engines side by side with others in one run, and the node through ROS.

contestants: what takes part. interleaved: they take turns, each in a process of its own (worker). ros_run: the node.
benchmark_run: all of it into a report. report, page, comparison: what is written, shown, and held against an earlier
run.
"""
