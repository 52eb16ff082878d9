from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkseg_ros.stream.frame_gate import DropReason
from darkseg_ros.stream.monitor import Health, HealthLevel, StreamMonitor, percentile


class Stream:
    """A monitor driven at times given by hand, with the node's default limit of a second."""

    def __init__(self) -> None:
        self.monitor = StreamMonitor(now_s=0.0)

    def arrive(self, now_s: float) -> None:
        self.monitor.count_arrival(now_s=now_s, silence_ms=1000)

    def publish(self, now_s: float, *, arrived_s: float | None = None, age_ms: float | None = 5.0) -> None:
        self.monitor.count_published(
            now_s=now_s,
            arrived_s=now_s if arrived_s is None else arrived_s,
            inference_ms=7.0,
            stamp_age_ms=age_ms,
        )

    def drop(self, reason: DropReason, now_s: float, error: str = "") -> None:
        self.monitor.count_drop(reason, now_s=now_s, error=error)

    def serve(self, *times_s: float) -> None:
        for time_s in times_s:
            self.arrive(time_s)
            self.publish(time_s)

    def health(
        self,
        now_s: float,
        *,
        max_age_ms: float = 0,
        stale_after_ms: float = 1000,
        engine_timeout_ms: float = 1000,
        engine_busy_ms: float = 0,
        looked_s: float | None = None,
    ) -> Health:
        return self.monitor.assess(
            now_s=now_s,
            stale_after_ms=stale_after_ms,
            max_age_ms=max_age_ms,
            engine_timeout_ms=engine_timeout_ms,
            engine_busy_ms=engine_busy_ms,
            looked_s=looked_s,
        )


@pytest.fixture
def stream() -> Stream:
    return Stream()


def test_before_the_first_image_it_waits_and_then_is_stale(stream: Stream) -> None:
    assert stream.health(0.9) == Health(HealthLevel.OK, "waiting for the first image")
    assert stream.health(1.1) == Health(HealthLevel.STALE, "no image since activation")


def test_a_served_stream_is_ok(stream: Stream) -> None:
    stream.serve(0.1, 0.2, 0.3)
    assert stream.health(0.4) == Health(HealthLevel.OK, "running")


def test_silence_is_stale_and_the_next_image_ends_it(stream: Stream) -> None:
    stream.serve(0.1)
    assert stream.health(1.2) == Health(HealthLevel.STALE, "no image any more")
    stream.serve(1.3)
    assert stream.health(1.4).level is HealthLevel.OK


def test_silence_is_no_fault_when_the_limit_is_off(stream: Stream) -> None:
    stream.serve(0.1)
    assert stream.health(100.0, stale_after_ms=0).level is HealthLevel.OK


def test_a_hanging_engine_is_an_error_while_images_arrive(stream: Stream) -> None:
    for tenths in range(1, 21):
        stream.arrive(tenths / 10)
    assert stream.health(2.0).level is HealthLevel.ERROR
    assert stream.health(2.0).summary == "images arrive, but no class map leaves"


def test_a_frame_that_takes_the_engine_too_long_is_an_error_also_when_no_image_comes_any_more(stream: Stream) -> None:
    stream.serve(0.1)
    stuck = Health(HealthLevel.ERROR, "the engine has not answered a frame for longer than engine_timeout_ms")
    assert stream.health(0.2, engine_busy_ms=1000).level is HealthLevel.OK
    assert stream.health(0.2, engine_busy_ms=1001) == stuck
    assert stream.health(90.0, engine_busy_ms=1001) == stuck
    assert stream.health(0.2, engine_busy_ms=1e9, engine_timeout_ms=0).level is HealthLevel.OK


def test_the_cameras_verdict_stands_until_a_frame_says_otherwise_or_none_comes(stream: Stream) -> None:
    blind = Health(HealthLevel.WARN, "the camera is dark")
    stream.serve(0.1)
    stream.monitor.note_camera(blind)
    assert stream.health(0.2) == blind
    assert stream.health(1.2).level is HealthLevel.STALE
    stream.serve(1.3)
    assert stream.health(1.4) == blind
    stream.monitor.note_camera(None)
    assert stream.health(1.4) == Health(HealthLevel.OK, "running")


def test_an_answer_without_the_engine_does_not_end_the_engines_error(stream: Stream) -> None:
    stream.arrive(0.1)
    stream.drop(DropReason.ENGINE_ERROR, 0.1, "boom")
    stream.arrive(0.2)
    stream.monitor.count_published(now_s=0.2, arrived_s=0.2, inference_ms=None, stamp_age_ms=5.0)
    assert stream.health(0.3).level is HealthLevel.ERROR
    assert stream.monitor.figures(now_s=0.3).inference_ms is None


