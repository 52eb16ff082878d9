from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("nncf")
pytest.importorskip("segmentation_models_pytorch")

import openvino  # noqa: E402
from torchvision.transforms import functional as pictures  # noqa: E402

from darkseg_ros.benchmark.figures import (  # noqa: E402
    ContestantFigures,
    Percentiles,
    RateFigures,
    Ratio,
    RosFigures,
)
from darkseg_ros.benchmark.machine import Machine  # noqa: E402
from darkseg_ros.benchmark.report import SCHEMA_VERSION, BenchmarkInput, BenchmarkReport, read_report  # noqa: E402
from darkseg_ros.errors import BenchmarkError, InputError  # noqa: E402
from darkseg_ros.installed_files import default_bundle  # noqa: E402
from darkseg_ros.model.bundle import load_bundle  # noqa: E402
from darkseg_ros.model.segmenter import Segmenter  # noqa: E402
from darkseg_ros.synthetic_drive import SyntheticDrive  # noqa: E402
from engines import peer_graphs, peers  # noqa: E402
from engines.bench import PLAN, QUICK, _OtherProcess, bench, main  # noqa: E402
from engines.bench_goals import FinishCost, goals_of  # noqa: E402
from engines.bench_page import write_docs  # noqa: E402
from engines.peer_graphs import INT8_GRAPH, PIPELINE_ONNX, GraphSet, prepare  # noqa: E402
from engines.peer_networks import (  # noqa: E402
    SHIPPED,
    build_peer,
    build_published_ddrnet,
    build_quarter_peer,
)
from engines.peers import (  # noqa: E402
    open_class_map_openvino,
    open_finished_onnxruntime,
    open_finished_openvino,
    open_pipeline,
    open_torch,
)
from engines.plan_cost import PlanCost, measure_plan_build  # noqa: E402
from training.data.imagenet import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB  # noqa: E402
from training.networks.build import build_network  # noqa: E402

CAMERA_HW = (64, 128)
ROOT = Path(__file__).resolve().parents[2]


def camera_frame(size_hw: tuple[int, int] = CAMERA_HW) -> np.ndarray:
    return SyntheticDrive(seed=5, size_hw=size_hw, night=True).frame(3).bgr


def torch_class_map(network: torch.nn.Module, bgr: np.ndarray) -> np.ndarray:
    """As torchvision's own functions prepare an image, and with logits of any size brought to the frame's."""
    images = pictures.normalize(
        pictures.to_tensor(np.ascontiguousarray(bgr[..., ::-1])), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )[None]
    with torch.inference_mode():
        logits = torch.nn.functional.interpolate(
            network.eval()(images), size=bgr.shape[:2], mode="bilinear", align_corners=False
        )
    return logits[0].argmax(0).numpy()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


# --- contestants


@pytest.mark.parametrize("name", ["slim_fpn", "fpn_resnet18", "lraspp", "segformer_b0"])
def test_a_torch_peer_answers_each_pixel_as_its_network_does(name: str) -> None:
    bgr = camera_frame()
    class_map = open_torch(name, CAMERA_HW).call(bgr)
    assert class_map.shape == CAMERA_HW
    assert class_map.dtype == np.uint8
    assert len(np.unique(class_map)) > 1
    # the memory format changes the order of sums
    assert np.mean(class_map == torch_class_map(build_peer(name), bgr)) > 0.995


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, which differ by version
def test_the_pipeline_in_numpy_answers_as_torch_does(cache: Path) -> None:
    bgr = camera_frame()
    folder = prepare(GraphSet("pipeline", "slim_fpn", CAMERA_HW), cache)
    class_map = open_pipeline(folder / PIPELINE_ONNX).call(bgr)
    assert class_map.shape == CAMERA_HW
    assert class_map.dtype == np.uint8
    assert np.mean(class_map == torch_class_map(build_peer("slim_fpn"), bgr)) > 0.995


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", ["fpn_tu-test_resnet", "ddrnet_23_slim"])
def test_graphs_with_our_finish_answer_as_torch_does(network: str, cache: Path) -> None:
    bgr = camera_frame()
    folder = prepare(GraphSet("quantised", network, CAMERA_HW), cache)
    expected = torch_class_map(build_quarter_peer(network), bgr)
    assert len(np.unique(expected)) > 1
    in_openvino = open_finished_openvino(folder / peer_graphs.FLOAT_GRAPH, CAMERA_HW)
    in_onnxruntime = open_finished_onnxruntime(folder / peer_graphs.LOGITS_ONNX)
    assert np.mean(in_openvino.call(bgr) == expected) > 0.995
    assert np.mean(in_onnxruntime.call(bgr) == expected) > 0.995
    assert "fp32" in in_openvino.description
    assert "64×128" in in_onnxruntime.description
    int8 = open_finished_openvino(folder / INT8_GRAPH, CAMERA_HW)
    assert int8.call(bgr).shape == CAMERA_HW
    assert "int8" in int8.description
    layers = {layer.get_type_name() for layer in openvino.Core().read_model(folder / INT8_GRAPH).get_ops()}
    assert "FakeQuantize" in layers


