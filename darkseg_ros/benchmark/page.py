"""report.html: one file without network and script."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from string import Template

from darkseg_ros.benchmark.figures import (
    KIND_TEXTS,
    ContestantFigures,
    Goal,
    Percentiles,
    RateFigures,
    Ratio,
    RosFigures,
    three_digits,
)
from darkseg_ros.benchmark.report import BenchmarkReport
from darkseg_ros.pictures.page_parts import STYLE, card, nice_ceiling, small_percent


def render_page(report: BenchmarkReport) -> str:
    """A whole HTML document."""
    height, width = report.input.size_hw
    return _PAGE.substitute(
        style=STYLE,
        date=html.escape(report.date.replace("T", " ")[:16]),
        machine=html.escape(f"{report.machine.cpu_model}, {report.machine.cores} cores"),
        input=html.escape(f"{report.input.name}, {report.input.frames} frames of {width}×{height}"),
        turns=f"{report.rounds} rounds of {report.turn_s:g} s for each",
        busy=_busy_note(report),
        cards="\n".join(_cards(report)),
        goals=_goal_section(report.goals),
        latency=_latency_bars([(_row_label(row), row.latency_ms) for row in report.contestants]),
        ratios=_ratio_section(report),
        figures=_figure_table(report.contestants),
        ros=_ros_section(report.ros),
        facts="".join(_fact(name, value) for name, value in _facts(report)),
    )


def _busy_note(report: BenchmarkReport) -> str:
    if not report.machine.was_busy:
        return ""
    return (
        f'<p class="bad">The machine was busy: load average {report.machine.load_average_before:.1f} before the '
        "benchmark. Times of an idle machine say more.</p>"
    )


def _cards(report: BenchmarkReport) -> list[str]:
    cards = []
    if report.goals:
        reached = sum(goal.reached for goal in report.goals)
        measured = sum(goal.measured is not None for goal in report.goals)
        note = f"{measured - reached} missed"
        if measured < len(report.goals):
            note += f", {len(report.goals) - measured} not measured"
        cards.append(card("goals reached", f"{reached} of {len(report.goals)}", note, good=reached == measured))
    for kind, meaning in KIND_TEXTS.items():
        rows = [row for row in report.contestants if row.kind == kind]
        if rows:
            fastest = min(rows, key=lambda row: row.latency_ms.p50)
            note = f"{fastest.name}, {three_digits(fastest.fps)} fps" + (", the fastest" if len(rows) > 1 else "")
            cards.append(card(meaning, f"{three_digits(fastest.latency_ms.p50)} ms", note))
    if report.ros is not None:
        highest = report.ros.highest
        cards.append(
            card(
                "through ROS", "none" if highest is None else f"{three_digits(highest.rate_hz)} Hz", "with < 1 % drops"
            )
        )
        cards.append(card("node's peak memory", f"{three_digits(report.ros.node_peak_memory_mb)} MB", "its process"))
    return cards


def _goal_section(goals: Sequence[Goal]) -> str:
    if not goals:
        return ""
    rows = "".join(
        f'<tr><td class="text">{html.escape(goal.text)}<div class="note">{html.escape(goal.note)}</div></td>'
        f'<td class="number">{_measured(goal)}</td>'
        f'<td class="number">{"≥" if goal.higher_is_better else "≤"} {goal.target:g} {html.escape(goal.unit)}</td>'
        f"{_verdict(goal)}</tr>"
        for goal in goals
    )
    return (
        '<h2>Goals</h2><div class="wide"><table><tr><th>figure</th><th class="number">measured</th>'
        f'<th class="number">goal</th><th></th></tr>{rows}</table></div>'
    )


def _measured(goal: Goal) -> str:
    return "–" if goal.measured is None else f"{three_digits(goal.measured)} {html.escape(goal.unit)}"


def _verdict(goal: Goal) -> str:
    if goal.measured is None:
        return "<td>not measured</td>"
    return '<td class="good">reached</td>' if goal.reached else '<td class="bad">missed</td>'


def _row_label(row: ContestantFigures) -> str:
    return f"<b>{html.escape(row.name)}</b> {KIND_TEXTS[row.kind]}"


# --- bars


def _bars(rows: Iterable[tuple[str, str, str]]) -> str:
    """Rows of label (HTML), figures (text) and what lies on the track (HTML)."""
    return '<div class="bars">{}</div>'.format(
        "".join(
            f'<div class="label"><span>{label}</span><span class="values">{html.escape(figures)}</span></div>'
            f'<div class="track">{marks}</div>'
            for label, figures, marks in rows
        )
    )


def _latency_bars(rows: Sequence[tuple[str, Percentiles]]) -> str:
    end_ms = nice_ceiling(max(latency.p99 for _, latency in rows))

    def marks(latency: Percentiles) -> str:
        return "".join(
            f'<div class="{name}" style="width:{100 * value / end_ms:.2f}%"></div>'
            for name, value in (("p99", latency.p99), ("p95", latency.p95), ("p50", latency.p50))
        )

    return _bars(
        (label, f"{' / '.join(map(three_digits, (latency.p50, latency.p95, latency.p99)))} ms", marks(latency))
        for label, latency in rows
    )


def _ratio_section(report: BenchmarkReport) -> str:
    rows = [(row, row.ratio) for row in report.contestants if row.ratio is not None]
    if report.reference is None or not rows:
        return ""
    end = nice_ceiling(max(ratio.high for _, ratio in rows))

    def marks(ratio: Ratio) -> str:
        return (
            f'<div class="ratio" style="width:{100 * ratio.median / end:.2f}%"></div>'
            f'<div class="spread" style="left:{100 * ratio.low / end:.2f}%;'
            f'width:{100 * (ratio.high - ratio.low) / end:.2f}%"></div>'
            f'<div class="one" style="left:{100 / end:.2f}%"></div>'
        )

    bars = _bars(
        (
            _row_label(row),
            f"{ratio} ×",
            marks(ratio),
        )
        for row, ratio in rows
    )
    reference = html.escape(report.reference)
    return (
        f"<h2>Against {reference}</h2><p>Median latency over that of {reference} in the same round: median of the "
        "rounds, in brackets and as a line the least and the greatest; dashed is 1, below it is faster.</p>"
        f"{bars}"
    )


# --- tables


def _figure_table(rows: Sequence[ContestantFigures]) -> str:
    with_energy = any(row.energy_j_per_frame is not None for row in rows)
    heads = ["frames", "fps", "jitter", "CPU per frame", "peak memory", "load", *(["energy"] if with_energy else [])]
    body = ""
    for row in rows:
        cells = [
            str(row.frames),
            three_digits(row.fps),
            f"{three_digits(row.jitter_ms)} ms",
            f"{three_digits(1000 * row.cpu_s_per_frame)} ms",
            f"{three_digits(row.peak_memory_mb)} MB",
            f"{three_digits(row.load_s)} s",
        ]
        if with_energy:
            cells.append("–" if row.energy_j_per_frame is None else f"{three_digits(row.energy_j_per_frame)} J")
        body += (
            f'<tr><td class="text">{_row_label(row)}<div class="note">{html.escape(row.description)}</div></td>'
            f"{_numbers(cells)}</tr>"
        )
    return _table(["contestant"], heads, body)


def _ros_section(ros: RosFigures | None) -> str:
    if ros is None:
        return "<h2>Through ROS</h2><p>Not measured in this benchmark.</p>"
    runs = [(run.rate_text, run) for run in ros.runs]
    if ros.highest is not None:
        runs.append((f"{ros.highest.rate_text}, the highest", ros.highest))
    body = "".join(f"<tr><td>{html.escape(name)}</td>{_numbers(_rate_cells(run))}</tr>" for name, run in runs)
    heads = ["sent", "answered", "dropped", "added p50", "added p99", "engine p50", "jitter", "CPU per frame"]
    engine_load = "" if ros.engine_load_s is None else f", {three_digits(ros.engine_load_s)} s of it for the engine"
    highest = "" if ros.highest else " No rate was found at which less than 1 % of the frames are dropped."
    latencies = [(f"<b>{html.escape(name)}</b>", run.latency_ms) for name, run in runs]
    if latencies and ros.relay_latency_ms is not None:
        latencies.append(("30 Hz, a node that computes nothing", ros.relay_latency_ms))
    bars = _latency_bars(latencies) if latencies else ""
    return (
        "<h2>Through ROS</h2><p>A process publishes camera images, the segmentation node answers in another. Latency "
        "from publishing an image to receiving its class map: median / p95 / p99. What is added is the latency less "
        f"the median of the engine’s time.{highest} The node’s process had at most "
        f"<b>{three_digits(ros.node_peak_memory_mb)} MB</b> of memory, "
        f"{three_digits(ros.node_shared_memory_mb)} MB of it the middleware’s shared memory, and was active after "
        f"<b>{three_digits(ros.node_load_s)} s</b>{engine_load}.</p>{bars}{_table(['rate'], heads, body)}"
    )


def _rate_cells(run: RateFigures) -> list[str]:
    return [
        str(run.sent),
        str(run.answered),
        small_percent(run.dropped_share),
        f"{three_digits(run.overhead_ms.p50)} ms",
        f"{three_digits(run.overhead_ms.p99)} ms",
        f"{three_digits(run.engine_ms_p50)} ms",
        f"{three_digits(run.jitter_ms)} ms",
        f"{three_digits(1000 * run.node_cpu_s_per_frame)} ms",
    ]


def _table(text_heads: Sequence[str], number_heads: Sequence[str], body: str) -> str:
    head = "".join(f"<th>{name}</th>" for name in text_heads)
    head += "".join(f'<th class="number">{name}</th>' for name in number_heads)
    return f'<div class="wide"><table class="figures"><tr>{head}</tr>{body}</table></div>'


def _numbers(cells: Sequence[str]) -> str:
    return "".join(f'<td class="number">{cell}</td>' for cell in cells)


def _facts(report: BenchmarkReport) -> list[tuple[str, str]]:
    machine = report.machine
    facts = [
        ("CPU", f"{machine.cpu_model}, {machine.cores} cores"),
        ("GPU", ", ".join(machine.gpus) or "none"),
        ("memory", f"{three_digits(machine.memory_mb / 1000)} GB"),
        ("kernel", machine.kernel),
        ("governor", machine.governor or "not told"),
        ("load average before", f"{machine.load_average_before:.2f}"),
        ("input SHA-256", report.input.sha256),
    ]
    if all(row.energy_j_per_frame is None for row in report.contestants):
        facts.append(("energy", "no counter that may be read"))
    return facts + list(report.versions.items())


def _fact(name: str, value: str) -> str:
    return f"<tr><td>{html.escape(name)}</td><td class='text'>{html.escape(value)}</td></tr>"


_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Benchmark of $date</title>
<style>
$style
.good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; }
.number { text-align: right; }
.note { color: var(--quiet); font-size: 12.5px; line-height: 1.35; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 150px; }
table.figures { max-width: none; }
td { vertical-align: top; }
.bars { margin: 8px 0 24px; font-variant-numeric: tabular-nums; }
.bars .label { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 16px; font-size: 14px;
  color: var(--quiet); overflow-wrap: anywhere; }
.bars b { color: var(--text); font-weight: 600; }
.bars .values { color: var(--text); }
.track { position: relative; height: 14px; margin: 3px 0 12px; background: var(--panel);
  border: 1px solid var(--line); border-radius: 4px; overflow: hidden; }
.track div { position: absolute; inset: 0 auto 0 0; }
.p99 { background: color-mix(in srgb, var(--accent) 22%, var(--panel)); }
.p95 { background: color-mix(in srgb, var(--accent) 50%, var(--panel)); }
.p50, .ratio { background: var(--accent); }
.track .spread { inset: 5px auto 5px 0; min-width: 2px; background: var(--text);
  box-shadow: 0 0 0 1.5px var(--panel); }
.track .one { width: 0; border-left: 1.5px dashed var(--quiet); }
.key { display: inline-block; width: 14px; height: 10px; border-radius: 3px; margin: 0 2px 0 6px; }
dl { max-width: 92ch; color: var(--quiet); font-size: 14.5px; }
dt { color: var(--text); font-weight: 600; margin-top: 8px; } dd { margin: 0; }
@media (max-width: 560px) { th, td { padding-right: 8px; font-size: 14px; } th { font-size: 12.5px; } }
</style>
</head>
<body>
<h1>Benchmark of $date</h1>
<p><b>$machine</b> · $input · $turns</p>
$busy
<div class="cards">
$cards
</div>
$goals
<h2>Latency</h2>
<p>Of one frame: <span class="key p50"></span> median <span class="key p95"></span> p95
<span class="key p99"></span> p99. All took turns in one run.</p>
$latency
$ratios
<h2>Figures</h2>
$figures
$ros
<h2>Machine and versions</h2>
<div class="wide"><table>$facts</table></div>
<h2>How this was measured</h2>
<dl>
<dt>Turns</dt><dd>Every contestant lives in a process of its own. In each round each takes one turn, in another order
each round; a turn starts with a frame that does not count. So load of the machine touches all alike, and ratios are
steadier than times.</dd>
<dt>Engine alone</dt><dd>From a frame of the network’s size to class map and confidence.</dd>
<dt>Camera frame to class map</dt><dd>Resizing included, class map at the camera’s size.</dd>
<dt>Jitter</dt><dd>Standard deviation of the latency.</dd>
<dt>fps</dt><dd>1000 / median latency: one frame after the other.</dd>
<dt>CPU per frame</dt><dd>User and system time, all threads of the process, in milliseconds: of a contestant within
its timed calls, of the node all that it used.</dd>
<dt>Peak memory</dt><dd>Greatest resident set (VmHWM) of the process with Python and its libraries, 10⁶ bytes.</dd>
<dt>Load</dt><dd>From the import of the libraries (NumPy apart) until the first frame can be given; files that an
earlier contestant read lie in memory.</dd>
<dt>Energy</dt><dd>Of the processor’s packages during the turns (RAPL), with all else that ran; absent where the
platform does not tell.</dd>
</dl>
</body>
</html>
""")
