from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.segmentation.fcn import FCN, FCNHead

from darkseg_ros.classes import CITYSCAPES
from darkseg_ros.model.bundle import load_bundle
from darkseg_ros.model.segmenter import Segmenter
from darkseg_ros.synthetic_drive import SyntheticDrive
from engines.import_onnx import main, read_classes
from training.data.imagenet import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB

INPUT_HW = (64, 96)
CLASSES = ["road", "sky", "car", "person"]
COLOURS_RGB = np.array([[128, 64, 128], [70, 130, 180], [0, 0, 142], [220, 20, 60]], np.float32)
"""What the hand-made graphs tell the classes by."""

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of torch's exporter, which differ by version
    pytest.mark.usefixtures("no_trials"),
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of large patches in the classes' colours, with some noise."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(3):
        patches = rng.integers(0, len(CLASSES), (4, 6))
        rgb = np.repeat(np.repeat(COLOURS_RGB[patches], 16, 0), 16, 1) + rng.normal(0, 4, (*INPUT_HW, 3))
        cv2.imwrite(str(folder / f"{index}.png"), rgb.clip(0, 255).astype(np.uint8)[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of generated street scenes."""
    folder = tmp_path_factory.mktemp("drive")
    for index in range(3):
        scene = SyntheticDrive(seed=index, size_hw=(128, 192), night=index == 2).frame(index)
        cv2.imwrite(str(folder / f"{index}.png"), scene.bgr)
    return folder


def write_graph(
    path: Path,
    *,
    channels_last: bool = False,
    input_type: int = TensorProto.FLOAT,
    bgr: bool = False,
    stride: int = 4,
    answer: str = "NCHW",
    size: tuple[Any, Any] = ("height", "width"),
    opset: int = 18,
    extra: tuple[onnx.NodeProto, ...] = (),
    outputs: tuple[str, ...] = ("answer",),
) -> Path:
    """A graph that gives each pixel the class of the nearest colour: -|x - c|² + |x|² = 2 x·c - |c|²."""
    colours = COLOURS_RGB[:, ::-1] if bgr else COLOURS_RGB
    weights = {
        "colours": (2 * colours / 255).reshape(4, 3, 1, 1).astype(np.float32),
        "squares": (-((colours / 255) ** 2)).sum(1).astype(np.float32) * 255,
    }
    nodes = []
    x = "image"

    def then(operator: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(
            helper.make_node(operator, list(inputs), [f"x{len(nodes)}"], name=f"node{len(nodes)}", **attributes)
        )
        return f"x{len(nodes) - 1}"

    if input_type != TensorProto.FLOAT:
        x = then("Cast", x, to=TensorProto.FLOAT)
    if channels_last:
        x = then("Transpose", x, perm=[0, 3, 1, 2])
    if stride > 1:
        x = then("AveragePool", x, kernel_shape=[stride, stride], strides=[stride, stride])
    x = then("Conv", x, "colours", "squares")
    if answer == "NHWC":
        x = then("Transpose", x, perm=[0, 2, 3, 1])
    if answer == "ids":
        x = then("ArgMax", x, axis=1, keepdims=0)
    nodes[-1].output[0] = "answer"
    shape = (1, *size, 3) if channels_last else (1, 3, *size)
    kinds = {"ids": TensorProto.INT64}
    graph = helper.make_graph(
        [*nodes, *extra],
        "made by hand",
        [helper.make_tensor_value_info("image", input_type, shape)],
        [helper.make_tensor_value_info(name, kinds.get(answer, TensorProto.FLOAT), None) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), str(path))
    return path


PIXELS = ("--scale", "255", "--mean", "0", "0", "0", "--std", "1", "1", "1")


def import_it(path: Path, images: Path, out: Path, *options: str, classes: str = ",".join(CLASSES)) -> Path:
    main(
        [
            *("--onnx", str(path), "--name", "mine", "--out", str(out), "--classes", classes),
            *("--input-hw", *map(str, INPUT_HW), "--images", str(images), *options),
        ]
    )
    return out / "mine"


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ({}, PIXELS),
        ({"channels_last": True, "answer": "NHWC", "opset": 13}, PIXELS),
        ({"input_type": TensorProto.UINT8, "channels_last": True, "bgr": True}, ("--bgr",)),
        ({"stride": 8}, PIXELS),
        ({"stride": 8}, (*PIXELS, "--align-corners")),
        ({"stride": 1, "answer": "ids"}, PIXELS),
        ({"stride": 2, "size": INPUT_HW}, ("--rgb", *PIXELS)),
    ],
    ids=["NCHW", "NHWC", "uint8_bgr", "stride_8", "align_corners", "ids", "static_size"],
)
def test_a_graph_of_any_form_answers_in_the_bundle_as_by_itself(
    form: dict[str, Any], options: tuple[str, ...], images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = import_it(write_graph(tmp_path / "foreign.onnx", **form), images, tmp_path, *options)
    bundle = load_bundle(folder)
    assert bundle.classes.names == tuple(CLASSES)
    assert "the fused graph gives 100.00% of the pixels" in capfd.readouterr().out
    bgr = cv2.imread(str(images / "0.png"))
    distances = np.linalg.norm(bgr[..., ::-1, None].astype(np.float32) - COLOURS_RGB.T, axis=2)
    inside = np.zeros(INPUT_HW, bool)
    inside.reshape(4, 16, 6, 16)[:, 4:12, :, 4:12] = True
    for backend in ("onnxruntime", "openvino"):
        answer = Segmenter.open(folder, backend=backend)(bgr)
        assert (answer.class_map == distances.argmin(2))[inside].mean() > 0.95
    card = (folder / "MODEL_CARD.md").read_text()
    assert "Imported from `foreign.onnx`" in card
    assert "- Classes: road, sky, car, person.\n" in card


def test_cityscapes_is_a_class_table() -> None:
    assert read_classes("cityscapes") == CITYSCAPES


def test_a_unet_exported_by_its_users_own_two_lines(images: Path, tmp_path: Path) -> None:
    """Trained for a moment: the classes of random logits at the full size change from pixel to pixel."""
    torch.manual_seed(0)
    model = smp.Unet("tu-test_resnet", encoder_weights=None, decoder_channels=(32, 16, 16, 8, 8), classes=len(CLASSES))
    rgb = np.stack([cv2.imread(str(path))[..., ::-1] for path in sorted(images.iterdir())]).astype(np.float32)
    batch = torch.from_numpy((rgb / 255 - IMAGENET_MEAN_RGB) / IMAGENET_STD_RGB).permute(0, 3, 1, 2).float()
    labels = torch.from_numpy(np.linalg.norm(rgb[..., None] - COLOURS_RGB.T, axis=3).argmin(3))
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(15):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(batch), labels).backward()
        optimiser.step()
    model.eval()

    torch.onnx.export(model, (torch.zeros(1, 3, *INPUT_HW),), str(tmp_path / "unet.onnx"))
    folder = import_it(tmp_path / "unet.onnx", images, tmp_path)
    assert load_bundle(folder).classes.names == tuple(CLASSES)
    assert Segmenter.open(folder, backend="openvino")(np.zeros((30, 50, 3), np.uint8)).class_map.shape == (30, 50)


def test_a_state_dict_of_torchvisions_lraspp(drive: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    )
    torch.save(model.state_dict(), tmp_path / "lraspp.pth")
    options = ("--model", "torchvision.lraspp_mobilenet_v3_large")
    folder = import_checkpoint(tmp_path / "lraspp.pth", drive, tmp_path, *options)
    assert len(load_bundle(folder).classes) == 4


def test_torchvisions_fcn_exported_with_its_dictionary_and_a_file_of_classes(drive: Path, tmp_path: Path) -> None:
    rows = [{"name": name, "category": "own", "rgb": [index, 2, 3]} for index, name in enumerate(CLASSES)]
    (tmp_path / "classes.json").write_text(json.dumps(rows))
    torch.manual_seed(0)
    features = create_feature_extractor(torchvision.models.resnet18(), {"layer2": "out"})
    model = FCN(features, FCNHead(128, len(CLASSES))).eval()
    torch.onnx.export(model, (torch.zeros(1, 3, *INPUT_HW),), str(tmp_path / "fcn.onnx"))
    folder = import_it(tmp_path / "fcn.onnx", drive, tmp_path, classes=str(tmp_path / "classes.json"))
    assert load_bundle(folder).classes.to_json() == rows


def import_checkpoint(checkpoint: Path, images: Path, out: Path, *options: str) -> Path:
    main(
        [
            *("--checkpoint", str(checkpoint), "--name", "mine", "--out", str(out), "--classes", ",".join(CLASSES)),
            *("--input-hw", *map(str, INPUT_HW), "--images", str(images), *options),
        ]
    )
    return out / "mine"


def test_a_state_dict_of_another_model_is_refused(images: Path, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    for model, message in (
        ("smp.Unet:resnet18", r"other\.pth is no state dict of smp\.Unet:resnet18 with 4 classes"),
        ("smp.Wnet:resnet18", r"--model smp\.Wnet:resnet18 cannot be built"),
        ("unet", r"--model is 'unet'; expected smp\.CLASS:ENCODER"),
    ):
        with pytest.raises(SystemExit, match=message):
            import_checkpoint(tmp_path / "other.pth", images, tmp_path / "out", "--model", model)
    assert not (tmp_path / "out").exists()


def _second_output() -> onnx.NodeProto:
    return helper.make_node("Relu", ["answer"], ["aux"], name="auxiliary")


def _dynamic_rank() -> tuple[onnx.NodeProto, ...]:
    return (helper.make_node("NonZero", ["answer"], ["places"], name="places_of_answer"),)


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        (
            {"extra": (_second_output(),), "outputs": ("answer", "aux")},
            (),
            r"has the outputs answer, aux; name the one with the classes by --output",
        ),
        ({}, ("--output", "logits"), r"has no output logits; it has answer"),
        (
            {"extra": _dynamic_rank(), "outputs": ("places",), "answer": "ids"},
            (),
            r"output places, of node places_of_answer \(NonZero\), has 2 dimensions; expected 4 of logits, or 3",
        ),
        (
            {"extra": (helper.make_node("Snap", ["answer"], ["snapped"], "snapper", domain="acme"),)},
            (),
            r"node snapper is the operator Snap of acme, which is none of ONNX",
        ),
        (
            {"answer": "NCHW"},
            ("--classes", "road,sky"),
            r"of node node1 \(Conv\) is float32 \(1, 4, 16, 24\); expected logits of the 2 classes of --classes",
        ),
        ({"answer": "ids", "stride": 1}, ("--classes", "road,sky"), r"gives the class id [23]; --classes names 2"),
        ({"size": (32, 96)}, (), r"input image is of a batch of 1 at 32×96, not 1 at 64×96; set --input-hw"),
        ({"input_type": TensorProto.INT32}, (), r"input image is int32; expected float or uint8"),
        ({}, ("--input-hw", "62", "96"), r"--input-hw is 62 96; expected multiples of 4"),
        ({}, ("--classes", "road,road"), r"--classes road,road: two classes have the name 'road'"),
        ({}, ("--images", "nowhere"), r"nowhere"),
    ],
)
def test_what_cannot_be_represented_is_named_and_nothing_is_written(
    form: dict[str, Any], options: tuple[str, ...], message: str, images: Path, tmp_path: Path
) -> None:
    path = write_graph(tmp_path / "foreign.onnx", **form)
    with pytest.raises(SystemExit, match=message):
        import_it(path, images, tmp_path / "out", *PIXELS, *options)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_graph_is_refused(images: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    for name in ("text.onnx", "none.onnx"):
        with pytest.raises(SystemExit, match=rf"{name} cannot be read as ONNX"):
            import_it(tmp_path / name, images, tmp_path / "out")