@pytest.mark.filterwarnings("ignore")
def test_a_graph_with_its_finish_inside_gives_class_maps(cache: Path) -> None:
    bgr = camera_frame()
    folder = prepare(GraphSet("published", "ddrnet_23_slim", CAMERA_HW), cache)
    run = open_class_map_openvino(folder / INT8_GRAPH)
    class_map = run.call(bgr)
    assert class_map.shape == CAMERA_HW
    assert class_map.dtype == np.uint8
    assert len(np.unique(class_map)) > 1  # int8 of random weights is no more than like the float answer
    assert "finish in the graph" in run.description
    published = build_published_ddrnet()
    in_float = published(torch.from_numpy(bgr[None]))[0].numpy()
    assert np.mean(in_float == torch_class_map(published.logits_graph.network, bgr)) > 0.999


def test_the_shipped_graph_brought_to_its_own_size_is_unchanged(cache: Path) -> None:
    bundle = load_bundle(default_bundle())
    bgr = camera_frame(bundle.network_hw)
    folder = prepare(GraphSet("shipped", "", bundle.network_hw), cache)
    class_map = open_finished_openvino(folder / INT8_GRAPH, bundle.network_hw, exposure=bundle.exposure).call(bgr)
    segmenter = Segmenter.open(default_bundle(), backend="openvino")
    assert np.array_equal(class_map, segmenter(bgr).class_map)
    segmenter.close()


def test_the_shipped_graph_sees_the_same_scene_at_twice_the_width(cache: Path) -> None:
    height, width = load_bundle(default_bundle()).network_hw
    wide_hw = (height, 2 * width)
    bgr = camera_frame(wide_hw)
    folder = prepare(GraphSet("shipped", "", wide_hw), cache)
    class_map = open_finished_openvino(folder / INT8_GRAPH, wide_hw).call(bgr)
    assert class_map.shape == wide_hw
    segmenter = Segmenter.open(default_bundle(), backend="openvino")
    assert np.mean(class_map == segmenter(bgr).class_map) > 0.6  # chance is far below; a layer out of place is too
    segmenter.close()


def test_the_slim_peer_has_the_convolutions_of_the_shipped_network() -> None:
    graph = openvino.Core().read_model(load_bundle(default_bundle()).cpu_graph.path)
    shipped = []
    for layer in graph.get_ops():
        if layer.get_type_name() in ("Convolution", "GroupConvolution"):
            *groups, outputs, inputs, height, width = layer.input_value(1).shape
            shipped.append((math.prod(groups) * outputs, inputs, height, width))
    peer = [
        tuple(layer.weight.shape) for layer in build_network(SHIPPED).modules() if isinstance(layer, torch.nn.Conv2d)
    ]
    assert sorted(peer) == sorted(shipped), "another network was shipped: say which in peer_networks.SHIPPED"


def test_normalisation_is_that_of_the_training() -> None:
    assert peers.IMAGENET_MEAN_RGB == IMAGENET_MEAN_RGB
    assert peers.IMAGENET_STD_RGB == IMAGENET_STD_RGB


def test_the_process_that_starts_the_others_stays_free_of_torch() -> None:
    program = "import sys, engines.bench; print([m for m in ('torch', 'nncf', 'onnxruntime') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]"


# --- the cache of graphs


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[GraphSet]:
    """Sets whose graphs were written; the graph is one byte."""
    sets: list[GraphSet] = []

    def write(graphs: GraphSet, folder: Path) -> None:
        sets.append(graphs)
        (folder / PIPELINE_ONNX).write_bytes(b"1")

    monkeypatch.setattr(peer_graphs, "_export_pipeline", write)
    return sets


