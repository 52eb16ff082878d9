"""Bags of ROS 2 (mcap and sqlite3) and of ROS 1, read without ROS; those of ROS 2 also written."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path, PurePath
from types import SimpleNamespace, TracebackType
from typing import Any

import numpy as np
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore
from ruamel.yaml import YAML
from tqdm import tqdm

from darkseg_ros.errors import BagError, InputError, one_line
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.messages import fill_compressed_image, fill_image
from darkseg_ros.frames.stamps import STAMP_END_NS
from darkseg_ros.frames.storage.channel import DEFAULT_QOS, MAX_BLOCK_BYTES, Channel, Storage
from darkseg_ros.frames.storage.compression import ZSTD_MAGIC, decompress_block
from darkseg_ros.frames.storage.open import holds_messages, open_storage
from darkseg_ros.frames.videos import frame_time_ns, open_video

IMAGE_TOPIC = "/camera/image_raw"
COMPRESSED_TOPIC = "/camera/image_raw/compressed"
LABEL_TOPIC = "/camera/label_map"
FRAME_ID = "camera"

IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"

_VIDEO_DEFINITIONS = {
    "foxglove_msgs/msg/CompressedVideo": (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format"
    ),
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": (
        "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n"
        "bool is_bigendian\nuint8[] data"
    ),
}
"""Video of cameras: the two message types that are none of ROS 2's own and read all the same."""

_LABEL_DEFINITIONS = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name",
    "vision_msgs/msg/LabelInfo": "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold",
}
"""What the values of class maps mean; the package of these types is often not installed."""

CAMERA_TYPES = (IMAGE_TYPE, COMPRESSED_IMAGE_TYPE, *_VIDEO_DEFINITIONS)

START_STAMP_NS = 1_700_000_000_000_000_000
"""Stamp of the first frame of a bag made from a video: fixed, so that the same video gives the same bag."""

_PICTURE_NAMES = ("class_map", "confidence", "overlay")
"""Last parts of topics on which the package's nodes publish images that no camera took."""

_STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}

_METADATA = "metadata.yaml"
_ROSBAG2_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
_METADATA_MAX_BYTES = 2**21
"""A thousand topics and ten thousand files of a split bag take less."""


@dataclass(frozen=True)
class BagTopic:
    """What a bag holds under one name.

    Attributes:
        name: its name.
        message_type: as in ``sensor_msgs/msg/Image``.
        count: messages.
        qos: what its publishers offered; empty where it was not recorded.
    """

    name: str
    message_type: str
    count: int
    qos: tuple[Qos, ...] = ()


@dataclass(frozen=True)
class BagMessage:
    """One recorded message, not yet deserialised.

    Attributes:
        topic: name of its topic.
        message_type: as in ``sensor_msgs/msg/Image``.
        log_stamp_ns: when it was recorded, in nanoseconds since 1970.
        data: the message in CDR, as a publisher of raw messages takes it.
    """

    topic: str
    message_type: str
    log_stamp_ns: int
    data: bytes


class _MetadataError(BagError):
    """What metadata.yaml says cannot be followed."""


