"""What made a folder of translations, written beside them, so that others are not mixed in."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from darkseg_ros.errors import InputError
from darkseg_ros.whole_files import sha256_of
from training.runs.results import write_result
from training.translation.tiles import TranslationSettings


def record_translation(
    out: Path, checkpoint: Path, source: str, settings: TranslationSettings, reference: str | None
) -> None:
    """Write what makes the images of `out`, or refuse to mix them with others.

    Raises:
        InputError: if `out` was made with another checkpoint, source or settings, or cannot be written.
    """
    asked = {"checkpoint_sha256": sha256_of(checkpoint), "source": source, **asdict(settings)}
    asked["reference"] = reference
    record = out / "translation.json"
    try:
        if record.is_file():
            saved = json.loads(record.read_text(encoding="utf-8"))
            saved.setdefault("enhance", "none")  # written before 2026-11-28
            changed = sorted(key for key in asked if saved.get(key) != asked[key])
            if changed:
                raise InputError(
                    f"{out} was translated with another {', '.join(changed)}; choose another --out or remove it"
                )
            return
        if (out / "image").is_dir() and any((out / "image").iterdir()):
            raise InputError(f"{out} holds images but no translation.json; choose another --out or remove it")
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{record} cannot be read ({error}); check permissions or remove {out}") from error
    write_result(record, json.dumps(asked, indent=2) + "\n")
