from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from darkseg_ros.errors import InputError
from darkseg_ros.frames.labelled import LabelledImage
from darkseg_ros.model.backends import open_engine
from darkseg_ros.model.backends.fake import FakeEngine
from darkseg_ros.model.bundle import ANY_MATCH, GoldenMatch, load_bundle
from darkseg_ros.model.segmenter import Segmenter
from darkseg_ros.synthetic_drive import SyntheticDrive
from engines import export as export_module
from engines.export import (
    config_of,
    export,
    export_onnx,
    in_onnx_runtime,
    judged_set,
    least_match_of,
    main,
    match_on_golden,
    without_data_root,
)
from engines.parity import ParityReport
from training.networks.layers import upsample_bilinear
from training.networks.slim_fpn import SlimFpn
from training.runs.checkpoints import load_checkpoint, save_checkpoint

TRAINED_PX = 64
NETWORK_HW = (64, 96)
"""Another input size than the training's."""


@pytest.fixture(scope="module")
def checkpoint(generated_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = SlimFpn(encoder="mobilenet_v2_dense_stem", channels=8).train()
    with torch.no_grad():
        for _ in range(20):  # running statistics that fit the network: with the initial ones, answers are flat
            network(torch.randn(4, 3, TRAINED_PX, TRAINED_PX))
    config = {
        "network": {"encoder": "mobilenet_v2_dense_stem", "channels": 8, "input_px": TRAINED_PX},
        "data": {
            "source": str(generated_data / "source"),
            "night": str(generated_data / "night"),
            "day_validation": str(generated_data / "validation"),
            "night_validation": str(generated_data / "night_validation"),
        },
    }
    path = tmp_path_factory.mktemp("run") / "last.pt"
    save_checkpoint(path, {"step": 7, "config": config, "teacher": network.state_dict()})
    return path


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Path:
    torch.manual_seed(1)
    path = checkpoint.with_name("reference.pt")
    state = torch.load(checkpoint, weights_only=True)
    save_checkpoint(path, {**state, "teacher": SlimFpn(encoder="mobilenet_v2_dense_stem", channels=8).state_dict()})
    return path


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the float graphs of `bundle_folder`, by their outputs."""
    return tmp_path_factory.mktemp("traced")


@pytest.fixture(scope="module")
def bundle_folder(checkpoint: Path, reference: Path, traced: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def export_and_keep(module: torch.nn.Module, frames: np.ndarray, path: Path, output_names: list[str]) -> None:
        export_onnx(module, frames, path, output_names)
        shutil.copyfile(path, traced / f"{'_'.join(output_names)}.onnx")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "MIOU_LOSS_MAX", 1.0)  # an untrained network's answers are noise
        patch.setattr(ParityReport, "failures", lambda _: [])
        patch.setattr(export_module, "_CALIBRATION_IMAGES", 6)
        patch.setattr(export_module, "export_onnx", export_and_keep)
        out = tmp_path_factory.mktemp("engines")
        return export(checkpoint, name="small", out=out, reference=reference, input_hw=NETWORK_HW)


@pytest.fixture(scope="module")
def take_graphs_at_hand(bundle_folder: Path, traced: Path) -> Callable[[pytest.MonkeyPatch], None]:
    """Lets exports take the graphs of `bundle_folder`: to trace and quantise them again takes half a minute."""

    def take_traced(module: object, frames: object, path: Path, output_names: list[str]) -> None:
        shutil.copyfile(traced / f"{'_'.join(output_names)}.onnx", path)

    def take_quantised(onnx: object, frames: object, path: Path) -> Path:
        for suffix in (".xml", ".bin"):
            shutil.copyfile((bundle_folder / "cpu_int8").with_suffix(suffix), path.with_suffix(suffix))
        return path

    def take_within(
        onnx: object, frames: object, path: Path, *, validation: list[LabelledImage], miou_loss_max: float, **_: object
    ) -> Path:
        assert miou_loss_max == export_module.MIOU_LOSS_MAX
        assert {pair.image.parents[1].name for pair in validation} == {"validation"}
        return take_quantised(onnx, frames, path)

    def take_symmetric(onnx: object, frames: object, path: Path, *, float_layers: object) -> list[str]:
        shutil.copyfile(bundle_folder / "int8.onnx", path)
        return []

    def take(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(export_module, "export_onnx", take_traced)
        patch.setattr(export_module, "quantise", take_quantised)
        patch.setattr(export_module, "quantise_within", take_within)
        patch.setattr(export_module, "quantise_symmetric", take_symmetric)
        patch.setattr(export_module, "_OPENINGS", 1)
        patch.setattr(export_module, "_CALIBRATION_IMAGES", 2)

    return take


@pytest.fixture(scope="module")
def bundle_partly_float(
    checkpoint: Path,
    take_graphs_at_hand: Callable[[pytest.MonkeyPatch], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """int8 on the CPU loses too much until a layer stays float, every int8 for TensorRT does. Of a network that was
    trained as a rectangle.
    """
    losses = iter([0.02, 0.001, 0.03, 0.02, 0.01])
    with pytest.MonkeyPatch.context() as patch:
        take_graphs_at_hand(patch)
        patch.setattr(export_module, "miou_loss", lambda *_: next(losses))
        patch.setattr(export_module, "float_layers", lambda path: ["head"] if path.stem == "cpu_within" else [])
        patch.setattr(ParityReport, "failures", lambda _: [])
        state = torch.load(checkpoint, weights_only=True)
        state["config"]["network"]["width_over_height"] = NETWORK_HW[1] / NETWORK_HW[0]
        save_checkpoint(rectangular := tmp_path_factory.mktemp("run") / "rectangular.pt", state)
        return export(rectangular, name="partly", out=tmp_path_factory.mktemp("engines"))


def test_the_fused_graph_answers_as_the_network_in_torch(bundle_folder: Path, checkpoint: Path) -> None:
    network = SlimFpn(encoder="mobilenet_v2_dense_stem", channels=8)
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["teacher"])
    network.eval()
    bgr = np.random.default_rng(0).integers(0, 255, (*NETWORK_HW, 3)).astype(np.uint8)
    rgb = torch.from_numpy(bgr[:, :, ::-1].copy()).permute(2, 0, 1)[None] / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        logits = network((rgb - mean[:, None, None]) / std[:, None, None])
    expected = upsample_bilinear(logits, NETWORK_HW).argmax(1)[0].numpy()
    answer = Segmenter.open(bundle_folder, backend="onnxruntime")(bgr)
    assert (answer.class_map == expected).mean() > 0.999
    temperature = load_bundle(bundle_folder).temperature
    probability = upsample_bilinear(torch.softmax(logits / temperature, 1).amax(1, keepdim=True), NETWORK_HW)
    assert np.abs(answer.confidence - probability[0, 0].numpy() * 255).max() <= 1


def test_the_graphs_do_not_tell_where_they_were_made(bundle_folder: Path) -> None:
    checkout = Path(__file__).parents[2]
    for path in bundle_folder.iterdir():
        content = path.read_bytes()
        assert str(checkout).encode() not in content, path.name
        assert b"fused_graph.py" not in content, path.name


def test_the_int8_graph_stays_close_to_the_float_graph(bundle_folder: Path, generated_data: Path) -> None:
    bgr = SyntheticDrive(seed=9, size_hw=(64, 128), night=True).frame(3).bgr
    first, second = (Segmenter.open(bundle_folder, backend=name)(bgr) for name in ("onnxruntime", "openvino"))
    assert (first.class_map == second.class_map).mean() > 0.8
    assert b"FakeQuantize" in (bundle_folder / "cpu_int8.xml").read_bytes()


def test_the_model_card_states_data_terms_figures_and_recipe(bundle_folder: Path) -> None:
    card = (bundle_folder / "MODEL_CARD.md").read_text()
    for text in (
        "| those of its owner |",  # the folders are of no data set of the catalogue
        "| day | int8 | 2 |",
        "| night | float | 2 |",
        "| day | int8, TensorRT's | 2 |",
        "7 steps",
        "input_px: 64",
        "TensorRT's int8 graph keeps depthwise convolutions in float, and of the dense ones none",
        "\nSlim feature pyramid network on MobileNetV2 behind dense convolutions on camera pixels; camera frames are "
        "stretched to 96×64 ",
        "| torch |",
        "not judged: the mIoU of int8 on fewer than 400 images",
    ):
        assert text in card


def test_layers_that_stay_float_and_a_left_out_graph_stand_in_the_model_card(
    bundle_partly_float: Path,
) -> None:
    card = (bundle_partly_float / "MODEL_CARD.md").read_text()
    assert "int8 would lose 0.0200, more than the 0.005 of day mIoU that int8 may lose: `head`" in card
    assert "The bundle holds no int8 graph for TensorRT" in card
    assert load_bundle(bundle_partly_float).int8_onnx is None


def test_another_input_size_reaches_every_graph(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    assert bundle.network_hw == NETWORK_HW
    for each, backend in ((bundle, "openvino"), (bundle, "onnxruntime"), (in_onnx_runtime(bundle), "onnxruntime")):
        engine = open_engine(each, backend=backend)
        assert engine(np.zeros((1, *NETWORK_HW, 3), np.uint8)).class_map.shape == (1, *NETWORK_HW)
        engine.close()


def test_without_an_input_size_the_graphs_take_the_trainings_square(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def see(module: object, frames: np.ndarray, *_: object) -> None:
        raise InputError(f"frames of {frames.shape}")

    monkeypatch.setattr(export_module, "export_onnx", see)
    with pytest.raises(InputError, match=r"frames of \(1, 64, 64, 3\)"):
        export(checkpoint, name="small", out=tmp_path)


@pytest.mark.parametrize("input_hw", [(512, 1000), (0, 64), (64, -32)])
def test_an_input_size_that_the_network_cannot_halve_five_times_is_refused(
    tmp_path: Path, input_hw: tuple[int, int]
) -> None:
    with pytest.raises(InputError, match=r"does not fit; expected multiples of 32, such as --input-hw 512 1024"):
        export(tmp_path / "absent.pt", name="small", out=tmp_path, input_hw=input_hw)


def test_the_int8_graph_for_tensorrt_is_small_and_answers_as_the_float_graph(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    assert bundle.int8_onnx is not None
    assert bundle.int8_onnx.size_bytes < 0.5 * bundle.fused_onnx.size_bytes
    bgr = SyntheticDrive(seed=9, size_hw=(64, 128), night=True).frame(3).bgr
    full, int8 = (
        Segmenter(each, open_engine(each, backend="onnxruntime"))(bgr) for each in (bundle, in_onnx_runtime(bundle))
    )
    assert (int8.class_map == full.class_map).mean() > 0.8
    assert 0 < bundle.int8_match.agreement <= 0.97


def test_the_machine_that_exported_a_bundle_takes_it_however_far_int8_is_off(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    measured = match_on_golden(bundle, "openvino")
    assert bundle.cpu_match == least_match_of(measured)
    for far in (measured, GoldenMatch(0.01, 200.0), GoldenMatch(0.0, 255.0)):
        assert far.reaches(least_match_of(far))


def test_a_network_that_was_trained_as_a_rectangle_is_exported_as_one(bundle_partly_float: Path) -> None:
    assert load_bundle(bundle_partly_float).network_hw == NETWORK_HW


def test_the_worst_of_several_openings_counts(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([GoldenMatch(0.99, 11.0), GoldenMatch(0.98, 9.0), GoldenMatch(0.995, 19.0)])
    monkeypatch.setattr(export_module, "open_engine", lambda bundle, backend: FakeEngine(bundle.classes))
    monkeypatch.setattr(export_module, "check_golden", lambda engine, bundle, least: next(found))
    assert match_on_golden(load_bundle(bundle_folder), "openvino") == GoldenMatch(0.98, 19.0)


def test_the_manifest_records_what_the_engines_need(bundle_folder: Path) -> None:
    manifest = json.loads((bundle_folder / "model.json").read_text())
    assert manifest["schema_version"] == 1
    assert (manifest["input"]["height"], manifest["input"]["width"]) == NETWORK_HW
    assert set(manifest["files"]) == {"fused_onnx", "int8_onnx", "cpu_graph", "cpu_weights", "golden"}


def test_an_int8_graph_that_loses_accuracy_is_not_written(
    checkpoint: Path,
    take_graphs_at_hand: Callable[[pytest.MonkeyPatch], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_graphs_at_hand(monkeypatch)
    monkeypatch.setattr(export_module, "MIOU_LOSS_MAX", -2.0)
    with pytest.raises(InputError, match="int8 loses"):
        export(checkpoint, name="small", out=tmp_path, input_hw=NETWORK_HW)
    assert list(tmp_path.iterdir()) == []


def test_graphs_that_answer_otherwise_than_torch_are_not_written(
    checkpoint: Path,
    take_graphs_at_hand: Callable[[pytest.MonkeyPatch], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_graphs_at_hand(monkeypatch)
    monkeypatch.setattr(export_module, "MIOU_LOSS_MAX", 1.0)
    monkeypatch.setattr(export_module, "FLOAT_LAYERS_TRIED", ())  # saves time
    monkeypatch.setattr(ParityReport, "failures", lambda _: ["onnxruntime sees sky where torch sees road"])
    with pytest.raises(InputError, match=r"otherwise than the network; nothing was written: onnxruntime"):
        export(checkpoint, name="small", out=tmp_path, input_hw=NETWORK_HW)
    assert list(tmp_path.iterdir()) == []


def test_a_reference_of_another_input_size_and_missing_files_are_named_before_any_work(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.load(checkpoint, weights_only=True)
    state["config"]["network"]["input_px"] = 96
    save_checkpoint(tmp_path / "large.pt", state)
    with pytest.raises(InputError, match=r"large\.pt sees 96×96 pixels, the checkpoint to export 64×64"):
        export(checkpoint, name="small", out=tmp_path / "out", reference=tmp_path / "large.pt")
    with pytest.raises(InputError, match=r"recipe .*absent\.md cannot be read"):
        export(checkpoint, name="small", out=tmp_path / "out", recipe=tmp_path / "absent.md")
    state["config"]["data"]["night_validation"] = str(tmp_path / "nowhere")
    save_checkpoint(tmp_path / "blind.pt", state)
    monkeypatch.setattr(export_module, "fit_temperature", lambda *_: pytest.fail("work began"))
    with pytest.raises(InputError, match="nowhere"):
        export(tmp_path / "blind.pt", name="small", out=tmp_path / "out")


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path: Path, bundle_folder: Path) -> None:
    from darkseg_ros.model.bundle import load_golden
    from engines.bundle_writer import BundleContent, write_bundle

    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.txt").write_text("precious")
    content = BundleContent(
        name="small",
        network_hw=NETWORK_HW,
        temperature=1.0,
        fused_onnx=bundle_folder / "model.onnx",
        cpu_graph=bundle_folder / "cpu_int8.xml",
        golden=load_golden(load_bundle(bundle_folder)),
        fused_match=ANY_MATCH,
        cpu_match=ANY_MATCH,
        model_card="",
    )
    with pytest.raises(InputError, match="is no model bundle"):
        write_bundle(tmp_path, content)
    assert (tmp_path / "small" / "thesis.txt").read_text() == "precious"


def test_the_temperature_lies_between_that_of_the_day_and_that_of_the_night(bundle_folder: Path) -> None:
    card = (bundle_folder / "MODEL_CARD.md").read_text()
    found = re.search(r"geometric mean of ([\d.]+), fitted .*, and ([\d.]+), at which .* pixels, ([\d.]+), on", card)
    assert found, card
    day, night, agreement = map(float, found.groups())
    assert load_bundle(bundle_folder).temperature == pytest.approx((day * night) ** 0.5, rel=1e-2)
    assert 0 <= agreement < 0.9  # two networks of random weights


@pytest.mark.parametrize("root", ["/home/somebody/data", "/home/somebody/data/"])
def test_the_model_card_names_the_data_folder_and_not_where_it_lies(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = "data:\n  night: /home/somebody/data/night\n  other: ../shared/data/night\n"
    monkeypatch.setenv("DARKSEG_DATA", root)
    assert without_data_root(config) == "data:\n  night: $DARKSEG_DATA/night\n  other: ../shared/data/night\n"
    for unset in ("", "/"):
        monkeypatch.setenv("DARKSEG_DATA", unset)
        assert without_data_root(config) == config


def test_data_that_lie_elsewhere_now_are_named_on_the_command_line(checkpoint: Path) -> None:
    state = load_checkpoint(checkpoint)
    config = config_of(state, ["data.night=/data/night", "data.validation.day=/data/val", "data.validation.night=null"])
    assert (config.data.night, config.data.validation) == ("/data/night", {"day": "/data/val", "night": None})
    assert config.data.source == state["config"]["data"]["source"]
    with pytest.raises(InputError, match=r"network\.input_px=3 cannot be changed after the training"):
        config_of(state, ["network.input_px=3"])
    with pytest.raises(InputError, match=r"data\.nigth"):
        config_of(state, ["data.nigth=/data/night"])


def test_the_data_of_an_adaptation_are_named_on_the_command_line_too(checkpoint: Path) -> None:
    state = load_checkpoint(checkpoint)
    state["config"]["data"] |= {"boxes": "boxes.json", "answers": None}
    config = config_of(state, ["data.night=/data/night"])
    assert (config.data.night, config.data.boxes) == ("/data/night", "boxes.json")


def test_a_run_whose_data_moved_is_exported_from_where_they_lie_now(
    checkpoint: Path,
    generated_data: Path,
    take_graphs_at_hand: Callable[[pytest.MonkeyPatch], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, now = tmp_path / "before", tmp_path / "now"
    state = torch.load(checkpoint, weights_only=True)
    data = {key: folder.replace(str(generated_data), str(before)) for key, folder in state["config"]["data"].items()}
    save_checkpoint(tmp_path / "last.pt", {**state, "config": {**state["config"], "data": data}})
    command = ["--checkpoint", str(tmp_path / "last.pt"), "--name", "moved", "--out", str(tmp_path / "engines")]
    command += ["--input-hw", *map(str, NETWORK_HW)]
    with pytest.raises(SystemExit, match=str(before / "source")):
        main(command)

    shutil.copytree(generated_data, now)
    take_graphs_at_hand(monkeypatch)
    monkeypatch.setattr(export_module, "MIOU_LOSS_MAX", 1.0)
    monkeypatch.setattr(export_module, "FLOAT_LAYERS_TRIED", ())  # saves time
    monkeypatch.setattr(ParityReport, "failures", lambda _: [])
    folders = {"night": "night", "validation.day": "validation", "validation.night": "night_validation"}
    moved = [f"data.{key}={now / folder}" for key, folder in folders.items()]
    main([*command, f"data.source=[{now / 'source'}]", *moved])
    card = (tmp_path / "engines" / "moved" / "MODEL_CARD.md").read_text()
    assert str(now / "night") in card
    assert str(before) not in card
    assert load_bundle(tmp_path / "engines" / "moved").network_hw == NETWORK_HW


def test_int8_is_judged_by_day_or_by_the_first_set() -> None:
    assert judged_set(["dusk", "day"]) == "day"
    assert judged_set(["dusk", "rain"]) == "dusk"
    with pytest.raises(InputError, match="no validation set"):
        judged_set([])