def test_a_camera_is_not_silent_while_nobody_looks_whether_it_is(stream: Stream) -> None:
    stream.serve(0.1)
    assert stream.health(1.5, looked_s=0.1) == Health(HealthLevel.OK, "running")
    assert stream.health(1.5, looked_s=1.2) == Health(HealthLevel.STALE, "no image any more")


def test_frames_that_were_replaced_before_they_were_taken_came_in_and_were_dropped(stream: Stream) -> None:
    stream.serve(0.1)
    stream.monitor.count_arrival(now_s=1.1, silence_ms=1000, replaced=19)
    figures = stream.monitor.figures(now_s=2.1)
    assert (figures.frames_in, figures.frames_dropped[DropReason.REPLACED], figures.frames_in_progress) == (21, 19, 1)
    assert figures.rate_in_hz == pytest.approx(21 / 2.1)
    assert stream.health(1.2) == Health(HealthLevel.WARN, "running, the engine serves less than half of the frames")
    stream.monitor.count_arrival(now_s=1.2, silence_ms=1000, replaced=10**9)  # the memory stays as it is
    assert stream.monitor.figures(now_s=1.2).frames_in == 22 + 10**9


def test_lost_video_packets_are_counted_beside_the_frames(stream: Stream) -> None:
    stream.serve(0.1)
    stream.monitor.count_lost_packets(3)
    figures = stream.monitor.figures(now_s=0.2)
    assert (figures.video_packets_lost, figures.frames_in) == (3, 1)
    assert figures.values()["video_packets_lost"] == "3"


def test_several_publishers_on_one_topic_are_a_warning(stream: Stream) -> None:
    stream.serve(0.1)
    stream.monitor.note_publishers(2)
    assert stream.health(0.2) == Health(HealthLevel.WARN, "running, the frames of several publishers mix in one stream")
    stream.monitor.note_publishers(1)
    assert stream.health(0.2).level is HealthLevel.OK


def test_after_a_silence_the_engine_gets_the_full_time_again(stream: Stream) -> None:
    stream.arrive(0.1)
    stream.drop(DropReason.UNDECODABLE, 0.1)
    stream.arrive(50.0)
    assert stream.health(50.5).level is HealthLevel.OK


def test_nothing_but_undecodable_images_is_an_error_that_says_so(stream: Stream) -> None:
    for tenths in range(1, 21):
        stream.arrive(tenths / 10)
        stream.drop(DropReason.UNDECODABLE, tenths / 10, "bad step")
    assert stream.health(2.0) == Health(HealthLevel.ERROR, "images arrive, but no class map leaves: undecodable")
    assert stream.monitor.figures(now_s=2.0).last_error == "bad step"


def test_an_engine_error_lasts_until_the_next_class_map(stream: Stream) -> None:
    stream.arrive(0.1)
    stream.drop(DropReason.ENGINE_ERROR, 0.2, "boom")
    assert stream.health(0.3) == Health(HealthLevel.ERROR, "the engine failed on the last frame: boom")
    assert stream.health(90.0).level is HealthLevel.ERROR
    stream.serve(90.1)
    assert stream.health(90.2) == Health(HealthLevel.OK, "running")


@pytest.mark.parametrize(
    "reason",
    [
        DropReason.UNDECODABLE,
        DropReason.TOO_OLD,
        DropReason.DUPLICATE_STAMP,
        DropReason.BACKWARD_STAMP,
        DropReason.FUTURE_STAMP,
        DropReason.UNHEALTHY_CAMERA,
    ],
)
def test_a_faulty_frame_is_a_warning_for_five_seconds(stream: Stream, reason: DropReason) -> None:
    stream.arrive(0.1)
    stream.drop(reason, 0.1)
    for seconds in range(1, 7):
        stream.serve(seconds - 0.5)
    assert stream.health(5.0) == Health(HealthLevel.WARN, f"running, frames are dropped: {reason.value}")
    assert stream.health(5.7) == Health(HealthLevel.OK, "running")


def test_replaced_frames_are_normal_until_less_than_half_are_served(stream: Stream) -> None:
    for frame in range(60):  # 10 Hz, every second one served
        stream.arrive(frame / 10)
        if frame % 2:
            stream.publish(frame / 10)
        else:
            stream.drop(DropReason.REPLACED, frame / 10)
    assert stream.health(5.95).level is HealthLevel.OK


