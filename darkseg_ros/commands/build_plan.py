"""`ros2 run darkseg_ros build_plan`: build a bundle's TensorRT plan before the node needs it.

Of the plans for its bundle and its GPU the node runs the one that this command named last, so precision and batch are
chosen here. With ``--for`` no GPU is needed: copy the folder that the command names to the vehicle.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from darkseg_ros.errors import BundleError, DarksegError, EngineError, one_line
from darkseg_ros.installed_files import bundle_folder
from darkseg_ros.model.backends.open import check_golden
from darkseg_ros.model.backends.tensorrt.engine import Gpu, open_plan, plan_key, stored_plan
from darkseg_ros.model.backends.tensorrt.library import check_supported, import_library, installed_library
from darkseg_ros.model.backends.tensorrt.plan_cache import PRECISIONS, PlanCache, PlanKey
from darkseg_ros.model.bundle import ModelBundle, load_bundle

_BATCH_MAX = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 for what cannot be built, 2 for a bad command line, 130."""
    parser = argparse.ArgumentParser(prog="build_plan", description="Build a bundle's TensorRT plan and test it.")
    parser.add_argument("--bundle", type=Path, help="the model's folder (default: the shipped one)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp16", help="(default: fp16)")
    parser.add_argument("--batch", type=_batch, default=1, metavar="N", help="frames at once, at most (default: 1)")
    parser.add_argument(
        "--for",
        dest="capabilities",
        type=_capabilities,
        metavar="SM86,SM89",
        help="compute capabilities of the GPUs to build for, with TensorRT for RTX (default: the GPU of this machine)",
    )
    arguments = parser.parse_args(argv)
    try:
        _build(
            load_bundle(bundle_folder(arguments.bundle)),
            precision=arguments.precision,
            batch=arguments.batch,
            capabilities=arguments.capabilities,
        )
    except (DarksegError, OSError) as error:
        print(f"build_plan: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _build(bundle: ModelBundle, *, precision: str, batch: int, capabilities: tuple[str, ...] | None) -> None:
    started_s = time.monotonic()

    def progress(line: str) -> None:
        print(f"[{time.monotonic() - started_s:6.1f} s] {line}", flush=True)

    gpu, key = _target(bundle, precision=precision, batch=batch, capabilities=capabilities)
    cache = PlanCache()
    gpu_name = key.gpu or ", ".join(key.capabilities)
    progress(f"{bundle.name} for {gpu_name}: {key.library} {key.library_version}, {precision}, batch 1…{batch}")
    if precision == "int8" and key.library == "tensorrt_rtx":
        progress("TensorRT for RTX moves more bytes in int8 than in fp16 (1.7: 145 MB against 85): prefer fp16")
    plan = stored_plan(bundle, key, cache, progress=progress)
    progress(f"{'built' if plan.built_now else 'already built:'} {cache.plan_path(key)}, {len(plan.content)} bytes")
    if gpu is None:
        progress("not tested: that takes such a GPU; the node tests the plan before its first frame")
    else:
        engine = open_plan(bundle, plan, gpu, cache, progress=progress)
        try:
            found = check_golden(engine, bundle, engine.golden_match)
        except BundleError:
            with suppress(EngineError):  # a cache that cannot be written must not hide what is wrong
                cache.discard(key)
            raise
        finally:
            engine.close()
        progress(f"tested: agrees with the golden answer on {found.agreement:.2%} of the pixels")
    cache.prefer(key)


def _target(
    bundle: ModelBundle, *, precision: str, batch: int, capabilities: tuple[str, ...] | None
) -> tuple[Gpu | None, PlanKey]:
    if capabilities is None:
        try:
            gpu = Gpu.find()
        except EngineError as error:
            raise EngineError(
                f"{error}; for the GPU of another machine build with --for, such as --for SM86"
            ) from error
        key = plan_key(
            bundle,
            gpu.library,
            gpu=gpu.device.name,
            capabilities=(gpu.device.capability,),
            precision=precision,
            batch=batch,
        )
        return gpu, key
    name = installed_library(for_other_gpus=True)
    library = import_library(name)
    for capability in capabilities:
        check_supported(name, library, capability)
    return None, plan_key(bundle, library, gpu="", capabilities=capabilities, precision=precision, batch=batch)


def _batch(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _BATCH_MAX:
        raise argparse.ArgumentTypeError(f"expected 1…{_BATCH_MAX}, got {text!r}")
    return int(text)


def _capabilities(text: str) -> tuple[str, ...]:
    names = text.upper().split(",")
    for name in names:
        if not re.fullmatch(r"SM\d{2,3}", name):
            raise argparse.ArgumentTypeError(f"expected names such as SM86,SM89, got {text!r}")
    return tuple(sorted(set(names)))


if __name__ == "__main__":
    sys.exit(main())
