"""A study's page: tables and plots of its runs, and what they say."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from training.networks.config import NETWORKS
from training.runs.results import write_result
from training.study.results import TEST_SETS, RunFigures
from training.study.settings import AS_IS, StudyConfig, StudyRun

NOT_RUN = "not yet run"
Results = dict[StudyRun, RunFigures]


def page_of(
    study: StudyConfig, runs: list[StudyRun], results: Results, *, command: Path, pictures: dict[str, str]
) -> str:
    """The page in Markdown.

    Args:
        study: what was asked for.
        runs: all of its runs.
        results: figures of those that were made.
        command: the study's YAML, named in the command that repeats it.
        pictures: address of each plot by its title.
    """
    compared = [run for run in runs if run.group == AS_IS]
    changed = [run for run in runs if run.group != AS_IS]
    head = f"""<!-- Written by training/network_study.py; edit training/study/page.py. -->
# Networks and hyper-parameters, one budget

Fixman and Vaitsas compare FCN, U-Net and a Vision Transformer on Cityscapes with fine and coarse labels, and ask how
hyper-parameters and architecture change accuracy ("Deep learning for image analysis: written report", City University
London, 2024; the report leaves methods and results open). This command asks the same on the mini benchmark, on a small
budget:

    python -m training.network_study --config {command}

All runs train with `{study.segmenter}` and, in common,
`{" ".join(study.settings)}`. Networks have light encoders and begin with random weights. mIoU in percent over the
classes with ground truth, with 95 % intervals by bootstrap over images: 500 Cityscapes images by day, 17 of ACDC by
night, 46 of other weather. One seed. **The budget is tiny: what ranks low here learns slowly from nothing, which says
little about what it would reach.** Latency is that of one image of validation size in torch, beside other work on the
machine: compare ratios only; [networks](networks.md) has GMAC and int8. {len(results)} of {len(runs)} runs were made.

