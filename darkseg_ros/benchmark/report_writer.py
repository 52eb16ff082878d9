"""The two files of a benchmark's report."""

from __future__ import annotations

from pathlib import Path

from darkseg_ros.benchmark.page import render_page
from darkseg_ros.benchmark.report import REPORT_JSON, REPORT_PAGE, BenchmarkReport, report_json
from darkseg_ros.errors import InputError
from darkseg_ros.whole_files import whole_file


def write_report(report: BenchmarkReport, out: Path) -> None:
    """Write report.json and report.html; both appear together when both are whole.

    Args:
        report: the benchmark.
        out: the folder, made if needed.

    Raises:
        InputError: if they cannot be written; what lay there before is unchanged.
    """
    content = report_json(report)
    page = render_page(report).encode()
    try:
        with whole_file(out / REPORT_PAGE) as page_path, whole_file(out / REPORT_JSON) as json_path:
            page_path.write_bytes(page)
            json_path.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror}; choose a folder with room and permission"
        ) from error
