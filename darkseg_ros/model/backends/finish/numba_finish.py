"""The Numba kernel behind `logits_finish`: one thread, the vector instructions of its machine.

Every source row is gathered once, a run per class, from whatever memory order the logits have. Then the columns are
finished in blocks of one vector of source pixels, between one source row and the next: most classes lie too low in
both rows to be the best one of any output pixel between them, and only the others are widened, blended and compared.
Where one class is left, which is half of a real frame, the answer stands without any of this. The four horizontal
phases of a block are vectors of their own. No product is fused with a sum: the class map is numpy's, bit for bit.

Only the compiler's process imports this module, see `finish_code`. The code must run in a process
that knows neither Numba nor its runtime, so the kernel gets all memory by address: nothing in it allocates or raises.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import binding
from numba import carray, types

from darkseg_ros.errors import EngineError
from darkseg_ros.model.backends.finish.compiled_finish import LANES, CompiledFinish
from darkseg_ros.model.backends.finish.finish_code import SYMBOL, LoadedCode, find_linker, initialise_llvm, sealed
from darkseg_ros.model.backends.finish.numba_vectors import (
    anywhere_at_least,
    bytes_interleaved,
    filled,
    loader,
    power_of_two,
    repeater,
    store,
    transposer,
    where_greater,
)
from darkseg_ros.model.backends.finish.numpy_finish import finish_logits_numpy
from darkseg_ros.model.bundle import LOGITS_STRIDE

_FLOATS, _WORDS, _INTEGERS = (types.CPointer(each) for each in (types.float32, types.uint32, types.int64))

# Of the C library, which every process has: the compiler puts them in place of loops.
_C_FUNCTIONS = {b"memset", b"memcpy", b"memmove"}

_WIDE_LANES = LOGITS_STRIDE * LANES
"""Of the output pixels above and below a vector of source pixels, phase by phase."""

_load, _load_wide = loader(LANES), loader(_WIDE_LANES)
_once_per_phase = repeater(LOGITS_STRIDE)
_transpose = transposer(LANES)


def main(digest: str) -> None:
    """The compiler's process: writes the code to stdout, sealed for the key of this digest.

    Raises:
        EngineError: if the code needs more than a process without Numba has, the linker fails, or the answers are not
            numpy's.
    """
    linker = find_linker()
    code = object_code(to_link=bool(linker))
    strangers = undefined_symbols(code) - _C_FUNCTIONS
    if strangers:  # LLVM would end the process that loads it
        raise EngineError(f"Numba {numba.__version__} made code that needs {sorted(strangers)}")
    if linker:
        code = shared_library(code, linker)
    finish = CompiledFinish(LoadedCode(code))
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 1), (19, 5, 67), (67, 5, 19), (3, 4, 16)):
        values = rng.integers(-9, 9, shape).astype(np.float32)  # integers: many ties
        values[0, -1] += 20  # and one class that leads
        logits = np.asfortranarray(values)  # class by class at each pixel
        class_map, confidence = finish(logits, temperature=1.3, align_corners=False)
        expected, expected_confidence = finish_logits_numpy(logits, temperature=1.3, align_corners=False)
        differs = np.abs(confidence.astype(int) - expected_confidence).max() > 1
        if differs or not np.array_equal(class_map, expected):
            raise EngineError(f"Numba {numba.__version__} made code whose answer to logits of {shape} is not numpy's")
    sys.stdout.buffer.write(sealed(code, digest))


def object_code(*, to_link: bool) -> bytes:
    """The kernel as an ELF object file for this machine, its function under the name `SYMBOL`.

    Args:
        to_link: for `shared_library`; otherwise for llvmlite, which places code and constants wherever it likes.
    """
    # numpy's errors: a division by 0 raises nothing
    kernel = numba.cfunc(_SIGNATURE, error_model="numpy")(finish)
    module = binding.parse_assembly(kernel.inspect_llvm())
    inner = module.get_function(kernel.native_name.removeprefix("cfunc."))
    for function in module.functions:
        if not function.is_declaration:
            # seen and not emitted: what Numba wraps around the kernel reports errors through Numba's runtime
            function.linkage = "external" if function.name == inner.name else "available_externally"
    inner.name = SYMBOL
    return _target_machine(to_link=to_link).emit_object(module)


def shared_library(code: bytes, linker: str) -> bytes:
    """An object file as an ELF shared library, for which `LoadedCode` needs no llvmlite.

    Raises:
        EngineError: if the linker refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "kernel.o"), Path(folder, "kernel.so")
        source.write_bytes(code)
        command = [linker, "-shared", "-z", "noexecstack", "-o", str(target), str(source)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode or not target.is_file():
            raise EngineError(f"{linker} cannot link Numba's code: {done.stderr.strip() or done.returncode}")
        return target.read_bytes()


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


def _target_machine(*, to_link: bool) -> Any:
    """This machine, as Numba sees it. LLVM then fuses only what the code tells it to, which Numba never does."""
    initialise_llvm(binding)
    target = binding.Target.from_triple(binding.get_process_triple())
    try:
        features: str = binding.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM cannot tell
        features = ""
    # a shared library is loaded anywhere, and finds its constants without a table of addresses
    layout = {"reloc": "pic", "codemodel": "small"} if to_link else {}
    return target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=3, **layout)


