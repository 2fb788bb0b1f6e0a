"""The build cache: one build per source and flags, whatever happens to the cached file."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlsys_lab._core import native

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "int answer(void) { return ANSWER; }"
needs_c = pytest.mark.skipif(native.compiler() is None, reason="no C compiler")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache with ä"))
    monkeypatch.setattr(native, "_loaded", {})
    return tmp_path / "a cache with ä" / "mlsys-lab" / "native"


def answer(value: int) -> int:
    return int(native.load(SOURCE, name="answer", flags=(f"-DANSWER={value}",)).answer())


def age(path: Path) -> int:
    return path.stat().st_mtime_ns


@needs_c
def test_a_second_build_takes_the_cached_library(cache):
    first = native.build(SOURCE, name="answer", flags=("-DANSWER=1",))
    before = age(first)
    assert native.build(SOURCE, name="answer", flags=("-DANSWER=1",)) == first
    assert age(first) == before
    assert [p.name for p in cache.iterdir()] == [first.name]


@needs_c
@pytest.mark.parametrize("changed", ["source", "flags", "compiler", "processor"])
def test_whatever_goes_into_a_build_changes_its_name(changed, cache, monkeypatch):
    first = native.build(SOURCE, name="answer", flags=("-DANSWER=1",))
    source, flags = SOURCE, ("-DANSWER=1",)
    if changed == "source":
        source += "\n"
    elif changed == "flags":
        flags = ("-DANSWER=2",)
    elif changed == "compiler":
        newer = native.Compiler(native.compiler().command, "another version")
        monkeypatch.setattr(native, "compiler", lambda: newer)
    else:
        monkeypatch.setattr(native, "processor", lambda: "another processor")
    second = native.build(source, name="answer", flags=flags)
    assert second.name.split("-")[1] != first.name.split("-")[1]


@needs_c
def test_each_set_of_flags_is_its_own_library(cache):
    assert [answer(3), answer(4), answer(3)] == [3, 4, 3]


@needs_c
@pytest.mark.parametrize("damage", ["emptied", "cut", "changed", "open to others", "a link"])
def test_a_damaged_or_foreign_library_is_built_again(damage, cache, tmp_path):
    library = native.build(SOURCE, name="answer", flags=("-DANSWER=5",))
    content = library.read_bytes()
    if damage == "emptied":
        library.write_bytes(b"")
    elif damage == "cut":
        library.write_bytes(content[:-100])
    elif damage == "changed":
        library.write_bytes(content.replace(b"answer", b"ansver"))
    elif damage == "open to others":
        library.chmod(0o777)
    else:
        elsewhere = tmp_path / "elsewhere.so"
        elsewhere.write_bytes(content)
        library.unlink()
        library.symlink_to(elsewhere)
    assert answer(5) == 5
    (kept,) = cache.iterdir()  # its name may differ: not every compiler makes the same bytes twice
    assert not kept.is_symlink()
    assert hashlib.sha256(kept.read_bytes()).hexdigest()[:20] == kept.stem.split("-")[2]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


@needs_c
@pytest.mark.multiprocess
def test_two_processes_may_build_at_once(cache):
    code = (
        "from mlsys_lab._core import native\n"
        f"print(native.load({SOURCE!r}, name='answer', flags=('-DANSWER=7',)).answer())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(_: int) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(start, range(3))) == ["7\n"] * 3
    assert all(p.name.startswith("answer-") for p in cache.iterdir())  # nothing half-made stays


@needs_c
def test_the_compilers_first_error_line_is_the_message(cache):
    with pytest.raises(native.NativeError, match=r"error: .*nonsense") as caught:
        native.load("int f(void) { return nonsense; }", name="wrong")
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


def fake(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script plays the compiler")
def test_a_compiler_that_fails_says_so_in_one_line(cache, tmp_path, monkeypatch):
    monkeypatch.delenv(native.OFF, raising=False)
    body = 'case "$1" in --version) echo broken 1.0;; *) echo "cc1: fatal error: no room" >&2; exit 1;; esac'
    monkeypatch.setenv("CC", str(fake(tmp_path / "bin", "broken", body)))
    assert native.compiler().version == "broken 1.0"
    with pytest.raises(native.NativeError, match=r"^broken 1.0: cc1: fatal error: no room$"):
        native.load(SOURCE, name="answer")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script plays the compiler")
def test_the_compiler_is_cc_of_the_environment_then_cc_gcc_clang(tmp_path, monkeypatch):
    monkeypatch.delenv(native.OFF, raising=False)
    folder = tmp_path / "bin"
    for name in ("clang", "gcc", "cc", "mine"):
        fake(folder, name, f"echo {name} 9")
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.delenv("CC", raising=False)
        native._probe.cache_clear()
        if name != "mine":
            assert native.compiler() == native.Compiler((str(folder / name),), f"{name} 9")
    monkeypatch.setenv("CC", "mine -m32")
    assert native.compiler() == native.Compiler((str(folder / "mine"), "-m32"), "mine 9")
    monkeypatch.setenv("CC", "absent")
    assert native.compiler().version == "cc 9"
    fake(folder, "cc", "exit 1")
    native._probe.cache_clear()
    assert native.compiler().version == "gcc 9"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script plays the compiler")
def test_apples_stand_in_is_not_called_without_developer_tools(monkeypatch):
    called = []

    def first_line(command):
        called.append(command[0])
        return ""

    monkeypatch.setattr(native.sys, "platform", "darwin")
    monkeypatch.setattr(native.shutil, "which", lambda name, path=None: f"/usr/bin/{name}")
    monkeypatch.setattr(native, "_first_line", first_line)
    native._probe.cache_clear()
    try:
        assert native._probe("", "/usr/bin") is None
    finally:
        native._probe.cache_clear()
    assert set(called) <= {"/usr/bin/xcode-select", sys.executable}


@pytest.mark.poor
@pytest.mark.skipif(sys.platform == "win32", reason="a shell script plays the compiler")
def test_a_cc_that_does_not_answer_is_named_once_with_what_is_used(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv(native.OFF, raising=False)
    folder = tmp_path / "bin"
    fake(folder, "mine", "exit 1")
    fake(folder, "gcc", "echo gcc 9")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("CC", "mine -m32")
    native._probe.cache_clear()
    for _ in range(2):
        assert native.compiler().version == "gcc 9"
    assert [r.getMessage() for r in caplog.records] == [
        f"CC=mine -m32 does not answer as a C compiler: {folder / 'gcc'} is used (gcc 9)"
    ]


@pytest.mark.parametrize("how", ["switched off", "none there"])
def test_without_a_compiler_the_message_names_the_remedies(how, cache, monkeypatch):
    if how == "switched off":
        monkeypatch.setenv("MLSYS_LAB_NO_COMPILER", "1")
    else:
        monkeypatch.setattr(native, "_probe", lambda *_: None)
    with pytest.raises(native.NativeError, match=r"no C compiler .*install gcc or clang"):
        native.load(SOURCE, name="answer")
    assert not cache.exists()


@needs_c
@pytest.mark.poor
def test_a_cache_folder_that_others_may_write_is_not_used(cache):
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    library = native.build(SOURCE, name="answer", flags=("-DANSWER=1",))
    assert cache not in library.parents
    assert list(cache.iterdir()) == []
