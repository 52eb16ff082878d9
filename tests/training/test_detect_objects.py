"""The second opinion: a detector's raw answers become boxes of the image that it was shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from darkseg_ros.errors import InputError
from training.adaptation.second_opinion import read_boxes
from training.detect_objects import Detector, main
from training.runs.results import write_picture

CAR, AIRPLANE = 2, 4  # of COCO
CAR_TRAIN_ID = 13
SIDE = 64
PATCH = (0.25, 0.5, 0.375, 0.75)  # left, top, right, bottom as shares of the street's width and height


def write_detector(path: Path, *, coco_class: int = CAR, side: int = SIDE) -> Path:
    """A graph of YOLOX's form: each cell of 8 px that is bright is a box of its size."""
    cells, coarser = (side // 8) ** 2, (side // 16) ** 2 + (side // 32) ** 2
    box = np.tile(np.float32([0.5, 0.5, 0, 0]), (1, cells, 1))
    one_hot = np.zeros((1, cells, 80), np.float32)
    one_hot[..., coco_class] = 1
    constants = {
        "threshold": np.float32([1.5]),
        "slope": np.float32([20]),
        "cells": np.int64([1, cells, 1]),
        "box": box,
        "classes": one_hot,
        "coarser": np.zeros((1, coarser, 85), np.float32),
    }
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("ReduceMean", ["pooled"], ["grey"], axes=[1]),
        helper.make_node("Sub", ["grey", "threshold"], ["above"]),
        helper.make_node("Mul", ["above", "slope"], ["steep"]),
        helper.make_node("Sigmoid", ["steep"], ["sure"]),
        helper.make_node("Reshape", ["sure", "cells"], ["objectness"]),
        helper.make_node("Concat", ["box", "objectness", "classes"], ["fine"], axis=2),
        helper.make_node("Concat", ["fine", "coarser"], ["answer"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, cells + coarser, 85])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def street() -> np.ndarray:
    """(64, 128, 3) uint8, grey but for a bright patch that fills one cell of the whole view."""
    bgr = np.full((64, 128, 3), 70, np.uint8)
    bgr[32:48, 32:48] = 255
    return bgr


def test_an_object_is_boxed_where_it_lies_in_the_image(tmp_path: Path) -> None:
    boxes = Detector(write_detector(tmp_path / "detector.onnx"))(street())
    assert any(np.allclose(box.corners, PATCH) for box in boxes)
    for box in boxes:  # those of the halves are cells of half the size
        left, top, right, bottom = box.corners
        assert (left, top) >= PATCH[:2]
        assert right <= PATCH[2]
        assert bottom <= PATCH[3]
        assert box.train_id == CAR_TRAIN_ID
        assert box.score > 0.9


def test_classes_that_cityscapes_lacks_and_dull_places_are_no_boxes(tmp_path: Path) -> None:
    assert Detector(write_detector(tmp_path / "airplane.onnx", coco_class=AIRPLANE))(street()) == []
    assert Detector(write_detector(tmp_path / "car.onnx"))(np.full((64, 128, 3), 70, np.uint8)) == []


def test_the_command_writes_the_boxes_of_each_image_by_its_stem(tmp_path: Path) -> None:
    write_picture(tmp_path / "night" / "a.png", street())
    write_picture(tmp_path / "night" / "b.png", np.zeros((64, 128, 3), np.uint8))
    detector = write_detector(tmp_path / "detector.onnx")
    main(["--detector", str(detector), "--images", str(tmp_path / "night"), "--out", str(tmp_path / "boxes.json")])
    boxes = read_boxes(tmp_path / "boxes.json")
    assert boxes["a"] == Detector(detector)(street())
    assert boxes["b"] == []


def test_a_graph_that_is_no_detector_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(InputError, match=r"text\.onnx is no detector"):
        Detector(tmp_path / "text.onnx")
    with pytest.raises(InputError, match=r"takes \[1, 3, 72, 72\]; expected a detector of"):
        Detector(write_detector(tmp_path / "odd.onnx", side=72))