def test_graphs_are_written_once(written: list[GraphSet], tmp_path: Path) -> None:
    graphs = GraphSet("pipeline", "slim_fpn", CAMERA_HW)
    assert prepare(graphs, tmp_path) == prepare(graphs, tmp_path) == graphs.folder(tmp_path)
    assert (graphs.folder(tmp_path) / PIPELINE_ONNX).read_bytes() == b"1"
    assert written == [graphs]


@pytest.mark.parametrize(
    "change",
    [
        lambda patch, copy: patch.setattr(peer_graphs, "version", lambda _: "0.0"),
        lambda patch, copy: patch.setattr(peer_graphs, "_SOURCES", ("engines/peers.py",)),
    ],
)
def test_other_libraries_or_sources_make_other_graphs_and_remove_the_old(
    change: object, written: list[GraphSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = GraphSet("pipeline", "slim_fpn", CAMERA_HW)
    other = dataclasses.replace(graphs, network="lraspp")
    old, kept = prepare(graphs, tmp_path), prepare(other, tmp_path)
    change(monkeypatch, None)  # type: ignore[operator]
    new = prepare(graphs, tmp_path)
    assert new != old
    assert sorted(tmp_path.iterdir()) == sorted([new, kept])
    assert written == [graphs, other, graphs]


def test_a_preparation_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(_: GraphSet, folder: Path) -> None:
        (folder / PIPELINE_ONNX).write_bytes(b"1")
        raise RuntimeError("killed")

    monkeypatch.setattr(peer_graphs, "_export_pipeline", write_half)
    with pytest.raises(RuntimeError, match="killed"):
        prepare(GraphSet("pipeline", "slim_fpn", CAMERA_HW), tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- goals


def figures(name: str, p50_ms: float, *, kind: str = "segmenter", load_s: float = 0.5) -> ContestantFigures:
    return ContestantFigures(
        name=name,
        kind=kind,  # type: ignore[arg-type]
        description="hand-made",
        frames=10,
        latency_ms=Percentiles(p50_ms, p50_ms + 1, p50_ms + 2),
        round_p50_ms=(p50_ms - 0.5, p50_ms + 0.5),
        jitter_ms=0.25,
        fps=1000 / p50_ms,
        cpu_s_per_frame=0.03,
        peak_memory_mb=250,
        load_s=load_s,
        ratio=Ratio(p50_ms / 20, p50_ms / 25, p50_ms / 16),
        energy_j_per_frame=None,
    )


def rate(rate_hz: float) -> RateFigures:
    return RateFigures(
        rate_hz=rate_hz,
        reached_hz=rate_hz,
        sent=300,
        answered=299,
        dropped_share=1 / 300,
        latency_ms=Percentiles(12, 14, 17),
        engine_ms_p50=8,
        overhead_ms=Percentiles(2.5, 5, 11),
        jitter_ms=0.5,
        node_cpu_s_per_frame=0.018,
        clients_cpu_s_per_frame=0.002,
    )


ROS = RosFigures(
    runs=(rate(10), rate(30), rate(60)),
    highest=rate(95),
    node_peak_memory_mb=280,
    node_shared_memory_mb=70,
    node_load_s=1.2,
    engine_load_s=None,
    relay_latency_ms=Percentiles(4.7, 5.1, 6.3),
)
ALL_FIGURES = (
    figures("darkseg_slim openvino", 10, kind="engine"),
    figures("darkseg_slim openvino", 11),
    figures(peers.SLIM_INT8, 20),
    figures(peers.SLIM_TORCH, 160),
    figures(peers.DDRNET_INT8, 25),
    figures(peers.DDRNET_PUBLISHED, 40),
    figures(peers.RESNET101_INT8, 200),
    figures(peers.RESNET101_OPENVINO, 800),
    figures(peers.RESNET101_ONNXRUNTIME, 500),
)


def hand_made_goals(
    *,
    contestants: tuple[ContestantFigures, ...] = ALL_FIGURES,
    ros: RosFigures | None = ROS,
    network_hw: tuple[int, int] = (384, 384),
) -> dict:
    goals = goals_of(
        contestants,
        ros,
        shipped="darkseg_slim openvino",
        shipped_hw=network_hw,
        finish=FinishCost(kernel_ms=1.4, numpy_ratio=8, torch_ratio=40, onnxruntime_ratio=14),
        plan=PlanCost(seconds=2, peak_memory_mb=600, description="hand-made"),
        cores=2,
    )
    assert len({goal.text for goal in goals}) == len(goals)
    return {goal.text: goal for goal in goals}


@pytest.mark.parametrize(
    ("part", "measured", "reached"),
    [
        ("as shipped, network at 384×384: camera frame to class map, frames per second", 1000 / 11, True),
        ("the same weights, network at 512×1024: camera frame to class map, frames per second", 50, False),
        ("as shipped, network at 384×384: camera frame of 512×1024 to class map, over DDRNet", 11 / 40, True),
        ("the same weights, network at 512×1024: camera frame to class map, over DDRNet", 20 / 40, False),
        ("over the same network in torch eager", 20 / 160, True),
        ("FPN ResNet-101 at 512×1024, int8, over its best fp32", 200 / 500, False),
        ("highest rate through ROS", 0.95, True),
        ("time that ROS adds at 30 Hz, median", 2.5, True),
        ("time that ROS adds at 30 Hz, p99", 11, False),
        ("peak memory of the node", 280, True),
        ("load of the model", 0.5, True),
        ("finish (upsampling, argmax, confidence)", 1.4, True),
        ("ONNX Runtime's in-graph finish over ours", 14, False),
        ("build of the fp16 plan without a GPU", 2, True),
        ("peak memory of that build", 600, False),
        ("growth of the node's memory over 50,000 frames", None, False),
    ],
)
def test_every_goal_is_judged_by_the_same_runs_figures(part: str, measured: float | None, reached: bool) -> None:
    goals = hand_made_goals()
    assert len(goals) == 16
    (goal,) = (goal for text, goal in goals.items() if part in text)
    assert goal.measured == (None if measured is None else pytest.approx(measured))
    assert goal.reached is reached
    assert goal.note


def test_goals_of_contestants_that_did_not_take_part_are_not_measured() -> None:
    took_part = (peers.SLIM_INT8, peers.SLIM_TORCH, peers.RESNET101_INT8, peers.RESNET101_OPENVINO)
    goals = hand_made_goals(contestants=tuple(row for row in ALL_FIGURES if row.name in took_part), ros=None)
    unmeasured = [text for text, goal in goals.items() if goal.measured is None]
    assert len(unmeasured) == 4
    assert sum("over DDRNet" in text for text in unmeasured) == 2
    assert any("best fp32" in text for text in unmeasured)  # of one of two nobody knows whether it is the best
    assert any("50,000" in text for text in unmeasured)


def test_a_ratio_between_networks_of_different_input_sizes_says_so() -> None:
    said = {
        network_hw: [text for text, goal in hand_made_goals(network_hw=network_hw).items() if "pixels" in goal.note]
        for network_hw in ((384, 384), (512, 1024))
    }
    assert said[512, 1024] == []
    (text,) = said[384, 384]
    assert "as shipped, network at 384×384: camera frame of 512×1024 to class map, over DDRNet-23-slim" in text


def test_goals_over_ddrnet_also_tell_the_ratio_with_our_finish() -> None:
    notes = [goal.note for text, goal in hand_made_goals().items() if "over DDRNet" in text]
    assert ["0.44 × with our finish" in notes[0], "0.80 × with our finish" in notes[1]] == [True, True]


# --- the page


def hand_made_report() -> BenchmarkReport:
    return BenchmarkReport(
        schema_version=SCHEMA_VERSION,
        date="2026-11-22T23:10:00+00:00",
        machine=Machine(
            cpu_model="Some CPU | 3 GHz",
            cores=2,
            gpus=(),
            memory_mb=24_000,
            kernel="6.18",
            governor=None,
            load_average_before=0.1,
        ),
        versions={"torch": "2.15.0"},
        input=BenchmarkInput("generated night drive", "0123456789abcdef" * 4, frames=60, size_hw=(512, 1024)),
        rounds=5,
        turn_s=2.0,
        reference=peers.SLIM_INT8,
        contestants=ALL_FIGURES,
        ros=ROS,
        goals=tuple(hand_made_goals().values()),
    )


def test_the_page_holds_every_row_and_names_what_is_missed(tmp_path: Path) -> None:
    report = hand_made_report()
    write_docs(report, tmp_path / "benchmarks")
    page = (tmp_path / "benchmarks" / "README.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    verdict, judged = "", {}
    for cells in rows:
        if cells[1:] == ["goal", "measured", "how, and why |"]:
            verdict = cells[0].removeprefix("| ")
        elif len(cells) == 4 and cells[1] != "---":
            judged[cells[0].removeprefix("| ")] = verdict
    assert judged == {goal.text: "reached" if goal.reached else "missed" for goal in report.goals} | {
        goal.text: "not measured" for goal in report.goals if goal.measured is None
    }
    assert "[Goals](#goals): 9 reached, 6 missed, 1 not measured." in page
    contestants = [cells for cells in rows if cells[0] == "| FPN ResNet-101 onnxruntime fp32"]
    assert contestants == [
        [
            *("| FPN ResNet-101 onnxruntime fp32", "camera frame to class map", "500", "501", "502", "0.250", "2.00"),
            *("25.0 (20.0…31.2)", "30.0", "250", "0.500", "75.8–77.7 |"),
        ]
    ]
    assert [
        *("| 30 Hz", "300", "299", "0.333", "12.0", "14.0", "17.0", "0.500", "8.00", "2.50", "11.0", "18.0 |")
    ] in rows
    assert "empty class maps answers at 30 Hz after 4.70 ms (p99 6.30)" in page
    assert "2026-11-22" in page
    assert "torch 2.15.0" in page
    assert read_report(tmp_path / "benchmarks" / "2026-11-22.json") == report


# --- the command


@pytest.mark.timeout(300)
def test_a_part_of_the_benchmark_ends_in_a_report(cache: Path) -> None:
    lines: list[str] = []
    report = bench(
        np.stack([camera_frame(), camera_frame()]),
        out=cache,
        only=["slim FPN int8"],
        effort=dataclasses.replace(QUICK, rounds=1, turn_s=0.05),
        old=None,
        progress=lines.append,
    )
    names = [(row.name, row.kind) for row in report.contestants]
    assert names == [
        ("darkseg_slim openvino", "engine"),
        ("darkseg_slim openvino", "segmenter"),
        (peers.SLIM_INT8, "segmenter"),
        ("int8 convolutions", "ceiling"),
    ]
    assert report.int8_ceiling is not None
    assert 0 < report.int8_ceiling.share < 1
    assert report.reference is None
    assert "preparing shipped graph at 64×128" in lines
    assert read_report(cache / "report.json") == report


def test_a_name_that_nobody_has_is_answered_with_the_names_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.bench.generated_frames", partial(np.zeros, (1, *CAMERA_HW, 3), np.uint8))
    assert main(["--out", str(tmp_path), "--only", "resnet-19", "--only", "LR-ASPP"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "resnet-19 names nothing" in error
    assert peers.RESNET18_TORCH in error
    assert PLAN in error


def test_ratios_are_to_a_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # with one of ours as the yardstick, whatever makes ours faster would be a regression of all others
    references = []
    monkeypatch.setattr("engines.bench.run_benchmark", lambda *_, reference, **__: references.append(reference))
    for only in (["slim FPN torch"], ["LR-ASPP"]):
        bench(np.stack([camera_frame()]), out=tmp_path, only=only, effort=QUICK, old=None, progress=print)
    assert references == [peers.SLIM_TORCH, None]


def test_a_preparation_that_raises_is_told_in_one_line(tmp_path: Path) -> None:
    with (
        _OtherProcess(tmp_path / "log") as process,
        pytest.raises(BenchmarkError, match=r"failed with ZeroDivisionError: .*; see .*log"),
    ):
        process.run(partial(divmod, 1, 0))


def test_a_library_that_is_missing_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_graphs, "_LIBRARIES", ("no-such-library",))
    with pytest.raises(InputError, match="needs no-such-library, which is not installed; run `make bench`"):
        GraphSet("pipeline", "slim_fpn", CAMERA_HW).folder(Path())


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed (pip install it)")
def test_a_plan_build_is_measured_in_its_own_process() -> None:
    cost = measure_plan_build(default_bundle())
    assert 0.1 < cost.seconds < 100
    assert 50 < cost.peak_memory_mb < 4000


def test_a_plan_build_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no model bundle"):
        measure_plan_build(tmp_path)