def test_an_engine_that_serves_less_than_half_is_a_warning(stream: Stream) -> None:
    for frame in range(61):  # 10 Hz, every fifth served
        stream.arrive(frame / 10)
        if frame % 5 == 0:
            stream.publish(frame / 10)
        else:
            stream.drop(DropReason.REPLACED, frame / 10)
    assert stream.health(6.0) == Health(HealthLevel.WARN, "running, the engine serves less than half of the frames")


def test_an_age_limit_that_cannot_be_applied_is_a_warning(stream: Stream) -> None:
    stream.arrive(0.1)
    stream.publish(0.1, age_ms=None)
    assert stream.health(0.2).level is HealthLevel.OK
    limited = stream.health(0.2, max_age_ms=100)
    assert limited.level is HealthLevel.WARN
    assert "max_age_ms has no effect" in limited.summary


def test_one_frame_of_unknown_age_is_a_warning_only_until_the_next(stream: Stream) -> None:
    stream.arrive(0.1)
    stream.publish(0.11, age_ms=None)
    assert stream.health(0.12, max_age_ms=100).level is HealthLevel.WARN
    stream.arrive(0.2)
    stream.publish(0.21, age_ms=5.0)
    assert stream.health(0.22, max_age_ms=100) == Health(HealthLevel.OK, "running")


def test_activation_starts_the_judgement_anew_and_keeps_the_counters(stream: Stream) -> None:
    stream.arrive(0.1)
    stream.drop(DropReason.ENGINE_ERROR, 0.1, "boom")
    stream.monitor.activate(now_s=100.0)
    assert stream.health(100.1) == Health(HealthLevel.OK, "waiting for the first image")
    assert stream.monitor.figures(now_s=100.1).frames_dropped[DropReason.ENGINE_ERROR] == 1


def test_figures_of_a_stream_worked_by_hand(stream: Stream) -> None:
    for frame in range(1, 51):  # 10 Hz for 5 s; each takes 20 ms, every tenth 200 ms
        stream.arrive(frame / 10)
        delay_s = 0.2 if frame % 10 == 0 else 0.02
        stream.publish(frame / 10 + delay_s, arrived_s=frame / 10, age_ms=float(frame))
    stream.arrive(5.05)
    figures = stream.monitor.figures(now_s=5.25)
    assert (figures.frames_in, figures.frames_published, figures.frames_in_progress) == (51, 50, 1)
    assert figures.rate_in_hz == pytest.approx(49 / 5)  # the last 5 s hold frames 3…50 and one more
    assert figures.inference_ms == 7.0
    assert figures.latency_p50_ms == pytest.approx(20.0)
    assert figures.latency_p99_ms == pytest.approx(200.0)
    assert (figures.stamp_age_p50_ms, figures.stamp_age_p99_ms) == (25.0, 50.0)


def test_without_frames_there_are_no_figures(stream: Stream) -> None:
    figures = stream.monitor.figures(now_s=1.0)
    assert (figures.rate_in_hz, figures.rate_out_hz) == (0.0, 0.0)
    assert figures.latency_p50_ms is None
    assert figures.inference_ms is None


def test_a_stream_faster_than_the_window_can_hold_keeps_its_rate(stream: Stream) -> None:
    for frame in range(1, 5001):  # 1 kHz
        stream.arrive(frame / 1000)
    assert stream.monitor.figures(now_s=5.0).rate_in_hz == pytest.approx(1000, rel=0.01)


@given(st.lists(st.sampled_from([*DropReason, None]), max_size=50))
def test_the_books_balance_after_any_sequence(outcomes: list[DropReason | None]) -> None:
    stream = Stream()
    for number, outcome in enumerate(outcomes):
        stream.arrive(number)
        if outcome is None:
            stream.publish(number)
        else:
            stream.drop(outcome, number)
    figures = stream.monitor.figures(now_s=len(outcomes))
    assert figures.frames_in == len(outcomes)
    assert figures.frames_in_progress == 0
    assert figures.frames_published == outcomes.count(None)
    assert figures.frames_dropped == {reason: outcomes.count(reason) for reason in DropReason}


def test_percentile_is_the_nearest_rank() -> None:
    values = [15.0, 20.0, 35.0, 40.0, 50.0]
    assert [percentile(values, percent) for percent in (5, 30, 40, 50, 100)] == [15, 20, 20, 35, 50]
    assert percentile([], 50) is None


def test_a_limit_that_is_just_reached_is_not_passed(stream: Stream) -> None:
    assert stream.health(1.0) == Health(HealthLevel.OK, "waiting for the first image")
    stream.serve(0.5)
    assert stream.health(1.5) == Health(HealthLevel.OK, "running")
    stream.arrive(2.0)
    stream.arrive(3.0)  # no silence: the answer to the frame before is still due
    assert stream.health(3.0) == Health(HealthLevel.OK, "running")
    assert stream.health(3.25).summary == "images arrive, but no class map leaves"


