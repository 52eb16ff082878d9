"""report.html of a benchmark."""

from __future__ import annotations

from darkseg_ros.benchmark.figures import KIND_TEXTS, three_digits
from darkseg_ros.benchmark.report import BenchmarkReport
from darkseg_ros.pictures.report_shell import Card, nice_ceiling, render


def render_page(report: BenchmarkReport) -> str:
    """A whole HTML document."""
    ros = report.ros
    rates = [(run.rate_text, run) for run in ros.runs] if ros else []
    if ros is not None and ros.highest is not None:
        rates.append((f"{ros.highest.rate_text}, the highest", ros.highest))
    ros_latencies = [run.latency_ms for _, run in rates]
    if ros is not None and ros.relay_latency_ms is not None:
        ros_latencies.append(ros.relay_latency_ms)
    if ros is not None and ros.ordinary_clients_latency_ms is not None:
        ros_latencies.append(ros.ordinary_clients_latency_ms)
    ratio_rows = [row for row in report.contestants if row.ratio is not None] if report.reference is not None else []
    return render(
        "benchmark.html",
        kind="Benchmark",
        input=report.input.name,
        model=report.contestants[0].name,
        engine=report.contestants[0].description,
        date=report.date.replace("T", " ")[:16],
        report=report,
        cards=_cards(report),
        kind_texts=KIND_TEXTS,
        latency_end_ms=nice_ceiling(max(row.latency_ms.p99 for row in report.contestants)),
        ratio_rows=ratio_rows,
        ratio_end=nice_ceiling(max((row.ratio.high for row in ratio_rows if row.ratio), default=1.0)),
        with_energy=any(row.energy_j_per_frame is not None for row in report.contestants),
        rates=rates,
        ros_end_ms=nice_ceiling(max((latency.p99 for latency in ros_latencies), default=1.0)),
        facts=_facts(report),
        digits=three_digits,
    )


def _cards(report: BenchmarkReport) -> list[Card]:
    cards = []
    if report.goals:
        reached = sum(goal.reached for goal in report.goals)
        measured = sum(goal.measured is not None for goal in report.goals)
        note = f"{measured - reached} missed"
        if measured < len(report.goals):
            note += f", {len(report.goals) - measured} not measured"
        cards.append(Card("goals reached", f"{reached} of {len(report.goals)}", note, good=reached == measured))
    for kind, meaning in KIND_TEXTS.items():
        rows = [row for row in report.contestants if row.kind == kind]
        if rows:
            fastest = min(rows, key=lambda row: row.latency_ms.p50)
            note = f"{fastest.name}, {three_digits(fastest.fps)} fps" + (", the fastest" if len(rows) > 1 else "")
            cards.append(Card(meaning, f"{three_digits(fastest.latency_ms.p50)} ms", note))
    if report.ros is not None:
        highest = report.ros.highest
        rate = "none" if highest is None else f"{three_digits(highest.rate_hz)} Hz"
        cards.append(Card("through ROS", rate, "with < 1 % drops"))
        cards.append(Card("node's peak memory", f"{three_digits(report.ros.node_peak_memory_mb)} MB", "its process"))
    return cards


def _facts(report: BenchmarkReport) -> list[tuple[str, str]]:
    machine, sets = report.machine, report.machine.instruction_sets
    facts = [
        ("CPU", f"{machine.cpu_model}, {machine.cores} cores"),
        ("instruction sets", "not recorded" if sets is None else ", ".join(sets) or "none known"),
        ("GPU", ", ".join(machine.gpus) or "none"),
        ("memory", f"{three_digits(machine.memory_mb / 1000)} GB"),
        ("kernel", machine.kernel),
        ("governor", machine.governor or "not told"),
        ("load average before", f"{machine.load_average_before:.2f}"),
        ("input SHA-256", report.input.sha256),
    ]
    if report.int8_ceiling is not None:
        facts.append(("int8", str(report.int8_ceiling)))
    if all(row.energy_j_per_frame is None for row in report.contestants):
        facts.append(("energy", "no counter that may be read"))
    return facts + list(report.versions.items())