@numba.njit(inline="always")
def _gather(
    logits: np.ndarray,
    class_stride: np.uint64,
    row_start: np.uint64,
    column_stride: np.uint64,
    width: int,
    source: np.ndarray,
) -> None:
    """source[c, LANES + x] = pixel x of class c in a source row, its ends repeated.

    Unsigned strides count back by wrapping around; a negative index would count from the end in Numba.
    """
    classes = source.shape[0]
    if class_stride == 1 and classes >= LANES and width >= LANES:
        _gather_tiles(logits, row_start, column_stride, width, source)
    else:
        for c in range(classes):
            at = row_start + np.uint64(c) * class_stride
            for x in range(width):
                source[c, LANES + x] = logits[at]
                at += column_stride
    for c in range(classes):
        _repeat_ends(source[c], width)


@numba.njit(inline="always")
def _gather_tiles(
    logits: np.ndarray, row_start: np.uint64, column_stride: np.uint64, width: int, source: np.ndarray
) -> None:
    """`_gather` of channels-last logits but for the ends. The last tile each way overlaps the one before."""
    classes, step = source.shape
    for first_x in range(0, width, LANES):
        x = min(first_x, width - LANES)
        for first_c in range(0, classes, LANES):
            c = min(first_c, classes - LANES)
            at = row_start + np.uint64(x) * column_stride + np.uint64(c)
            _transpose(logits, np.int64(at), np.int64(column_stride), source[c], LANES + x, step)


@numba.njit(inline="always")
def _repeat_ends(row: np.ndarray, width: int) -> None:
    """One pixel to the left, and to the right up to the one beyond the last block."""
    row[LANES - 1] = row[LANES]
    for x in range(LANES + width, row.shape[0] - LANES + 1):
        row[x] = row[LANES + width - 1]


@numba.njit(inline="always")
def _higher(left: Any, right: Any) -> Any:
    return where_greater(left, right, left, right)


@numba.njit(inline="always")
def _lower(left: Any, right: Any) -> Any:
    return where_greater(left, right, right, left)


@numba.njit(inline="always")
def _bound(source: np.ndarray, bounds: np.ndarray) -> None:
    """bounds[b, c, 0 or 1, i] = lowest or highest of class c at pixel i of block b and its neighbours left and right.

    Every output pixel lies between a source pixel and one of these neighbours.
    """
    blocks, classes = bounds.shape[:2]
    for block in range(blocks):
        x = LANES * (block + 1)
        for c in range(classes):
            left, here, right = _load(source[c], x - 1), _load(source[c], x), _load(source[c], x + 1)
            store(_lower(_lower(left, here), right), bounds[block, c, 0], 0)
            store(_higher(_higher(left, here), right), bounds[block, c, 1], 0)


@numba.njit(inline="always")
def _exp2(x: Any) -> Any:
    """2^x for x ≤ 0, 2^-126 below -126; relative error < 3e-6. A call of the C library's takes one number at a time."""
    x = _higher(x, filled(x, np.float32(-126)))
    # as large as this, a float32 has no binary places, and the lowest bits are the integer's
    shifted = x + np.float32(1.5 * 2**23)
    r = x - (shifted - np.float32(1.5 * 2**23))
    # 2^r for |r| ≤ 0.5, the largest relative error as small as it can be
    fraction = np.float32(0.00957010) * r + np.float32(0.0559178613)
    fraction = fraction * r + np.float32(0.240247449)
    fraction = fraction * r + np.float32(0.693121813)
    fraction = fraction * r + np.float32(0.999999257)
    return power_of_two(shifted, fraction)


@numba.njit(inline="always")
def _max_probability(source: np.ndarray, sharpness: np.float32, probability: np.ndarray) -> None:
    """probability[x] = 255 · max softmax of the classes at x, for all x of whole blocks."""
    classes = source.shape[0]
    for x in range(LANES, source.shape[1] - LANES, LANES):
        highest = _load(source[0], x)
        for c in range(1, classes):
            highest = _higher(_load(source[c], x), highest)
        total = filled(highest, np.float32(0))
        for c in range(classes):
            total += _exp2((_load(source[c], x) - highest) * sharpness)
        store(np.float32(255) / total, probability, x)


