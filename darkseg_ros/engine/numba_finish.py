"""The Numba kernel behind `darkseg_ros.engine.logits_finish`: one thread, the vector instructions of its machine.

Every source row is gathered once, a run per class, from whatever memory order the logits have; then it is widened
once, its four horizontal phases as separate contiguous runs; an output row is then a blend of two such rows and a
running maximum over the classes. But for the gathering, inner loops run over contiguous memory only, which the compiler
turns into vector instructions. It may not fuse a product with a sum: the class map is numpy's, bit for bit.

Only the compiler's process imports this module, see `darkseg_ros.engine.finish_code`. The code must run in a process
that knows neither Numba nor its runtime, so the kernel gets all memory by address: nothing in it allocates or raises.
"""

from __future__ import annotations

import struct
import sys
from typing import Any

import numba
import numpy as np
from llvmlite import binding
from numba import carray, types

from darkseg_ros.bundle import LOGITS_STRIDE
from darkseg_ros.engine.compiled_finish import CompiledFinish
from darkseg_ros.engine.finish_code import SYMBOL, LoadedCode, host_features, sealed
from darkseg_ros.engine.logits_finish import finish_logits_numpy
from darkseg_ros.errors import EngineError

_FLOATS, _BYTES, _INTEGERS = (types.CPointer(each) for each in (types.float32, types.uint8, types.int64))

# Of the C library, which every process has: the compiler puts them in place of loops.
_C_FUNCTIONS = {b"memset", b"memcpy", b"memmove", b"rintf"}


def main(digest: str) -> None:
    """The compiler's process: writes the code to stdout, sealed for the key of this digest.

    Raises:
        EngineError: if the code needs more than a process without Numba has, or its answers are not numpy's.
    """
    code = object_code()
    strangers = undefined_symbols(code) - _C_FUNCTIONS
    if strangers:  # LLVM would end the process that loads it
        raise EngineError(f"Numba {numba.__version__} made code that needs {sorted(strangers)}")
    finish = CompiledFinish(LoadedCode(code))
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 1), (19, 5, 67), (3, 4, 16)):
        logits = rng.integers(-9, 9, shape).astype(np.float32)  # integers: many ties
        class_map, confidence = finish(logits, temperature=1.3, align_corners=False)
        expected, expected_confidence = finish_logits_numpy(logits, temperature=1.3, align_corners=False)
        differs = np.abs(confidence.astype(int) - expected_confidence).max() > 1
        if differs or not np.array_equal(class_map, expected):
            raise EngineError(f"Numba {numba.__version__} made code whose answer to logits of {shape} is not numpy's")
    sys.stdout.buffer.write(sealed(code, digest))


def object_code() -> bytes:
    """The kernel as an ELF object file for this machine, its function under the name `SYMBOL`."""
    # numpy's errors: a division by 0 raises nothing
    kernel = numba.cfunc(_SIGNATURE, error_model="numpy")(finish)
    module = binding.parse_assembly(kernel.inspect_llvm())
    inner = module.get_function(kernel.native_name.removeprefix("cfunc."))
    for function in module.functions:
        if not function.is_declaration:
            # seen and not emitted: what Numba wraps around the kernel reports errors through Numba's runtime
            function.linkage = "external" if function.name == inner.name else "available_externally"
    inner.name = SYMBOL
    return _target_machine().emit_object(module)


def undefined_symbols(code: bytes) -> set[bytes]:
    """Names that an ELF object file needs from elsewhere.

    Source: System V ABI, "Symbol Table" (ELF-64: Elf64_Sym).
    """
    sections = {section.name(): section.data() for section in binding.ObjectFileRef.from_data(code).sections()}
    names = sections[b".strtab"]
    undefined = set()
    for name, _info, _other, section, _value, _size in struct.iter_unpack("=IBBHQQ", sections[b".symtab"]):
        if name and section == 0:
            undefined.add(names[name : names.index(b"\0", name)])
    return undefined