class BagReader:
    """Context manager over a rosbag2 folder, one file of it, or a ROS 1 bag.

    What a file is says its content. What topics there are say the files themselves: metadata.yaml is often edited by
    hand, as rosbag2's own workarounds tell users to.

    Attributes:
        path: what was opened.
        topics: every topic of the bag by its name, but those that no ROS 2 node published.
        duration_ns: time from the first message to the last one.

    Raises:
        BagError: if it is missing, not a bag, cut off or damaged; by `messages` where only reading shows it.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.topics: dict[str, BagTopic] = {}
        self.duration_ns = 0
        self._storages: list[Storage] | None = None
        self._foreign: dict[str, str] = {}
        self._stack = ExitStack()
        self._typestore = _image_types()

    def __enter__(self) -> BagReader:
        try:
            self._check_path()
        except OSError as error:
            raise BagError(f"{self.path} cannot be read: {error.strerror}; expected a bag") from error
        with ExitStack() as stack:
            try:
                promised: Counter[str] = Counter()
                files = [self.path]
                if self.path.is_dir():
                    files, promised = self._read_metadata()
                storages = [open_storage(file, stack) for file in files]
                spans = [span for storage in storages if (span := storage.span_ns())]
            except _MetadataError as error:
                raise BagError(str(error)) from error
            except Exception as error:  # whatever a damaged file provokes
                raise self._damaged(error) from error
            self._stack = stack.pop_all()
        # split bags are read file by file: in the order of their recording, whatever the order of their names
        self._storages = sorted(storages, key=lambda storage: storage.span_ns() or (0, 0))
        self.duration_ns = max(end for _, end in spans) - min(start for start, _ in spans) if spans else 0
        self._foreign = {name: encoding for storage in storages for name, encoding in storage.foreign.items()}
        self.topics = _merged_topics(storages, promised)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._storages = None
        self._stack.close()

    def image_topic(self, name: str | None = None) -> BagTopic:
        """The topic to take camera images from.

        Args:
            name: its name; None takes the only one of `camera_topics`.

        Returns:
            A topic of one of CAMERA_TYPES that holds messages.

        Raises:
            BagError: if the bag has no such topic, it holds no images, or several could be meant.
        """
        if name is not None:
            topic = self.topics.get(name)
            if topic is None:
                raise BagError(f"{self.path} has no topic {name}; {self.contents()}")
            if topic.message_type not in CAMERA_TYPES or topic.count == 0:
                raise BagError(f"topic {name} of {self.path} holds no images; {self.contents()}")
            return topic
        candidates = self.camera_topics()
        if not candidates:
            raise BagError(f"{self.path} has no topic with camera images; {self.contents()}")
        if len(candidates) > 1:
            raise BagError(
                f"{self.path} has several topics with images, name the one to take: "
                f"{', '.join(topic.name for topic in candidates)}"
            )
        return candidates[0]

    def camera_topics(self) -> list[BagTopic]:
        """Topics with images, but for LABEL_TOPIC and what the package's nodes publish for each image."""
        return [
            topic
            for topic in self.topics.values()
            if topic.message_type in CAMERA_TYPES
            and topic.count
            and topic.name != LABEL_TOPIC
            and topic.name.rpartition("/")[2] not in _PICTURE_NAMES
        ]

    def messages(self, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
        """Read messages in the order of their recording.

        Args:
            topics: names of the topics to read, None for all.

        Yields:
            One message after the other.

        Raises:
            BagError: if a topic does not exist, a part cannot be read, or recorded messages are missing.
        """
        if self._storages is None:
            raise BagError(f"{self.path} is not open; use `with BagReader(path) as reader:`")
        wanted = set(self.topics if topics is None else topics)
        if unknown := wanted - set(self.topics):
            raise BagError(f"{self.path} has no topic {', '.join(sorted(unknown))}; {self.contents()}")
        missing = sum(self.topics[name].count for name in wanted)
        for storage in self._storages:
            channel_of_key = {channel.key: channel for channel in storage.channels if channel.topic in wanted}
            if not channel_of_key:
                continue
            stored = storage.messages(channel_of_key)
            while True:
                try:
                    message = next(stored, None)
                    if message is None:
                        break
                    data = message.data
                    if data.startswith(ZSTD_MAGIC):  # compressed one by one; CDR begins with a zero
                        data = decompress_block(data, "zstd", limit=MAX_BLOCK_BYTES)
                except Exception as error:  # as in __enter__
                    raise self._damaged(error) from error
                channel = channel_of_key[message.channel]
                missing -= 1
                yield BagMessage(channel.topic, channel.message_type, message.log_stamp_ns, data)
        if missing > 0:
            raise self._damaged(f"{missing} recorded messages are missing")

    def knows(self, message_type: str) -> bool:
        """Whether messages of this type can be read and copied here: ROS 2's own, and video of cameras."""
        return message_type in self._typestore.fielddefs

    def deserialize(self, message: BagMessage) -> Any:
        """Turn a message into an object with the fields of its type; `data` fields are uint8 arrays.

        Raises:
            BagError: if the type is not one of ROS 2's own or the bytes do not make such a message.
        """
        if not self.knows(message.message_type):
            raise BagError(f"topic {message.topic} of {self.path} has type {message.message_type}, unknown here")
        try:
            return self._typestore.deserialize_cdr(message.data, message.message_type)
        except Exception as error:  # as in __enter__
            raise self._damaged(f"a message of topic {message.topic} is none ({error})") from error

    def _check_path(self) -> None:
        kinds = "a rosbag2 folder, one of its .mcap or .db3 files, or a ROS 1 .bag"
        if not self.path.exists():
            raise BagError(f"{self.path} does not exist; expected {kinds}")
        if not self.path.is_dir():
            if not holds_messages(self.path):
                raise BagError(f"{self.path} is not a bag; expected {kinds}")
        elif not (self.path / _METADATA).is_file():
            if is_bag(self.path):
                files = sorted(entry.name for entry in self.path.iterdir() if entry.name.endswith(_ROSBAG2_SUFFIXES))
                raise BagError(
                    f"{self.path} has no metadata.yaml: its recording was not finished; run `ros2 bag reindex "
                    f"{self.path}`, or name the storage file itself: {self.path / files[0]}"
                )
            raise BagError(f"{self.path} is not a bag: it has no metadata.yaml; expected a rosbag2 folder")

    def _read_metadata(self) -> tuple[list[Path], Counter[str]]:
        """The files of a bag, and the messages that each topic should have in them."""
        try:
            files, promised = _read_metadata(self.path)
        except Exception as error:  # whatever a file that was edited by hand provokes
            raise _MetadataError(
                f"{self.path / _METADATA} is damaged ({one_line(error)}); run `ros2 bag reindex {self.path}`, or name "
                "the storage file itself"
            ) from error
        if missing := [file.name for file in files if not file.is_file()]:
            raise _MetadataError(
                f"{missing[0]}, which {self.path / _METADATA} names, is missing, or no regular file; copy it again; "
                f"if it was renamed, run `ros2 bag reindex {self.path}`"
            )
        return files, promised

    def contents(self) -> str:
        """Its topics with types and counts, as the end of a sentence."""
        rows = [f"{topic.name} ({topic.message_type}, {topic.count})" for topic in self.topics.values()]
        rows += [f"{name} ({encoding}, not read here)" for name, encoding in self._foreign.items()]
        return f"it has {', '.join(rows)}" if rows else "it is empty"

    def _damaged(self, cause: object) -> BagError:
        cause_text = str(cause) or type(cause).__name__
        return BagError(
            f"{self.path} is cut off or damaged: {cause_text}; copy it again, "
            "or save what is left with `mcap recover` (.mcap), sqlite3's `.recover` (.db3) or `rosbag reindex` (.bag)"
        )


class BagWriter:
    """Context manager that writes a new bag.

    The bag is written beside its place in a hidden folder and moved there when all is done. After an
    exception nothing remains, so what stands at `path` is always whole.

    Args:
        path: folder to be made.
        storage: ``mcap`` or ``sqlite3``.
        compressed: write mcap's chunks in zstd, which every reader of mcap knows.

    Raises:
        BagError: if the path exists, the storage is unknown, a topic gets two types, or a stamp does not fit.
    """

    def __init__(self, path: Path | str, storage: str = "mcap", *, compressed: bool = False) -> None:
        if storage not in _STORAGES:
            raise BagError(f"storage must be one of {', '.join(_STORAGES)}, got {storage!r}")
        self._compressed = compressed
        self.path = Path(path)
        self._storage = _STORAGES[storage]
        self._typestore = _image_types()
        self._connections: dict[str, Connection] = {}
        self._work_directory: Path | None = None
        self._writer: Writer | None = None

    def __enter__(self) -> BagWriter:
        if self.path.exists():
            raise BagError(f"{self.path} exists already; remove it or choose another name")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._work_directory = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        except OSError as error:
            raise self._not_written(error) from error
        # rosbags names the storage file after its folder, so the folder has its final name from the start
        self._writer = Writer(
            self._work_directory / self.path.name, version=Writer.VERSION_LATEST, storage_plugin=self._storage
        )
        if self._compressed:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is None or self._work_directory is None:
            return
        try:
            if exc_type is None:
                self._writer.close()
                self._writer.path.rename(self.path)
        except (OSError, sqlite3.Error) as error:
            raise self._not_written(error) from error
        finally:
            self._writer.abort()  # does nothing after a successful close
            self._writer = None
            shutil.rmtree(self._work_directory, ignore_errors=True)

    def copy(self, message: BagMessage, *, qos: tuple[Qos, ...] = ()) -> None:
        """Write a message of another bag as it is, recorded when it was recorded there.

        Args:
            message: as `BagReader.messages` gives it.
            qos: what the topic offered there and offers here; DEFAULT_QOS where nothing was recorded.
        """
        self._write_serialized(
            message.topic, message.message_type, message.data, log_stamp_ns=message.log_stamp_ns, qos=qos
        )

    def write_image(
        self,
        topic: str,
        pixels: np.ndarray,
        *,
        stamp_ns: int,
        frame_id: str,
        encoding: str = "bgr8",
        log_stamp_ns: int | None = None,
    ) -> None:
        """Write a sensor_msgs/Image.

        Args:
            topic: its topic.
            pixels: (H, W) uint8 for mono8, (H, W, 3) uint8 for bgr8 and rgb8.
            stamp_ns: stamp in nanoseconds since 1970.
            frame_id: the camera's frame.
            encoding: mono8, bgr8 or rgb8.
            log_stamp_ns: when it is said to be recorded; at its own stamp unless given.
        """
        header = _header(stamp_ns, frame_id)
        message = fill_image(SimpleNamespace(), pixels, encoding=encoding, header=header)
        self._write(topic, IMAGE_TYPE, message, log_stamp_ns=stamp_ns if log_stamp_ns is None else log_stamp_ns)

    def write_compressed_image(
        self, topic: str, bgr: np.ndarray, *, stamp_ns: int, frame_id: str, quality: int = 90
    ) -> None:
        """Write a sensor_msgs/CompressedImage holding a JPEG, recorded at its own stamp.

        Args:
            topic: its topic.
            bgr: (H, W, 3) uint8.
            stamp_ns: stamp in nanoseconds since 1970.
            frame_id: the camera's frame.
            quality: JPEG quality, 0…100.
        """
        header = _header(stamp_ns, frame_id)
        message = fill_compressed_image(SimpleNamespace(), bgr, header=header, quality=quality)
        self._write(topic, COMPRESSED_IMAGE_TYPE, message, log_stamp_ns=stamp_ns)

    def write_message(
        self,
        topic: str,
        message_type: str,
        message: SimpleNamespace,
        *,
        log_stamp_ns: int,
        qos: tuple[Qos, ...] = (),
    ) -> None:
        """Write any message of a known type.

        Args:
            topic: its topic.
            message_type: as in ``diagnostic_msgs/msg/DiagnosticArray``, see `BagReader.knows`.
            message: has the type's fields; arrays of numbers are NumPy's.
            log_stamp_ns: when it is said to be recorded.
            qos: what the topic offers; DEFAULT_QOS unless given with its first message.
        """
        data = self._typestore.serialize_cdr(message, message_type)
        self._write_serialized(topic, message_type, data, log_stamp_ns=log_stamp_ns, qos=qos)

    def _write(self, topic: str, message_type: str, message: SimpleNamespace, *, log_stamp_ns: int) -> None:
        message.data = np.frombuffer(message.data, np.uint8)  # rosbags serialises no other kind of array
        self.write_message(topic, message_type, message, log_stamp_ns=log_stamp_ns)

    def _write_serialized(
        self,
        topic: str,
        message_type: str,
        data: bytes | memoryview,
        *,
        log_stamp_ns: int,
        qos: tuple[Qos, ...] = (),
    ) -> None:
        if self._writer is None:
            raise BagError(f"{self.path} is not open; use `with BagWriter(path) as writer:`")
        connection = self._connections.get(topic)
        if connection is None:
            connection = self._connections[topic] = self._writer.add_connection(
                topic, message_type, typestore=self._typestore, offered_qos_profiles=qos or (DEFAULT_QOS,)
            )
        if connection.msgtype != message_type:
            raise BagError(f"topic {topic} of {self.path} has type {connection.msgtype}, got {message_type}")
        try:
            self._writer.write(connection, log_stamp_ns, data)
        except (OSError, sqlite3.Error) as error:
            raise self._not_written(error) from error

    def _not_written(self, error: Exception) -> BagError:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        return BagError(f"{self.path} cannot be written: {reason}; choose a folder with room and permission")


def is_bag(path: Path) -> bool:
    """Whether a path is a file of recorded messages, or a folder with metadata.yaml or such a file in it."""
    if path.is_dir():
        return any(entry.name == _METADATA or entry.name.endswith(_ROSBAG2_SUFFIXES) for entry in path.iterdir())
    return holds_messages(path)


@cache
def _image_types() -> Typestore:
    """The image types are the same in every ROS 2, so one table reads the pictures of every bag."""
    typestore = get_typestore(Stores.ROS2_JAZZY)
    for name, definition in {**_VIDEO_DEFINITIONS, **_LABEL_DEFINITIONS}.items():
        typestore.register(get_types_from_msg(definition, name))
    return typestore


def _read_metadata(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The files of a bag, and the messages that each topic should have in them."""
    metadata = folder / _METADATA
    size = metadata.stat().st_size
    if size > _METADATA_MAX_BYTES:
        raise BagError(f"{_METADATA} has {size} bytes, expected at most {_METADATA_MAX_BYTES}")
    content = _parsed(metadata.read_text("utf-8"))
    if not isinstance(content, dict) or "rosbag2_bagfile_information" not in content:
        raise BagError("it says nothing of a bag")
    information = content["rosbag2_bagfile_information"]
    if information["version"] > Writer.VERSION_LATEST:
        raise BagError(f"{_METADATA} is of version {information['version']}, expected at most {Writer.VERSION_LATEST}")
    # old recorders wrote the bag's folder in front; no path leads out of it
    files = [folder / PurePath(name).name for name in information["relative_file_paths"]]
    promised: Counter[str] = Counter()
    for topic in information["topics_with_message_count"]:
        promised[topic["topic_metadata"]["name"]] += int(topic["message_count"])
    return files, promised


@lru_cache(maxsize=8)
def _parsed(metadata: str) -> Any:
    """Kept, since a bag is opened for its topics, its stamps and its messages, and parsing YAML takes longest."""
    return YAML(typ="safe").load(metadata)


def _merged_topics(storages: Sequence[Storage], promised: Counter[str]) -> dict[str, BagTopic]:
    channels: dict[str, list[Channel]] = {}
    for storage in storages:
        for channel in storage.channels:
            channels.setdefault(channel.topic, []).append(channel)
    return {
        name: BagTopic(
            name,
            " or ".join(sorted({channel.message_type for channel in found})),
            max(promised[name], sum(channel.count for channel in found)),
            tuple(dict.fromkeys(qos for channel in found for qos in channel.qos)),
        )
        for name, found in sorted(channels.items())
    }


def write_bag_from_video(
    video: Path | str,
    bag: Path | str,
    *,
    storage: str = "mcap",
    compressed: bool = False,
    topic: str | None = None,
    frame_id: str = FRAME_ID,
    start_stamp_ns: int = START_STAMP_NS,
    rate_hz: float | None = None,
    bad_frames: BadFrames | None = None,
) -> int:
    """Turn a video file into a bag of one image topic. The same video gives the same messages.

    Args:
        video: a file that this machine's FFmpeg can decode.
        bag: folder to be made.
        storage: ``mcap`` or ``sqlite3``.
        compressed: write JPEGs (CompressedImage) instead of raw bgr8 (Image).
        topic: IMAGE_TOPIC or COMPRESSED_TOPIC unless given.
        frame_id: of every message.
        start_stamp_ns: stamp of the first frame.
        rate_hz: a constant rate in the place of the frames' own times.
        bad_frames: as for `Video.read_frames`.

    Returns:
        Number of frames written.

    Raises:
        InputError: as `Video.read_frames`, or if the rate is not a positive number; no bag is left behind.
        BagError: if the bag exists already.
    """
    source = open_video(Path(video))
    if rate_hz is not None and not 0 < rate_hz < float("inf"):
        raise InputError(f"the rate must be a positive number of frames per second, got {rate_hz}")
    if topic is None:
        topic = COMPRESSED_TOPIC if compressed else IMAGE_TOPIC
    frames = 0
    with BagWriter(bag, storage) as writer:
        # disable=None shows the bar on a terminal only
        for frame in tqdm(source.read_frames(bad_frames), total=source.frame_count, desc="frames", disable=None):
            time_ns = frame.time_ns if rate_hz is None else frame_time_ns(frame.index, rate_hz=rate_hz)
            stamp_ns = start_stamp_ns + time_ns
            if compressed:
                writer.write_compressed_image(topic, frame.bgr, stamp_ns=stamp_ns, frame_id=frame_id)
            else:
                writer.write_image(topic, frame.bgr, stamp_ns=stamp_ns, frame_id=frame_id)
            frames += 1
    return frames


def _header(stamp_ns: int, frame_id: str) -> SimpleNamespace:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    if not 0 <= stamp_ns < STAMP_END_NS:
        raise BagError(f"a stamp must be within 0…2³¹ s, got {stamp_ns} ns; stamps count nanoseconds since 1970")
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)
