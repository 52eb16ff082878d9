"""A page in the browser that shows a running stream: camera, class map and overlay side by side, and the figures.

Served on the loopback address only, to whoever is logged in on this machine. The page asks for ``/status.json`` some
times a second and fetches the three pictures of a frame it has not shown yet.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np

from darkseg_ros.classes import ClassTable
from darkseg_ros.errors import InputError
from darkseg_ros.pictures.overlay import color_class_map, draw_overlay

LOOPBACK = "127.0.0.1"

_JPEG_QUALITY = 85
_NAMED_FRAMES = 4
"""The pictures of the last frames that status.json named can still be fetched, however fast others follow."""

_DROPPED = "dropped_"


@dataclass(frozen=True)
class LiveFrame:
    """One frame and its answer.

    Attributes:
        bgr: (H, W, 3) uint8 camera image.
        class_map: (H, W) uint8 train ids.
        confidence: 0…1, mean over the pixels; None where it is not known.
        classes: whose colours the class map gets.
    """

    bgr: np.ndarray
    class_map: np.ndarray
    confidence: float | None
    classes: ClassTable


@dataclass(frozen=True)
class LiveHealth:
    """What the stream says of itself.

    Attributes:
        level: OK, WARN, ERROR or STALE.
        summary: in words.
        values: figures by the keys of /diagnostics.
    """

    level: str
    summary: str
    values: Mapping[str, str] = field(default_factory=dict)


class LivePage:
    """Serves the page until it is closed; `show` and `tell` may be called from any thread.

    Args:
        title: what is shown, such as the name of a topic or file.
        port: of the server; 0 takes a free one.

    Raises:
        InputError: if the port is taken.
    """

    def __init__(self, *, title: str, port: int) -> None:
        self._title = title
        self._lock = threading.Lock()
        self._frames: dict[int, LiveFrame] = {}
        self._named: deque[int] = deque(maxlen=_NAMED_FRAMES)
        self._count = 0
        self._shown_s: float | None = None
        self._health = LiveHealth("STALE", "nothing came yet")
        self._told_s: float | None = None
        try:
            self._server = ThreadingHTTPServer((LOOPBACK, port), _handler_of(self))
        except OSError as error:
            raise InputError(f"port {port} cannot be served: {error.strerror}; choose another with --port") from error
        self._server.daemon_threads = True
        self.url = f"http://{LOOPBACK}:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, name="live_page", daemon=True)
        self._thread.start()

    def __enter__(self) -> LivePage:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def show(self, frame: LiveFrame) -> None:
        """The next frame."""
        with self._lock:
            self._count += 1
            self._frames[self._count] = frame
            self._shown_s = time.monotonic()
            for number in [each for each in self._frames if each != self._count and each not in self._named]:
                del self._frames[number]

    def tell(self, health: LiveHealth) -> None:
        """The state of the stream."""
        with self._lock:
            self._health, self._told_s = health, time.monotonic()

    def status(self) -> dict[str, Any]:
        """What ``/status.json`` holds."""
        now_s = time.monotonic()
        with self._lock:
            frame = self._frames.get(self._count)
            if self._count not in self._named:
                self._named.append(self._count)
            health, told_s, shown_s, count = self._health, self._told_s, self._shown_s, self._count
        drops = {key[len(_DROPPED) :]: int(value) for key, value in health.values.items() if key.startswith(_DROPPED)}
        return {
            "title": self._title,
            "frame": count,
            "frame_age_s": None if shown_s is None else round(now_s - shown_s, 1),
            "size": None if frame is None else f"{frame.bgr.shape[1]}×{frame.bgr.shape[0]}",
            "confidence": None if frame is None or frame.confidence is None else round(frame.confidence, 3),
            "classes": [] if frame is None else [{"name": row.name, "rgb": row.rgb} for row in frame.classes],
            "level": health.level,
            "summary": health.summary,
            "told_age_s": None if told_s is None else round(now_s - told_s, 1),
            "drops": {reason: count for reason, count in drops.items() if count},
            "values": {key: value for key, value in health.values.items() if not key.startswith(_DROPPED)},
        }

    def picture(self, name: str, number: int) -> tuple[str, bytes] | None:
        """Media type and content of one of a frame's pictures; None where it is no longer, or never was, there."""
        with self._lock:
            frame = self._frames.get(number)
        if frame is None:
            return None
        if name == "camera":
            return "image/jpeg", _jpeg(frame.bgr)
        if name == "overlay":
            return "image/jpeg", _jpeg(draw_overlay(frame.bgr, frame.class_map, frame.classes))
        return "image/png", cv2.imencode(".png", color_class_map(frame.class_map, frame.classes))[1].tobytes()


def _jpeg(bgr: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def _handler_of(page: LivePage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # one connection for all that a page asks

        def do_GET(self) -> None:
            # a name that an attacker points at this machine would make his page one of ours
            if self.headers.get("Host", "").partition(":")[0] not in (LOOPBACK, "localhost"):
                self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"use the address that darkseg view printed")
                return
            address = urlsplit(self.path)
            if address.path == "/":
                template = files("darkseg_ros.pictures") / "templates" / "live.html"
                self._answer(HTTPStatus.OK, "text/html; charset=utf-8", template.read_bytes())
            elif address.path == "/status.json":
                self._answer(HTTPStatus.OK, "application/json", json.dumps(page.status()).encode())
            else:
                self._answer_picture(address.path, parse_qs(address.query).get("frame", [""])[0])

        def _answer_picture(self, path: str, number: str) -> None:
            known = path in ("/camera", "/mask", "/overlay") and number.isdecimal() and len(number) < 20
            picture = page.picture(path[1:], int(number)) if known else None
            if picture is None:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"no such page or frame")
            else:
                self._answer(HTTPStatus.OK, *picture)

        def _answer(self, status: HTTPStatus, media_type: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            try:
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the browser left

        def log_message(self, *_: Any) -> None:
            """Say nothing: the page asks several times a second."""

    return Handler