def test_a_fault_is_told_for_as_long_as_rates_look_back(stream: Stream) -> None:
    stream.arrive(1.0)
    stream.drop(DropReason.UNDECODABLE, 1.0)
    stream.serve(6.0)
    assert stream.health(6.0).level is HealthLevel.WARN
    assert stream.health(6.25).level is HealthLevel.OK


def test_a_frame_of_exactly_five_seconds_ago_counts_in_no_rate(stream: Stream) -> None:
    stream.serve(1.0, 2.0)
    assert stream.monitor.figures(now_s=6.0).rate_in_hz == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("arrivals", "published", "level"),
    [(9, 0, HealthLevel.OK), (10, 4, HealthLevel.WARN), (10, 5, HealthLevel.OK), (11, 5, HealthLevel.WARN)],
)
def test_overload_is_less_than_half_of_ten_frames_or_more(
    stream: Stream, arrivals: int, published: int, level: HealthLevel
) -> None:
    for index in range(arrivals):
        stream.arrive(0.125 * (index + 1))
    for _ in range(published):
        stream.publish(1.5)
    assert stream.health(1.5, stale_after_ms=10_000).level is level


def test_p99_leaves_out_the_slowest_hundredth(stream: Stream) -> None:
    for index in range(200):
        stream.arrive(float(index))
        stream.publish(index + (0.5 if index < 2 else 0.25), arrived_s=float(index), age_ms=7.0 if index < 2 else 5.0)
    figures = stream.monitor.figures(now_s=200.0)
    assert (figures.latency_p99_ms, figures.stamp_age_p99_ms) == (250.0, 5.0)


def test_a_stream_that_has_just_begun_has_no_rate(stream: Stream) -> None:
    stream.arrive(0.0)
    assert stream.monitor.figures(now_s=0.0).rate_in_hz == 0.0


def test_diagnostics_have_a_text_for_each_figure_and_none_for_what_was_not_measured(stream: Stream) -> None:
    stream.serve(0.5)
    stream.drop(DropReason.TOO_OLD, 0.5, "late")
    stream.monitor.count_rebase()
    values = stream.monitor.figures(now_s=1.0).values()
    assert values["frames_in"] == values["frames_published"] == values["stamp_rebases"] == "1"
    assert (values["rate_in_hz"], values["inference_ms"], values["latency_p50_ms"]) == ("1.0", "7.0", "0.0")
    assert (values["dropped_too_old"], values["last_error"]) == ("1", "late")
    nothing = StreamMonitor(now_s=0.0).figures(now_s=1.0).values()
    assert (nothing["inference_ms"], nothing["stamp_age_p99_ms"], nothing["last_error"]) == ("", "", "")


def test_before_the_first_answer_nothing_is_said_of_its_age(stream: Stream) -> None:
    stream.arrive(0.5)
    stream.publish(0.5, age_ms=None)
    stream.monitor.activate(now_s=1.0)
    stream.arrive(1.25)
    assert stream.health(1.5, max_age_ms=100) == Health(HealthLevel.OK, "running")


def test_percentiles_of_one_value_are_that_value() -> None:
    assert [percentile([7.0], percent) for percent in (0, 50, 99, 100)] == [7.0] * 4
    assert percentile([3.0, 1.0, 2.0], 0) == 1.0


def test_what_is_worse_is_told_first(stream: Stream) -> None:
    """Engine stuck, engine failed, no image, camera, no class map, frames dropped, publishers, age, overload."""
    for index in range(20):
        stream.arrive(0.5 + index / 40)
    stream.publish(0.5, age_ms=None)
    stream.arrive(1.0)
    told = [stream.health(1.0, max_age_ms=10).summary]
    stream.monitor.note_publishers(2)
    told.append(stream.health(1.0, max_age_ms=10).summary)
    stream.drop(DropReason.TOO_OLD, 1.0)
    told.append(stream.health(1.0, max_age_ms=10).summary)
    told.append(stream.health(1.5, stale_after_ms=500).summary)
    stream.monitor.note_camera(Health(HealthLevel.WARN, "blind"))
    told.append(stream.health(1.75, stale_after_ms=750).summary)
    told.append(stream.health(3.0).summary)
    stream.drop(DropReason.ENGINE_ERROR, 1.0, "boom")
    told.append(stream.health(3.0).summary)
    told.append(stream.health(3.0, engine_busy_ms=1001).summary)
    assert [text.partition(":")[0] for text in told] == [
        "running, max_age_ms has no effect",
        "running, the frames of several publishers mix in one stream",
        "running, frames are dropped",
        "running, frames are dropped",
        "blind",
        "no image any more",
        "the engine failed on the last frame",
        "the engine has not answered a frame for longer than engine_timeout_ms",
    ]