@numba.njit(inline="always")
def _contenders(upper: np.ndarray, lower: np.ndarray, contenders: np.ndarray) -> int:
    """Writes, in ascending order, the classes that may be the best one of an output pixel of a block; their number.

    Let H be the highest of class c at the source pixels around an output pixel, L the lowest of class d. Blending is
    a chain of products with weights ≥ 0, of sums and of roundings, none of which ever falls where its arguments rise.
    So c there is at most what a constant H would be blended to, F(H), and d at least F(L). The weights of an axis sum
    to 1 within 2⁻²⁵, and the chain rounds four times: |F(v) - v| ≤ 6 · 2⁻²⁴ |v| + 2⁻¹²³, the latter for products
    below the normal numbers, even where the thread takes them for 0. F(H) < F(L) hence follows from
    H < L - (2⁻²⁰ |L| + 2⁻¹²⁰), whose slack is 16 · 2⁻²⁴ |L| for the 12 that both sides need and for its own rounding;
    beyond the largest float32 the threshold is -∞ and drops no class. A class lower than another one at every output
    pixel of the block is the best of none, not even in a tie. The class that sets L is never dropped.

    Args:
        upper: of `_bound`, (K, 2, LANES), of the source row above.
        lower: of the one below.
        contenders: (K,), written.
    """
    classes = upper.shape[0]
    floor = _lower(_load(upper[0, 0], 0), _load(lower[0, 0], 0))
    for c in range(1, classes):
        floor = _higher(_lower(_load(upper[c, 0], 0), _load(lower[c, 0], 0)), floor)
    size = _higher(floor, np.float32(-1) * floor)
    threshold = floor - (np.float32(2**-20) * size + np.float32(2**-120))
    count = 0
    for c in range(classes):
        contenders[count] = c  # counted or overwritten: a branch would be guessed wrong too often
        count += anywhere_at_least(_higher(_load(upper[c, 1], 0), _load(lower[c, 1], 0)), threshold)
    return count


@numba.njit(inline="always")
def _widened(row: np.ndarray, x: int, taps: np.ndarray) -> Any:
    """Phase by phase, the output columns of the block at x of a source row."""
    return (
        _load_wide(taps[0], 0) * _once_per_phase(_load(row, x - 1))
        + _load_wide(taps[1], 0) * _once_per_phase(_load(row, x))
        + _load_wide(taps[2], 0) * _once_per_phase(_load(row, x + 1))
    )


@numba.njit(inline="always")
def _widen_row(row: np.ndarray, taps: np.ndarray, wide: np.ndarray) -> None:
    """wide[b] = the output columns of block b."""
    for block in range(wide.shape[0]):
        store(_widened(row, LANES * (block + 1), taps[block]), wide[block], 0)


@numba.njit(inline="always")
def _widen_contenders(
    upper: np.ndarray, lower: np.ndarray, x: int, taps: np.ndarray, contenders: np.ndarray, count: int, wide: np.ndarray
) -> None:
    """wide[k] = the output columns of the block at x of contender k, in both source rows."""
    for k in range(count):
        store(_widened(upper[contenders[k]], x, taps), wide[k, 0], 0)
        store(_widened(lower[contenders[k]], x, taps), wide[k, 1], 0)


@numba.njit(inline="always")
def _blended(upper: np.ndarray, upper_weight: np.float32, lower: np.ndarray, lower_weight: np.float32) -> Any:
    return upper_weight * _load_wide(upper, 0) + lower_weight * _load_wide(lower, 0)


@numba.njit(inline="always")
def _best_class(
    wide: np.ndarray, contenders: np.ndarray, count: int, upper_weight: np.float32, lower_weight: np.float32
) -> Any:
    """Argmax over the contenders in a block of one output row; ties go to the first."""
    best = _blended(wide[0, 0], upper_weight, wide[0, 1], lower_weight)
    index = filled(best, np.uint32(contenders[0]))
    for k in range(1, count):
        value = _blended(wide[k, 0], upper_weight, wide[k, 1], lower_weight)
        index = where_greater(value, best, filled(best, np.uint32(contenders[k])), index)
        best = _higher(value, best)
    return index


@numba.njit(inline="always")
def _write(pixels: Any, row: np.ndarray, x: int, spare: np.ndarray) -> None:
    """row[x:] = the pixels of one block, those beyond the row's end dropped; four bytes a number."""
    width = row.shape[0]
    if x + LANES <= width:
        store(pixels, row, x)
    else:
        store(pixels, spare, 0)
        for i in range(width - x):
            row[x + i] = spare[i]