def _target_machine() -> Any:
    """This machine, as Numba sees it. LLVM then fuses only what the code tells it to, which Numba never does."""
    target = binding.Target.from_triple(binding.get_process_triple())
    return target.create_target_machine(cpu=binding.get_host_cpu_name(), features=host_features(binding), opt=3)


@numba.njit(inline="always")
def _gather(
    logits: np.ndarray, class_stride: np.uint64, row_start: np.uint64, column_stride: np.uint64, padded: np.ndarray
) -> None:
    """padded[c] = source row of class c, its ends repeated.

    Unsigned strides count back by wrapping around; a negative index would count from the end in Numba.
    """
    classes, padded_width = padded.shape
    for c in range(classes):
        at = row_start + np.uint64(c) * class_stride
        for x in range(1, padded_width - 1):
            padded[c, x] = logits[at]
            at += column_stride
        _repeat_ends(padded[c])


@numba.njit(inline="always")
def _repeat_ends(padded: np.ndarray) -> None:
    padded[0], padded[-1] = padded[1], padded[-2]


@numba.njit(inline="always")
def _widen(padded: np.ndarray, taps: np.ndarray, wide: np.ndarray) -> None:
    """wide[p · w + i] = output pixel 4·i + p of one source row of w pixels, padded to w + 2."""
    width = padded.shape[0] - 2
    for phase in range(LOGITS_STRIDE):
        start = phase * width
        for i in range(width):
            wide[start + i] = (
                taps[phase, 0, i] * padded[i] + taps[phase, 1, i] * padded[i + 1] + taps[phase, 2, i] * padded[i + 2]
            )


@numba.njit(inline="always")
def _interleave(phases: np.ndarray, out: np.ndarray) -> None:
    """out[4·i + p] = phases[p · w + i]."""
    width = phases.shape[0] // LOGITS_STRIDE
    for i in range(width):
        out[4 * i] = phases[i]
        out[4 * i + 1] = phases[width + i]
        out[4 * i + 2] = phases[2 * width + i]
        out[4 * i + 3] = phases[3 * width + i]


@numba.njit(inline="always")
def _exp2(x: np.float32) -> np.float32:
    """2^x for x ≤ 0, 2^-126 below -126; relative error < 1e-6. A call of the C library's would not vectorise."""
    x = max(x, np.float32(-126))
    whole = np.rint(x)
    r = x - whole
    # Σ rⁿ (ln 2)ⁿ / n! for |r| ≤ 0.5
    fraction = np.float32(0.00015403530) * r + np.float32(0.0013333558)
    fraction = fraction * r + np.float32(0.0096181291)
    fraction = fraction * r + np.float32(0.055504109)
    fraction = fraction * r + np.float32(0.24022651)
    fraction = fraction * r + np.float32(0.69314718)
    fraction = fraction * r + np.float32(1)
    exponent = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
    return fraction * exponent.view(np.float32)


@numba.njit(inline="always")
def _max_probability(rows: np.ndarray, sharpness: np.float32, highest: np.ndarray, probability: np.ndarray) -> None:
    """probability[x] = max softmax of the classes' rows at x; `highest` is scratch of the same size."""
    classes, width = rows.shape
    for x in range(width):  # not highest[:] = …, which could raise
        highest[x] = rows[0, x]
    for c in range(1, classes):
        row = rows[c]
        for x in range(width):
            highest[x] = row[x] if row[x] > highest[x] else highest[x]
    for x in range(width):
        probability[x] = np.float32(0)
    for c in range(classes):
        row = rows[c]
        for x in range(width):
            probability[x] += _exp2((row[x] - highest[x]) * sharpness)
    for x in range(width):
        probability[x] = np.float32(1) / probability[x]


_SIGNATURE = types.void(
    _FLOATS,
    *[types.uint64] * 3,
    *[types.int64] * 3,
    types.float32,
    _FLOATS,
    _INTEGERS,
    *[_FLOATS] * 8,
    *[_BYTES] * 3,
)


