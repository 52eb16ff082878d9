from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

numba = pytest.importorskip("numba")
import llvmlite  # noqa: E402
from llvmlite import binding  # noqa: E402

from darkseg_ros.errors import EngineError  # noqa: E402
from darkseg_ros.model.backends.finish import compiled_finish, finish_code, numba_finish, numba_vectors  # noqa: E402
from darkseg_ros.model.backends.finish.compiled_finish import CompiledFinish  # noqa: E402
from darkseg_ros.model.backends.finish.finish_code import CodeKey, load_kernel, sealed, unsealed  # noqa: E402

ROOT = Path(__file__).resolve().parents[5]

CHANGES = {
    "kernel_sha256": "ab" * 32,
    "numba_version": "0.1",
    "llvmlite_version": "0.2",
    "linker": "/another/ld",
    "machine": "another",
    "cpu": "another",
}


@pytest.fixture(scope="module")
def code(caches_of_the_tests_own: None) -> bytes:
    """The kernel's, from the cache that all tests of a session share."""
    load_kernel()
    key = CodeKey.of_this_machine()
    found = unsealed(key.path.read_bytes(), key.digest)
    assert found
    return found


@pytest.fixture
def folder(code: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "darkseg_ros" / "finish_code"


@pytest.fixture
def compiled(code: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[CodeKey]:
    """The keys that were compiled for, on an empty cache; the compiler takes hardly any time."""
    keys = []

    def compile_for(key: CodeKey) -> bytes:
        keys.append(key)
        time.sleep(0.02)
        return code

    monkeypatch.setattr(finish_code, "_compile", compile_for)
    return keys


def assert_works(code: finish_code.LoadedCode) -> None:
    logits = np.zeros((3, 2, 2), np.float32)
    logits[2] = 1
    class_map, _ = CompiledFinish(code)(logits, temperature=1.0, align_corners=False)
    assert class_map.tolist() == [[2] * 8] * 8


def test_the_second_start_compiles_nothing(compiled: list[CodeKey], folder: Path) -> None:
    for _ in range(2):
        assert_works(load_kernel())
    assert compiled == [CodeKey.of_this_machine()]
    assert list(folder.iterdir()) == [compiled[0].path]


def test_the_key_is_of_this_kernel_compiler_and_machine() -> None:
    key = CodeKey.of_this_machine()
    modules = (numba_finish, numba_vectors, compiled_finish)
    sources = b"".join(Path(module.__file__).read_bytes() for module in modules)
    assert key.kernel_sha256 == hashlib.sha256(sources).hexdigest()
    assert (key.numba_version, key.llvmlite_version) == (numba.__version__, llvmlite.__version__)
    assert (key.linker, key.machine) == (shutil.which("ld") or "", platform.machine())
    assert key.cpu == finish_code.describe_cpu()


@pytest.mark.skipif(not finish_code.CPU_INFO.is_file(), reason="this system has no /proc/cpuinfo")
def test_the_processors_description_names_its_instruction_sets_and_nothing_that_changes() -> None:
    description = finish_code.describe_cpu()
    assert re.search(r"^(flags|Features)\s*: \w+ \w+", description, re.MULTILINE)
    assert "MHz" not in description
    assert description == finish_code.describe_cpu()


def test_an_arm_processor_is_described_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    lines = ["processor\t: 0", "BogoMIPS\t: 62.50", "Features\t: fp asimd", "CPU part\t: 0xd42"]
    info.write_text("\n".join([*lines, "", *lines, "", "Serial\t: 1"]))
    monkeypatch.setattr(finish_code, "CPU_INFO", info)
    assert finish_code.describe_cpu() == "Features\t: fp asimd\nCPU part\t: 0xd42"


def test_the_changes_cover_every_component_of_the_key() -> None:
    assert CHANGES.keys() == {field.name for field in dataclasses.fields(CodeKey)}


@pytest.mark.parametrize("component", CHANGES)
def test_each_component_changed_alone_compiles_again(
    component: str, compiled: list[CodeKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_kernel()
    key = compiled[0]
    other = dataclasses.replace(key, **{component: CHANGES[component]})
    monkeypatch.setattr(CodeKey, "of_this_machine", staticmethod(lambda: other))
    load_kernel()
    monkeypatch.setattr(CodeKey, "of_this_machine", staticmethod(lambda: key))
    load_kernel()
    assert compiled == [key, other]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: sealed(content[32:], "the digest of another key"),
    ],
    ids=["empty", "half a seal", "cut", "longer", "altered seal", "altered code", "another key's"],
)
def test_a_file_that_is_not_as_it_was_written_is_compiled_anew(
    damage: object, compiled: list[CodeKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_kernel()
    path = compiled[0].path
    written = path.read_bytes()
    path.write_bytes(damage(written))
    assert_works(load_kernel())
    assert len(compiled) == 2
    assert path.read_bytes() == written


def test_where_no_file_can_be_written_each_start_compiles_and_says_so(
    compiled: list[CodeKey], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.parent.mkdir()
    folder.touch()  # root writes to read-only folders, nobody makes a folder in a file
    for _ in range(2):
        assert_works(load_kernel())
    assert len(compiled) == 2
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2
    assert f"compiled again at each start, some seconds: {folder} cannot be written" in warnings[0]
    assert "set XDG_CACHE_HOME" in warnings[0]


def test_a_user_without_a_home_folder_gets_the_kernel_at_each_start(
    compiled: list[CodeKey], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    for _ in range(2):
        assert_works(load_kernel())
    assert len(compiled) == 2
    assert "compiled again at each start, some seconds: there is no home folder" in caplog.text


def test_engines_that_open_at_once_in_one_process_compile_once(compiled: list[CodeKey]) -> None:
    with ThreadPoolExecutor(4) as threads:
        for loaded in threads.map(lambda _: load_kernel(), range(4)):
            assert_works(loaded)
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("raise ImportError('Numba needs another NumPy')", r"status 1, last words: ImportError: Numba needs another"),
        ("import os; os.kill(os.getpid(), 9)", r"status -9, last words: none\); free memory if it was killed"),
        ("print('no code')", r"status 0, last words: none"),
    ],
    ids=["fails", "dies", "prints something else"],
)
def test_a_compiler_that_gives_no_code_is_an_error(
    program: str, expected: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish_code, "_PROCESS", program)
    with pytest.raises(EngineError, match=expected):
        load_kernel()
    assert not folder.exists()


def test_a_compiler_that_never_ends_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish_code, "_PROCESS", "import time; time.sleep(600)")
    monkeypatch.setattr(finish_code, "_COMPILE_AT_MOST_S", 0.2)
    with pytest.raises(EngineError, match=r"timed out after 0.2 seconds; start again"):
        load_kernel()


@pytest.mark.parametrize("missing", ["numba", "llvmlite"])
def test_what_is_not_installed_is_named_with_its_cure(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == missing:
            raise finish_code.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(finish_code, "version", version)
    with pytest.raises(EngineError, match=f"^{missing} is not installed; run `pip install numba`"):
        load_kernel()


def test_code_that_needs_more_than_a_process_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLVM ends the process that loads it, without a word to Python."""
    module = binding.parse_assembly(
        "declare void @NRT_stranger()\ndeclare ptr @memset(ptr, i32, i64)\n"
        f"define void @{finish_code.SYMBOL}() {{ call void @NRT_stranger()\n"
        "call ptr @memset(ptr null, i32 0, i64 0)\nret void }"
    )
    code = numba_finish._target_machine(to_link=False).emit_object(module)
    assert numba_finish.undefined_symbols(code) == {b"NRT_stranger", b"memset"}
    monkeypatch.setattr(numba_finish, "object_code", lambda **_: code)
    with pytest.raises(EngineError, match=r"needs \[b'NRT_stranger'\]"):
        numba_finish.main("digest")


@pytest.mark.parametrize("wrong", [0, 1], ids=["class map", "confidence"])
def test_code_with_other_answers_than_numpys_is_refused(
    wrong: int, code: bytes, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    numpys = numba_finish.finish_logits_numpy

    def other_answer(logits: np.ndarray, **options: float) -> tuple[np.ndarray, np.ndarray]:
        maps = numpys(logits, **options)
        maps[wrong][-1, -1] ^= 2
        return maps

    monkeypatch.setattr(numba_finish, "find_linker", lambda: "")
    monkeypatch.setattr(numba_finish, "object_code", lambda **_: code)
    monkeypatch.setattr(numba_finish, "finish_logits_numpy", other_answer)
    with pytest.raises(EngineError, match="is not numpy's"):
        numba_finish.main("digest")
    assert capfdbinary.readouterr().out == b""


needs_a_linker = pytest.mark.skipif(not finish_code.find_linker(), reason="this machine has no ld")


@needs_a_linker
def test_a_linker_gives_code_that_needs_no_llvmlite_and_answers_alike(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.random.default_rng(0).standard_normal((19, 9, 21)).astype(np.float32)
    answers = []
    for linker in (finish_code.find_linker(), ""):
        monkeypatch.setattr(numba_finish, "find_linker", lambda linker=linker: linker)
        numba_finish.main("digest")
        code = unsealed(capfdbinary.readouterr().out, "digest")
        assert code
        assert (code[16] == 3) == bool(linker)  # a shared library, or an object file
        answers.append(CompiledFinish(finish_code.LoadedCode(code))(logits, temperature=1.0, align_corners=False))
    for linked, loaded in zip(*answers, strict=True):
        np.testing.assert_array_equal(linked, loaded)


@needs_a_linker
def test_a_linker_that_refuses_is_named() -> None:
    with pytest.raises(EngineError, match=r"ld cannot link Numba's code: .*(not recognized|unknown)"):
        numba_finish.shared_library(b"no object file", finish_code.find_linker())


def test_a_library_that_the_system_does_not_load_is_an_error() -> None:
    broken = b"\x7fELF".ljust(16, b"\0") + b"\3\0" + bytes(64)
    with pytest.raises(EngineError, match=r"does not load the compiled kernel \(.*\); allow it, or remove ld"):
        finish_code.LoadedCode(broken)


START = """
import sys
import numpy as np
from darkseg_ros.model.backends.finish.logits_finish import fastest_finish
class_map, _ = fastest_finish()(np.zeros((19, 2, 2), np.float32), temperature=1.0, align_corners=False)
print(type(fastest_finish()).__name__, class_map.max(), 'numba' in sys.modules, 'llvmlite' in sys.modules)
"""


@pytest.mark.timeout(400)
def test_nodes_that_start_at_once_on_a_new_machine_both_end_well(tmp_path: Path) -> None:
    """With settings that would keep Numba from compiling, and a module of its name in the working folder."""
    (tmp_path / "numba.py").write_text("raise ImportError('not this one')")
    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", START],
            cwd=tmp_path,
            env={
                **os.environ,
                "XDG_CACHE_HOME": str(tmp_path / "cache"),
                "PYTHONPATH": str(ROOT),
                "NUMBA_DISABLE_JIT": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [node.communicate(timeout=300) for node in nodes]
    assert answers == [(f"CompiledFinish 0 False {not finish_code.find_linker()}\n", "")] * 2
    (kept,) = (tmp_path / "cache" / "darkseg_ros" / "finish_code").iterdir()
    key = CodeKey.of_this_machine()
    assert kept.name == key.path.name
    assert unsealed(kept.read_bytes(), key.digest)