def test_an_engine_error_without_a_text_is_an_error_too(stream: Stream) -> None:
    stream.arrive(0.1)
    stream.drop(DropReason.ENGINE_ERROR, 0.1)
    assert stream.health(0.2) == Health(HealthLevel.ERROR, "the engine failed on the last frame: no reason given")
    assert stream.monitor.figures(now_s=0.2).last_error == ""


def test_the_latest_text_of_a_fault_stays_though_faults_without_one_follow(stream: Stream) -> None:
    stream.drop(DropReason.UNDECODABLE, 0.1, "bad step")
    stream.drop(DropReason.TOO_OLD, 0.2)
    stream.drop(DropReason.REPLACED, 0.3, "no fault")
    assert stream.monitor.figures(now_s=0.4).last_error == "bad step"


@pytest.mark.parametrize("reason", [DropReason.REPLACED, DropReason.DEACTIVATED])
def test_frames_that_nobody_wanted_are_no_fault(stream: Stream, reason: DropReason) -> None:
    stream.serve(0.1)
    stream.drop(reason, 0.2)
    assert stream.health(0.3) == Health(HealthLevel.OK, "running")


def test_rates_right_after_activation_are_over_the_time_since(stream: Stream) -> None:
    stream.serve(1.0, 2.0)
    stream.monitor.activate(now_s=10.0)
    stream.serve(10.5, 11.0)
    figures = stream.monitor.figures(now_s=12.0)
    assert (figures.rate_in_hz, figures.rate_out_hz) == (1.0, 1.0)
    assert figures.frames_in == figures.frames_published == 4


def test_a_rate_is_over_five_seconds_once_they_have_passed(stream: Stream) -> None:
    stream.serve(*(float(second) for second in range(1, 11)))
    figures = stream.monitor.figures(now_s=10.0)
    assert (figures.rate_in_hz, figures.rate_out_hz) == (1.0, 1.0)


def test_latencies_are_of_the_last_frames_only(stream: Stream) -> None:
    for index in range(600):
        stream.arrive(float(index))
        stream.publish(
            index + (0.5 if index < 300 else 0.25), arrived_s=float(index), age_ms=9.0 if index < 300 else 4.0
        )
    figures = stream.monitor.figures(now_s=600.0)
    assert (figures.latency_p50_ms, figures.latency_p99_ms) == (250.0, 250.0)
    assert (figures.stamp_age_p50_ms, figures.stamp_age_p99_ms) == (4.0, 4.0)


def test_counters_and_levels_as_diagnostics_show_them(stream: Stream) -> None:
    assert [(level.name, int(level)) for level in HealthLevel] == [("OK", 0), ("WARN", 1), ("ERROR", 2), ("STALE", 3)]
    stream.arrive(0.25)
    stream.monitor.count_rebase()
    stream.monitor.count_rebase()
    stream.monitor.count_lost_packets(2)
    stream.monitor.count_lost_packets(3)
    values = stream.monitor.figures(now_s=0.5).values()
    assert (values["stamp_rebases"], values["video_packets_lost"], values["frames_in_progress"]) == ("2", "5", "1")
    assert (values["rate_in_hz"], values["rate_out_hz"]) == ("2.0", "0.0")


def test_replaced_frames_without_one_before_start_the_wait_for_an_answer(stream: Stream) -> None:
    stream.monitor.count_arrival(now_s=1.0, silence_ms=1000, replaced=3)
    assert stream.health(2.0, stale_after_ms=1000).level is HealthLevel.OK
    stream.monitor.count_arrival(now_s=2.0, silence_ms=1000)
    assert stream.health(2.25).summary == "images arrive, but no class map leaves"


def test_what_a_node_makes_is_named_in_the_verdict() -> None:
    monitor = StreamMonitor(now_s=0.0, answer="night image")
    for tenths in range(1, 21):
        monitor.count_arrival(now_s=tenths / 10, silence_ms=1000)
    told = monitor.assess(now_s=2.0, stale_after_ms=1000, max_age_ms=0, engine_timeout_ms=0, engine_busy_ms=0)
    assert told == Health(HealthLevel.ERROR, "images arrive, but no night image leaves")
