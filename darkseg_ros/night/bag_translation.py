"""A recorded day drive turned into a night drive: every frame of a bag, at any speed of the machine, without ROS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from darkseg_ros.errors import BagError, ImageMessageError
from darkseg_ros.frames.bad_frames import BadFrames
from darkseg_ros.frames.bags import BagReader, BagTopic, BagWriter
from darkseg_ros.frames.image_stream import ImageStream
from darkseg_ros.frames.stamps import header_of, stamp_ns_to_write
from darkseg_ros.night.day_to_night import NIGHT_TOPIC, DayToNight


@dataclass(frozen=True)
class TranslatedBag:
    """What was written.

    Attributes:
        frames: night frames.
        skipped_topics: topics of types that are none of ROS 2's own; they are not in the new bag.
    """

    frames: int
    skipped_topics: tuple[str, ...]


def check_bags(bag: Path, out: Path, *, topic: str | None = None) -> None:
    """Find out, before a model is opened, whether `translate_bag` has a bag to read and a place to write to.

    Raises:
        BagError: if the bag cannot be read, has no such image topic, or holds NIGHT_TOPIC already, and if `out` exists.
    """
    if out.exists():
        raise BagError(f"{out} exists already; remove it or choose another name")
    with BagReader(bag) as reader:
        _find_day_topic(reader, topic)


def translate_bag(
    bag: Path,
    out: Path,
    *,
    day_to_night: DayToNight,
    topic: str | None = None,
    bad_frames: BadFrames | None = None,
) -> TranslatedBag:
    """Write a bag with all that a day bag holds and a night frame for each day frame.

    The night frames have the topic NIGHT_TOPIC and the headers of their day frames, so that labels of the day are
    found for the night by their stamps. The same bag and settings give the same messages.

    Args:
        bag: with camera images.
        out: folder to be made.
        day_to_night: makes the night frames.
        topic: of the day frames; needed only where the bag has several image topics.
        bad_frames: gets day frames that cannot be decoded, which are copied and get no night frame; None raises at the
            first.

    Raises:
        BagError: if the bag cannot be read, holds NIGHT_TOPIC already, or no frame can be decoded, and if `out` exists
            or cannot be written; no bag is left behind.
    """
    bad_frames = bad_frames or BadFrames(strict=True)
    with BagReader(bag) as reader:
        day_topic = _find_day_topic(reader, topic)
        known = [name for name, found in reader.topics.items() if reader.knows(found.message_type)]
        skipped = tuple(sorted(set(reader.topics) - set(known)))
        frames = days = 0
        stream = ImageStream()
        # disable=None shows the bar on a terminal only
        with BagWriter(out) as writer, tqdm(total=day_topic.count, desc="frames", disable=None) as bar:
            for message in reader.messages(known):
                writer.copy(message, qos=reader.topics[message.topic].qos)
                if message.topic != day_topic.name:
                    continue
                days += 1
                bar.update()
                try:
                    day = reader.deserialize(message)
                    day_bgr = stream.bgr(day)
                    header = header_of(day)
                    stamp_ns = stamp_ns_to_write(header)
                except (BagError, ImageMessageError) as error:
                    bad_frames.skip(f"frame {days - 1} of {day_topic.name} in {bag} cannot be decoded: {error}")
                    continue
                writer.write_image(
                    NIGHT_TOPIC,
                    day_to_night(day_bgr, stamp_ns=stamp_ns),
                    stamp_ns=stamp_ns,
                    frame_id=header.frame_id,
                    log_stamp_ns=message.log_stamp_ns,
                )
                frames += 1
            bad_frames.lose(stream.lost_packets, of=f"topic {day_topic.name} in {bag}")
            if not frames:
                raise BagError(f"none of the {days} frames of {day_topic.name} in {bag} can be decoded")
    return TranslatedBag(frames, skipped)


def _find_day_topic(reader: BagReader, topic: str | None) -> BagTopic:
    if NIGHT_TOPIC in reader.topics:
        raise BagError(f"{reader.path} holds {NIGHT_TOPIC} already; name the bag that it was made from")
    return reader.image_topic(topic)
