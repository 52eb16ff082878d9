from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from darkseg_ros.classes import CITYSCAPES, ClassTable, SegmentationClass
from darkseg_ros.errors import InputError
from darkseg_ros.pictures.live_page import LOOPBACK, LiveFrame, LiveHealth, LivePage

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

HW = (40, 80)
CAMERA_BGR = (200, 120, 10)
ONE_CLASS = ClassTable((SegmentationClass("moss", "nature", (10, 200, 30)),))
MOSS_BGR = (30, 200, 10)


@pytest.fixture
def page() -> Iterator[LivePage]:
    with LivePage(title="/front/class_map", port=0) as page:
        yield page


def frame(confidence: float | None = 0.75) -> LiveFrame:
    """A uniform camera image, all of it moss."""
    bgr = np.full((*HW, 3), CAMERA_BGR, np.uint8)
    return LiveFrame(bgr, np.zeros(HW, np.uint8), confidence, ONE_CLASS)


def get(page: LivePage, path: str, **headers: str) -> tuple[int, bytes]:
    address = urlsplit(page.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def status(page: LivePage) -> dict[str, Any]:
    code, content = get(page, "/status.json")
    assert code == 200
    return json.loads(content)


def decoded(page: LivePage, path: str) -> np.ndarray:
    code, content = get(page, path)
    assert code == 200
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def test_before_the_first_frame_the_page_says_that_nothing_came(page: LivePage) -> None:
    told = status(page)
    assert (told["frame"], told["level"], told["summary"]) == (0, "STALE", "nothing came yet")
    assert get(page, "/camera?frame=0")[0] == 404


def test_the_status_tells_frame_confidence_classes_health_and_drops_by_reason(page: LivePage) -> None:
    page.show(frame())
    page.tell(LiveHealth("WARN", "slow", {"dropped_too_old": "3", "dropped_undecodable": "0", "rate_in_hz": "30.0"}))
    told = status(page)
    assert (told["title"], told["frame"], told["size"]) == ("/front/class_map", 1, "80×40")
    assert told["confidence"] == 0.75
    assert told["classes"] == [{"name": "moss", "rgb": [10, 200, 30]}]
    assert (told["level"], told["summary"]) == ("WARN", "slow")
    assert told["drops"] == {"too_old": 3}
    assert told["values"] == {"rate_in_hz": "30.0"}


def test_the_three_pictures_of_a_frame_are_camera_class_colours_and_both(page: LivePage) -> None:
    page.show(frame())
    assert np.abs(decoded(page, "/camera?frame=1").astype(int) - CAMERA_BGR).max() <= 4  # JPEG
    assert (decoded(page, "/mask?frame=1") == MOSS_BGR).all()
    half = np.add(CAMERA_BGR, MOSS_BGR) / 2
    assert np.abs(decoded(page, "/overlay?frame=1") - half).max() <= 4


def test_a_browser_can_fetch_the_frame_that_it_was_told_of_however_fast_others_follow(page: LivePage) -> None:
    page.show(frame())
    assert status(page)["frame"] == 1
    for _ in range(100):
        page.show(frame())
    assert get(page, "/mask?frame=1")[0] == 200


def test_frames_that_no_browser_was_told_of_are_not_kept_nor_are_old_ones(page: LivePage) -> None:
    for _ in range(30):
        page.show(frame())
    assert get(page, "/mask?frame=30")[0] == 200
    assert get(page, "/mask?frame=29")[0] == 404
    status(page)
    for _ in range(4):
        page.show(frame())
        status(page)
    page.show(frame())
    assert [get(page, f"/mask?frame={number}")[0] for number in (30, 31, 34, 35)] == [404, 200, 200, 200]


@pytest.mark.parametrize(
    "path", ["/mask", "/mask?frame=-1", "/mask?frame=x", f"/mask?frame={'9' * 5000}", "/../setup.py", "/camera/1"]
)
def test_what_is_no_page_is_not_found(page: LivePage, path: str) -> None:
    page.show(frame())
    assert get(page, path)[0] == 404


def test_a_name_of_another_site_is_refused(page: LivePage) -> None:
    """Else a site whose name was made to point at this machine could read the camera (DNS rebinding)."""
    assert get(page, "/status.json", Host="camera.example")[0] == 403
    assert get(page, "/status.json", Host="localhost:8765")[0] == 200


def test_the_page_is_served_on_loopback_and_its_port_once(page: LivePage) -> None:
    address = urlsplit(page.url)
    assert address.hostname == LOOPBACK
    assert address.port is not None
    with pytest.raises(InputError, match=r"cannot be served.*choose another with --port"):
        LivePage(title="again", port=address.port)


def test_the_page_needs_no_other_site(page: LivePage) -> None:
    code, content = get(page, "/")
    assert code == 200
    assert b"http://" not in content
    assert b"https://" not in content


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to render the page in")
@pytest.mark.parametrize(("width", "side_by_side"), [(1280, True), (400, False)])
def test_chromium_shows_the_pictures_side_by_side_or_on_a_narrow_screen_below_each_other(
    page: LivePage, tmp_path: Path, width: int, side_by_side: bool
) -> None:
    page.show(LiveFrame(np.full((*HW, 3), CAMERA_BGR, np.uint8), np.zeros(HW, np.uint8), 0.75, CITYSCAPES))
    page.tell(LiveHealth("OK", "running", {"rate_in_hz": "30.0", "camera": "healthy"}))
    assert CHROMIUM is not None
    subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1200", "--virtual-time-budget=3000"),
            *(f"--screenshot={tmp_path / 'page.png'}", page.url),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
    shown_bgr = cv2.imread(str(tmp_path / "page.png")).astype(int)
    (camera_x, camera_y), (mask_x, mask_y), (overlay_x, overlay_y) = middles_of_the_pictures(shown_bgr)
    if side_by_side:
        assert camera_x + 300 < mask_x < overlay_x - 300
        assert camera_y == pytest.approx(overlay_y, abs=2)
    else:
        assert camera_y + 100 < mask_y < overlay_y - 100
        assert camera_x == pytest.approx(overlay_x, abs=2)


def middles_of_the_pictures(screen_bgr: np.ndarray) -> list[tuple[float, float]]:
    """The middle of camera, mask and overlay, each found by its colour."""
    road = CITYSCAPES.palette_bgr[0].astype(int)
    middles = []
    for colour in (np.array(CAMERA_BGR), road, np.add(CAMERA_BGR, road) // 2):
        ys, xs = np.nonzero((np.abs(screen_bgr - colour) <= 4).all(axis=2))
        assert ys.size > 5000  # of a picture some 400 pixels wide
        middles.append((float(np.median(xs)), float(np.median(ys))))
    return middles


def test_ages_are_told_to_a_tenth_of_a_second_once_there_is_something(
    page: LivePage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr("darkseg_ros.pictures.live_page.time.monotonic", lambda: now_s[0])
    told = page.status()
    assert (told["frame_age_s"], told["told_age_s"], told["size"], told["confidence"]) == (None, None, None, None)
    assert (told["classes"], told["drops"], told["values"]) == ([], {}, {})
    page.show(frame(confidence=0.123456))
    now_s[0] = 101.0
    page.tell(LiveHealth("OK", "running"))
    now_s[0] = 102.26
    told = page.status()
    assert (told["frame_age_s"], told["told_age_s"], told["confidence"]) == (2.3, 1.3, 0.123)
    page.show(frame(confidence=None))
    assert (page.status()["confidence"], page.status()["frame"], page.status()["frame_age_s"]) == (None, 2, 0.0)


def test_pictures_have_their_media_type_and_are_not_kept_by_browsers(page: LivePage) -> None:
    page.show(frame())
    address = urlsplit(page.url)
    found = {}
    for path in ("/", "/status.json", "/camera?frame=1", "/overlay?frame=1", "/mask?frame=1", "/none"):
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert int(answer.headers["Content-Length"]) == len(answer.read())
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.version == 11
        found[path.partition("?")[0]] = answer.headers["Content-Type"]
        connection.close()
    assert found == {
        "/": "text/html; charset=utf-8",
        "/status.json": "application/json",
        "/camera": "image/jpeg",
        "/overlay": "image/jpeg",
        "/mask": "image/png",
        "/none": "text/plain",
    }


def test_one_connection_serves_all_that_a_page_asks(page: LivePage) -> None:
    page.show(frame())
    address = urlsplit(page.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    for _ in range(3):
        connection.request("GET", "/status.json")
        assert json.loads(connection.getresponse().read())["frame"] == 1
    connection.close()


def test_the_frames_of_the_last_four_answers_can_be_fetched_once_each_is_counted(page: LivePage) -> None:
    """A browser that asks often for one frame does not push out those that others were told of."""
    for _ in range(4):
        page.show(frame())
        for _ in range(6):
            page.status()
    page.show(frame())
    assert [page.picture("mask", number) is not None for number in range(7)] == [False, *[True] * 5, False]


def test_a_closed_page_gives_its_port_back() -> None:
    with LivePage(title="first", port=0) as first:
        port = urlsplit(first.url).port
        assert port is not None
    with LivePage(title="second", port=port) as second:
        assert status(second)["title"] == "second"
