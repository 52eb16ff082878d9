from __future__ import annotations

from dataclasses import replace

from darkseg_ros.benchmark.figures import RosFigures
from engines.bench_goals import own_goals
from tests.core.benchmark.reports import CONTESTANT, ROS


def test_own_goals_take_their_figures_from_where_they_say() -> None:
    engine, segmenter = replace(CONTESTANT, kind="engine", fps=55.0), replace(CONTESTANT, fps=61.0, load_s=1.1)
    goals = own_goals(engine, segmenter, ROS, cores=2)
    assert [goal.measured for goal in goals] == [61.0, 44.0 / 55.0, 2.5, 9.0, 290.0, 1.1]
    assert [goal.reached for goal in goals] == [True, False, True, True, True, False]
    # 2 cores over 40 ms in the node and 10 ms in the other two
    assert goals[1].note.startswith("44.0 of 55.0 Hz; ")
    assert goals[1].note.endswith("2 cores are full at 40 Hz")
    without_ros = own_goals(engine, segmenter, None, cores=2)
    assert [goal.measured for goal in without_ros] == [61.0, None, None, None, None, 1.1]


def test_the_goal_of_the_median_tells_what_a_node_that_computes_nothing_takes() -> None:
    def note(ros: RosFigures) -> str:
        goals = own_goals(CONTESTANT, CONTESTANT, ros, cores=2)
        return next(goal.note for goal in goals if goal.text == "time that ROS adds at 30 Hz, median")

    assert note(ROS).endswith("the engine's time; 4.6 ms through a node that computes nothing")
    assert note(replace(ROS, relay_latency_ms=None)).endswith("the engine's time")