Coarse labels are made from the fine ones, since no coarse set is at hand: polygons inside of the regions, the rest
ignored (`training.coarsen_labels`).
"""
    parts = [
        head,
        "## What the figures say\n",
        "\n".join(f"- {sentence}" for sentence in sentences(results)) or NOT_RUN,
    ]
    parts += ["", "## Networks\n", _networks_table(compared, results)]
    parts += ["## One change at a time\n", _changes_table(changed, results, compared)]
    parts += [f"![{title}]({address})\n" for title, address in pictures.items()]
    return "\n".join(parts)


def _networks_table(runs: list[StudyRun], results: Results) -> str:
    lines = [
        "| network | | day mIoU | night mIoU | other weather mIoU | parameters (M) | latency (ms) |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in sorted(runs, key=lambda run: -results[run].miou.get("day", 0) if run in results else 1):
        cells = [run.network, NETWORKS[run.network].title]
        if run in results:
            figures = results[run]
            cells += [with_interval(figures, name) for name in TEST_SETS]
            cells += [f"{figures.parameters / 1e6:.2f}", f"{figures.latency_ms:.0f}"]
        else:
            cells += [NOT_RUN, "", "", "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _changes_table(runs: list[StudyRun], results: Results, compared: list[StudyRun]) -> str:
    base = {run.network: results[run] for run in compared if run in results}
    lines = [
        "| network | changed | how | day mIoU | change | night mIoU | change | other weather mIoU | change |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        cells = [run.network, run.group, run.change]
        if run not in results:
            cells += [NOT_RUN, "", "", "", "", ""]
        else:
            for name in TEST_SETS:
                before = base.get(run.network)
                gain = f"{results[run].miou[name] - before.miou[name]:+.1f}" if before else ""
                cells += [with_interval(results[run], name), gain]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_interval(figures: RunFigures, test_set: str) -> str:
    """``12.3 (10.1–14.5)``; empty without this test set."""
    if test_set not in figures.miou:
        return ""
    return f"{figures.miou[test_set]:.1f} ({figures.low[test_set]:.1f}–{figures.high[test_set]:.1f})"


def sentences(results: Results) -> Iterator[str]:
    """What the figures say, as far as they go; differences within the intervals are called open."""
    compared = {run: figures for run, figures in results.items() if run.group == AS_IS}
    for test_set, when in (("day", "By day"), ("night", "By night"), ("other_weather", "In other weather")):
        ranked = sorted(compared.items(), key=lambda one: -one[1].miou[test_set])
        if len(ranked) > 1:
            (best, first), (last, worst) = ranked[0], ranked[-1]
            sure = "beyond the intervals" if first.low[test_set] > worst.high[test_set] else "within the intervals"
            yield (
                f"{when} {best.network} is best of {len(ranked)} networks with {first.miou[test_set]:.1f}, and "
                f"{last.network} last with {worst.miou[test_set]:.1f}, a difference {sure}."
            )
    base = {run.network: figures for run, figures in compared.items()}
    changed = {run: figures for run, figures in results.items() if run.group != AS_IS and run.network in base}
    coarse = [(run, figures) for run, figures in changed.items() if (run.group, run.change) == ("labels", "coarse")]
    if coarse:
        losses = ", ".join(
            f"{run.network} {figures.miou['day'] - base[run.network].miou['day']:+.1f}" for run, figures in coarse
        )
        yield f"Coarse in the place of fine labels change the mIoU by day so: {losses}."
    if changed:
        run, figures = max(changed.items(), key=lambda one: abs(_gain(one, base)))
        beyond = sum(_is_beyond(figures, base[run.network]) for run, figures in changed.items())
        yield (
            f"Of {len(changed)} single changes {beyond} move the mIoU by day beyond the intervals; the largest move is "
            f"{run.group} on {run.network} ({run.change}), {_gain((run, figures), base):+.1f}."
        )


def _gain(result: tuple[StudyRun, RunFigures], base: dict[str, RunFigures]) -> float:
    run, figures = result
    return figures.miou["day"] - base[run.network].miou["day"]


def _is_beyond(figures: RunFigures, before: RunFigures) -> bool:
    return figures.low["day"] > before.high["day"] or figures.high["day"] < before.low["day"]


def write_plots(study: StudyConfig, runs: list[StudyRun], results: Results, folder: Path) -> dict[str, str]:
    """One plot of the networks and one of the changes of each network that has any, as SVG.

    Args:
        study: names the networks.
        runs: all of its runs.
        results: figures of those that were made.
        folder: for the pictures.

    Returns:
        the address of each plot beside the page, by its title.
    """
    made = [run for run in runs if run in results]
    plots = {"mIoU by network": [(run.network, results[run]) for run in made if run.group == AS_IS]}
    for network in study.networks:
        changes = [run for run in made if run.network == network and run.group != AS_IS]
        unchanged = [("as it is", results[run]) for run in made if run.network == network and run.group == AS_IS]
        if changes and unchanged:
            rows = [(f"{run.group}: {run.change}", results[run]) for run in changes]
            plots[f"mIoU of {network}, one change at a time"] = unchanged + rows
    addresses = {}
    for title, rows in plots.items():
        if rows:
            name = f"study_{title.split(',')[0].replace(' ', '_').lower()}.svg"
            write_result(folder / name, _plot(title, rows))
            addresses[title] = f"{folder.name}/{name}"
    return addresses


def _plot(title: str, rows: list[tuple[str, RunFigures]]) -> bytes:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "darkseg_ros"  # the same bytes for the same figures
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 1.2 + 0.35 * len(rows)), layout="constrained")
    for offset, name in enumerate(TEST_SETS):
        kept = [(row, figures) for row, (_label, figures) in enumerate(rows) if name in figures.miou]
        values = [figures.miou[name] for _row, figures in kept]
        errors = [
            [figures.miou[name] - figures.low[name] for _row, figures in kept],
            [figures.high[name] - figures.miou[name] for _row, figures in kept],
        ]
        heights = [row + 0.2 * (offset - 1) for row, _figures in kept]
        axes.errorbar(values, heights, xerr=errors, fmt="o", markersize=4, label=name.replace("_", " "))
    axes.set_yticks(range(len(rows)), [label for label, _figures in rows])
    axes.invert_yaxis()
    axes.set_xlabel("mIoU (%), 95 % interval over images")
    axes.set_title(title)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(TEST_SETS), frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return content.getvalue()