def finish(
    logits_at: Any,
    class_stride: np.uint64,
    row_stride: np.uint64,
    column_stride: np.uint64,
    classes: int,
    height: int,
    width: int,
    sharpness: np.float32,
    taps_at: Any,
    row_first_at: Any,
    upper_weights_at: Any,
    lower_weights_at: Any,
    upper_at: Any,
    lower_at: Any,
    best_at: Any,
    padded_at: Any,
    highest_at: Any,
    probability_at: Any,
    index_at: Any,
    class_map_at: Any,
    confidence_at: Any,
) -> None:
    """The kernel; `darkseg_ros.engine.compiled_finish` calls it.

    Args:
        logits_at: float32, the first value; the strides count floats.
        class_stride: from a class to the next.
        row_stride: from a source row to the next.
        column_stride: from a source pixel to the next.
        classes: K.
        height: of the source.
        width: of the source.
        sharpness: log₂ e / temperature.
        taps_at: (LOGITS_STRIDE, 3, width) float32 weights of the columns.
        row_first_at: (LOGITS_STRIDE · height,) int64, upper source row of each output row.
        upper_weights_at: float32, its weight.
        lower_weights_at: float32, the next row's.
        upper_at: scratch, (K + 1, LOGITS_STRIDE · width) finite float32; a row per class, the probability's last.
        lower_at: scratch of the same shape.
        best_at: scratch, a float32 per output pixel of a row.
        padded_at: scratch, (K, width + 2) float32.
        highest_at: scratch, (width,) float32.
        probability_at: scratch, (width + 2,) float32.
        index_at: scratch, a uint8 per output pixel of a row.
        class_map_at: (LOGITS_STRIDE · height, LOGITS_STRIDE · width) uint8, written.
        confidence_at: the same.
    """
    wide_width, out_height = LOGITS_STRIDE * width, LOGITS_STRIDE * height
    logits = carray(logits_at, (1,))  # its length is never asked for
    taps = carray(taps_at, (LOGITS_STRIDE, 3, width))
    row_first = carray(row_first_at, (out_height,))
    upper_weights, lower_weights = carray(upper_weights_at, (out_height,)), carray(lower_weights_at, (out_height,))
    upper, lower = carray(upper_at, (classes + 1, wide_width)), carray(lower_at, (classes + 1, wide_width))
    best, index = carray(best_at, (wide_width,)), carray(index_at, (wide_width,))
    padded = carray(padded_at, (classes, width + 2))
    highest, probability = carray(highest_at, (width,)), carray(probability_at, (width + 2,))
    class_map = carray(class_map_at, (out_height, wide_width))
    confidence = carray(confidence_at, (out_height, wide_width))

    y = 0
    for source_y in range(-1, height):
        # `lower` becomes the row below; the last row has none, and whatever finite row stands there has weight 0
        if source_y + 1 < height:
            _gather(logits, class_stride, np.uint64(source_y + 1) * row_stride, column_stride, padded)
            for c in range(classes):
                _widen(padded[c], taps, lower[c])
            # without the ends: two pixels more than the vectors hold would cost as much as a vector each
            _max_probability(padded[:, 1:-1], sharpness, highest, probability[1:-1])
            _repeat_ends(probability)
            _widen(probability, taps, lower[classes])
        while source_y >= 0 and y < out_height and row_first[y] == source_y:
            upper_weight, lower_weight = upper_weights[y], lower_weights[y]
            above, below = upper[0], lower[0]
            for i in range(wide_width):
                best[i] = upper_weight * above[i] + lower_weight * below[i]
                index[i] = 0
            for c in range(1, classes):
                above, below = upper[c], lower[c]
                train_id = np.uint8(c)
                for i in range(wide_width):
                    value = upper_weight * above[i] + lower_weight * below[i]
                    higher = value > best[i]
                    best[i] = value if higher else best[i]
                    index[i] = train_id if higher else index[i]
            _interleave(index, class_map[y])

            above, below = upper[classes], lower[classes]
            for i in range(wide_width):
                value = upper_weight * above[i] + lower_weight * below[i]
                index[i] = np.uint8(np.rint(value * np.float32(255)))
            _interleave(index, confidence[y])
            y += 1
        upper, lower = lower, upper