_SIGNATURE = types.void(
    _FLOATS,
    *[types.uint64] * 3,
    *[types.int64] * 3,
    types.float32,
    _FLOATS,
    _INTEGERS,
    *[_FLOATS] * 7,
    _INTEGERS,
    *[_WORDS] * 3,
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
    sources_at: Any,
    bounds_at: Any,
    probability_at: Any,
    wide_probability_at: Any,
    wide_at: Any,
    contenders_at: Any,
    spare_at: Any,
    class_map_at: Any,
    confidence_at: Any,
) -> None:
    """The kernel; `darkseg_ros.model.backends.finish.compiled_finish` calls it.

    Blocks are of LANES source pixels: ⌈width / LANES⌉ of them.

    Args:
        logits_at: float32, the first value; the strides count floats.
        class_stride: from a class to the next.
        row_stride: from a source row to the next.
        column_stride: from a source pixel to the next.
        classes: K.
        height: of the source.
        width: of the source.
        sharpness: log₂ e / temperature.
        taps_at: (blocks, 3, LOGITS_STRIDE · LANES) float32 weights of the columns.
        row_first_at: (LOGITS_STRIDE · height,) int64, upper source row of each output row.
        upper_weights_at: float32, its weight.
        lower_weights_at: float32, the next row's.
        sources_at: scratch, (2, K, (blocks + 2) · LANES) float32: a source row and the next, from LANES on.
        bounds_at: scratch, (2, blocks, K, 2, LANES) float32, theirs.
        probability_at: scratch, ((blocks + 2) · LANES,) float32, from LANES on.
        wide_probability_at: scratch, (2, blocks, LOGITS_STRIDE · LANES) float32, of the two rows.
        wide_at: scratch, (K, 2, LOGITS_STRIDE · LANES) float32: the contenders of a block in both rows.
        contenders_at: scratch, (K,) int64.
        spare_at: scratch, (LANES,) uint32.
        class_map_at: (LOGITS_STRIDE · height, LOGITS_STRIDE · width) uint8, written; four of them a number.
        confidence_at: the same.
    """
    out_height, blocks = LOGITS_STRIDE * height, (width + LANES - 1) // LANES
    logits = carray(logits_at, (1,))  # its length is never asked for
    taps = carray(taps_at, (blocks, 3, _WIDE_LANES))
    row_first = carray(row_first_at, (out_height,))
    upper_weights, lower_weights = carray(upper_weights_at, (out_height,)), carray(lower_weights_at, (out_height,))
    sources = carray(sources_at, (2, classes, (blocks + 2) * LANES))
    bounds = carray(bounds_at, (2, blocks, classes, 2, LANES))
    probability = carray(probability_at, ((blocks + 2) * LANES,))
    wide_probability = carray(wide_probability_at, (2, blocks, _WIDE_LANES))
    wide = carray(wide_at, (classes, 2, _WIDE_LANES))
    contenders, spare = carray(contenders_at, (classes,)), carray(spare_at, (LANES,))
    class_map, confidence = carray(class_map_at, (out_height, width)), carray(confidence_at, (out_height, width))

    first_y = 0
    for source_y in range(-1, height):
        # the row below the last one is the last one again, at weight 0
        next_y = min(source_y + 1, height - 1)
        upper, lower = source_y & 1, next_y & 1  # rows take turns
        if next_y > source_y:
            _gather(logits, class_stride, np.uint64(next_y) * row_stride, column_stride, width, sources[lower])
            _bound(sources[lower], bounds[lower])
            _max_probability(sources[lower], sharpness, probability)
            _repeat_ends(probability, width)
            _widen_row(probability, taps, wide_probability[lower])
        if source_y < 0:
            continue  # above the first row lies none
        end_y = first_y
        while end_y < out_height and row_first[end_y] == source_y:
            end_y += 1
        for block in range(blocks):
            count = _contenders(bounds[upper, block], bounds[lower, block], contenders)
            if count > 1:  # one alone is the best whatever its values, and those in `wide` are another's
                x = LANES * (block + 1)
                _widen_contenders(sources[upper], sources[lower], x, taps[block], contenders, count, wide)
            for y in range(first_y, end_y):
                above, below = upper_weights[y], lower_weights[y]
                index = _best_class(wide, contenders, count, above, below)
                _write(bytes_interleaved(index), class_map[y], LANES * block, spare)
                share = _blended(wide_probability[upper, block], above, wide_probability[lower, block], below)
                # from 2^23 on a float32 is an integer, rounded to even, and its lowest bits are the integer's
                _write(bytes_interleaved(share + np.float32(2**23)), confidence[y], LANES * block, spare)
        first_y = end_y
