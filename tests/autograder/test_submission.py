"""What was handed in: which file is graded, under what name, and one clear line for what cannot be read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder import archive, submission
from autograder.assignment import Assignment
from autograder.submission import Submission, collect, printable, safe_name

HW = Assignment(name="hw1", title="", folder=Path(), source=Path("hw1.py"), public=())


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: list[tarfile.TarInfo], data: bytes = b"x = 1") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return path


def test_a_folder_with_the_notebook_at_its_top_is_one_submission(tmp_path):
    folder = tmp_path / "ada_hw1"
    folder.mkdir()
    (folder / "hw1.ipynb").write_bytes(b"notebook")
    (folder / "hw1.py").write_bytes(b"pair")
    (folder / "notes.ipynb").write_bytes(b"other")
    (found,) = collect([folder], HW)
    assert (found.name, found.student, found.data, found.kind) == ("ada_hw1", "ada", b"notebook", ".ipynb")


def test_otherwise_each_entry_of_a_folder_is_one(tmp_path):
    (tmp_path / "ada_hw1.ipynb").write_bytes(b"1")
    (tmp_path / "bob_hw1.py").write_bytes(b"2")
    (tmp_path / "cleo").mkdir()
    (tmp_path / "cleo" / "my work.ipynb").write_bytes(b"3")
    (tmp_path / "README.md").write_bytes(b"not a hand-in")
    (tmp_path / ".hidden.ipynb").write_bytes(b"no")
    zipped(
        tmp_path / "dan_hw1.zip",
        {"hw1/hw1.ipynb": b"4", "hw1/hw1.py": b"pair", "__MACOSX/hw1.ipynb": b"litter"},
    )
    found = collect([tmp_path], HW)
    assert [(s.student, s.data, s.error) for s in found] == [
        ("ada", b"1", ""),
        ("bob", b"2", ""),
        ("cleo", b"3", ""),
        ("dan", b"4", ""),
    ]


def test_an_archive_of_a_class_holds_one_submission_per_entry(tmp_path):
    path = zipped(tmp_path / "class.zip", {"ada_hw1.ipynb": b"1", "bob/hw1.ipynb": b"2", "cleo/x.py": b"3"})
    assert [(s.student, s.data) for s in collect([path], HW)] == [
        ("ada", b"1"),
        ("bob", b"2"),
        ("cleo", b"3"),
    ]


def test_a_tar_is_read_as_a_zip_is(tmp_path):
    path = tarred(tmp_path / "eve_hw1.tar.gz", [tarfile.TarInfo("hw1.py")])
    (found,) = collect([path], HW)
    assert (found.student, found.kind, found.data) == ("eve", ".py", b"x = 1")


def test_of_a_students_several_the_newest_readable_counts(tmp_path):
    for n, (name, age) in enumerate(
        {"ada_hw1.ipynb": 300, "ada_hw1-late.ipynb": 100, "Ada_third.txt": 1}.items()
    ):
        (tmp_path / name).write_bytes(b"%d" % n)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    found = collect(sorted(tmp_path.iterdir()), HW)
    assert {s.name: s.counted for s in found} == {
        "ada_hw1": False,
        "ada_hw1-late": True,
        "Ada_third.txt": False,
    }


@pytest.mark.parametrize("name", ["gradebook.csv", "Summary.json", "earlier-gradebook-3.csv"])
def test_no_report_folder_takes_the_place_of_a_file_of_the_class(tmp_path, name):
    (tmp_path / f"{name}.py").write_bytes(b"x = 1")
    (found,) = collect([tmp_path / f"{name}.py"], HW)
    assert found.name == f"{name}-2"


def test_names_stay_apart_on_file_systems_that_ignore_case(tmp_path):
    for folder, name in (("a", "x_hw1.py"), ("b", "X_hw1.py"), ("c", "x_hw1.py")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"1")
    found = collect(
        [tmp_path / "a" / "x_hw1.py", tmp_path / "b" / "X_hw1.py", tmp_path / "c" / "x_hw1.py"], HW
    )
    assert len({s.name.casefold() for s in found}) == 3


def link(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


def fifo(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.FIFOTYPE
    return member


def zip_link(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("hw1.py")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return path


def lying_bomb(path: Path) -> Path:
    """A zip whose header says 10 bytes and whose stream holds a megabyte."""
    zipped(path, {"hw1.py": b"\0" * (1 << 20)})
    raw = bytearray(path.read_bytes())
    real = (1 << 20).to_bytes(4, "little")
    for at in [m.start() for m in re.finditer(re.escape(real), raw)]:
        raw[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(bytes(raw))
    return path


def negative_tar(path: Path) -> Path:
    """A tar whose second member says that it is 512 bytes less than nothing: the next header is itself."""
    block = bytearray(tarfile.TarInfo("hw1.py").tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512 in base 256
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    first = tarfile.TarInfo("a.py").tobuf(tarfile.USTAR_FORMAT)  # a reader stops where it is back at 0
    return _write(path, first + bytes(block) + b"\0" * 1024)


def long_name_tar(path: Path, compress: Callable[[bytes], bytes]) -> Path:
    """A small tar with a GNU long name of 1.5 GiB of zeros: one 16 MiB block, packed once, 96 times."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 96 << 24
    packed = compress(bytes(1 << 24))
    return _write(path, compress(member.tobuf(tarfile.GNU_FORMAT)) + packed * 96)


def pax_tar(path: Path, headers: dict[str, str]) -> Path:
    """A tar whose extended header holds what no writer writes."""
    member = tarfile.TarInfo("hw1.py")
    member.size, member.pax_headers = 5, headers
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(b"x = 1"))
    return path


def zip_bomb(path: Path, method: int, packed: bytes) -> Path:
    """A zip of one member that claims 1,000 bytes and is `packed`, written as stored and then relabelled."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hw1.py", packed)
    raw = bytearray(path.read_bytes())
    for signature, at_method, at_size in ((b"PK\3\4", 8, 22), (b"PK\1\2", 10, 24)):
        start = raw.rindex(signature)
        raw[start + at_method : start + at_method + 2] = method.to_bytes(2, "little")
        raw[start + at_size : start + at_size + 4] = (1000).to_bytes(4, "little")
    return _write(path, bytes(raw))


def lzma_zip(path: Path) -> Path:
    """Zip's lzma: a head of version and properties, then a raw stream; 64 MiB of zeros."""
    packed = lzma.compress(bytes(64 << 20), lzma.FORMAT_ALONE, preset=0)
    return zip_bomb(path, zipfile.ZIP_LZMA, b"\x09\x04\x05\x00" + packed[:5] + packed[13:])


def relabelled_zip(path: Path, offset: int, old: bytes, new: bytes) -> Path:
    """A zip with the bytes at an offset of its central directory changed."""
    raw = bytearray(zipped(path, {"hw1.py": b"x = 1"}).read_bytes())
    start = raw.rindex(b"PK\1\2") + offset
    assert raw[start : start + len(old)] == old
    raw[start : start + len(new)] = new
    return _write(path, bytes(raw))


def folder_with_link(path: Path, name: str = "hw1.ipynb", own: bool = False) -> Path:
    """A student's folder in which one file is a link to somebody else's."""
    secret = _write(path.parent / "expected_hw1.py", b"the answer")
    path.mkdir()
    (path / name).symlink_to(secret)
    if own:
        _write(path / "hw1.ipynb", b"1")
    return path


def class_with_linked_entry(path: Path) -> Path:
    secret = _write(path.parent / "expected_hw1.py", b"the answer")
    path.mkdir()
    (path / "mallory_hw1.py").symlink_to(secret)
    return path


def class_with_linked_folder(path: Path) -> Path:
    secret = _folder(path.parent / "secret")
    _write(secret / "hw1.py", b"the answer")
    path.mkdir()
    (path / "mallory").symlink_to(secret)
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: zipped(p / "a.zip", {"../hw1.py": b"1"}), "points outside of it"),
        (lambda p: zipped(p / "a.zip", {"/etc/hw1.py": b"1"}), "points outside of it"),
        (lambda p: zipped(p / "a.zip", {"C:\\hw1.py": b"1"}), "points outside of it"),
        (lambda p: zip_link(p / "a.zip"), "symbolic link"),
        (lambda p: tarred(p / "a.tar.gz", [link("hw1.py")]), "holds a link"),
        (lambda p: tarred(p / "a.tar.gz", [fifo("hw1.py")]), "something that is no file"),
        (lambda p: zipped(p / "a.zip", {"hw1.py": b"\0" * (65 << 20)}), "unpacks to more than 64 MiB"),
        (lambda p: zipped(p / "a.zip", {f"{i}.py": b"" for i in range(5001)}), "more than 5000 files"),
        (lambda p: lying_bomb(p / "a.zip"), "a.zip|archive"),
        (lambda p: zipped(p / "a.zip", {"README.md": b"1"}), "no hw1.ipynb or hw1.py"),
        (lambda p: zipped(p / "a.zip", {"w/a.py": b"1", "w/b.py": b"2"}), "2 notebooks or .py files"),
        (lambda p: _write(p / "a.zip", b"PK nonsense"), "cannot be read"),
        (lambda p: _write(p / "a.tar.gz", b"\x1f\x8b nonsense"), "cannot be read"),
        (lambda p: _write(p / "a.docx", b"x"), ".docx is no notebook"),
        (lambda p: p / "gone.ipynb", "there is no file"),
        (lambda p: _folder(p / "empty"), "holds no hw1.ipynb"),
        (lambda p: _dangling(p / "a.ipynb"), "leads nowhere"),
        (lambda p: negative_tar(p / "a.tar"), "negative size"),
        (lambda p: zip_bomb(p / "a.zip", 12, bz2.compress(bytes(64 << 20))), "unusual compression"),
        (lambda p: lzma_zip(p / "a.zip"), "unusual compression"),
        (lambda p: relabelled_zip(p / "a.zip", 8, b"\0\0", b"\1\0"), "has a password"),
        (lambda p: invalid_utf8_zip(p / "a.zip"), "cannot be read"),
        (lambda p: long_name_tar(p / "a.tar.gz", gzip.compress), "more memory or time"),
        (lambda p: long_name_tar(p / "a.tar.xz", _xz), "more memory or time"),
        (lambda p: pax_tar(p / "a.tar.gz", {"GNU.sparse.size": "zz"}), "cannot be read"),
        (lambda p: pax_tar(p / "a.tar.gz", {"GNU.sparse.map": "a,b,c"}), "cannot be read"),
        (lambda p: folder_with_link(p / "mallory"), "symbolic link"),
        (lambda p: folder_with_link(p / "mallory", "data.txt", own=True), "symbolic link"),
        (lambda p: class_with_linked_entry(p / "class"), "symbolic link"),
        (lambda p: class_with_linked_folder(p / "class"), "symbolic link"),
        (lambda p: _pipe(p / "a.zip"), "no regular file"),
    ],
)
def test_what_cannot_be_read_is_one_row_with_one_line(make, said, tmp_path):
    path = make(tmp_path)
    start = time.monotonic()
    (found,) = collect([path], HW)
    assert re.search(said, found.error)
    assert found.error == printable(found.error)
    assert found.data == b""
    assert time.monotonic() - start < 25


def invalid_utf8_zip(path: Path) -> Path:
    """A zip that flags its member's name as UTF-8 where it is none."""
    relabelled_zip(path, 46, b"hw1", b"\xff\xfe\xfd")
    raw = bytearray(path.read_bytes())
    start = raw.rindex(b"PK\1\2")
    raw[start + 9] = 0x08
    return _write(path, bytes(raw))


def _xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("error", [ValueError("x"), MemoryError(), RecursionError(), UnicodeError("a\nb")])
@pytest.mark.parametrize("broken", ["_from_student", "read_archive", "_from_file"])
def test_an_error_that_nobody_foresaw_is_that_hand_ins_row(error, broken, tmp_path, monkeypatch):
    _write(_folder(tmp_path / "mal") / "hw1.ipynb", b"1")
    _write(tmp_path / "mal_hw1.py", b"2")
    zipped(tmp_path / "mal_hw1.zip", {"hw1.py": b"3"})
    for n in range(3):
        _write(_folder(tmp_path / f"ada{n}") / "hw1.ipynb", b"4")
    real = getattr(submission, broken)

    def raising(path: Path, *rest: object, **more: object) -> object:
        if "mal" in path.relative_to(tmp_path).parts[0]:
            raise error
        return real(path, *rest, **more)

    monkeypatch.setattr(submission, broken, raising)
    found = collect([tmp_path], HW)
    assert len(found) == 6
    bad = [s for s in found if s.error]
    assert bad
    assert {s.student for s in bad} == {"mal"}
    assert all(type(error).__name__ in s.error and s.error == printable(s.error) for s in bad)


@pytest.mark.parametrize("text", ["a\udcff", "a\x1b[2Jb", "\u202e"])
def test_what_is_said_of_any_name_can_be_printed_and_hashed(text, tmp_path):
    found = collect([tmp_path / f"{text}_hw1.ipynb", tmp_path / text], HW)
    for s in found:
        assert s.error
        assert s.error == printable(s.error)
        assert s.origin == printable(s.origin)
        assert len(s.fingerprint()) == 16
    assert len(Submission("a", "a", "a", error=text).fingerprint()) == 16


@pytest.mark.parametrize(
    ("files", "rows"),
    [
        # Whatever its type, an entry of a class's folder has a row; instructors' files have none.
        (
            [
                "ada_hw1.ipynb",
                "bob_hw1.pdf",
                "cleo_hw1.docx",
                "dan",
                "README.md",
                "expected.toml",
                "roster.csv",
            ],
            {"ada": "", "bob": ".pdf is no notebook", "cleo": ".docx is no", "dan": "a file without ending"},
        ),
        # As course sites export them.
        (["nora/hw1.zip", "omar/sub/work.tar.gz"], {"nora": "", "omar": ""}),
        (["nora/a.zip", "nora/b.zip"], {"nora": "holds 2 archives"}),
        (["nora/hw1.zip", "nora/data.zip"], {"nora": ""}),
        (["nora/essay.pdf", "omar/hw1.py"], {"nora": "holds no hw1.ipynb", "omar": ""}),
        (["hw1.zip"], {"class": ""}),
        # A folder with its own hand-in and others'.
        (["hw1.ipynb", "hw1.py", "ada_hw1.ipynb", "bob_hw1.zip"], {"class": "", "ada": "", "bob": ""}),
        (["hw1.ipynb", "ada_hw1/hw1.py", "cleo_hw1.pdf"], {"class": "", "ada": "", "cleo": ".pdf is no"}),
        (["hw1.ipynb", "my_plots.py", "old_notes.ipynb"], {"class": ""}),
        (["hw1.ipynb", "hw1.py", "notes.py", "my_plot.png", "data/x.txt"], {"class": ""}),
    ],
)
def test_nobody_in_a_folder_vanishes(files, rows, tmp_path):
    folder = tmp_path / "class"
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".zip"):
            zipped(path, {"hw1.py": b"1", "more.py": b"2"})
        elif name.endswith(".gz"):
            tarred(path, [tarfile.TarInfo("hw1/hw1.py")])
        else:
            path.write_bytes(b"1")
    found = collect([folder], HW)
    assert {s.student: bool(s.error) for s in found} == {who: bool(said) for who, said in rows.items()}
    assert len(found) == len(rows)
    assert all(rows[s.student] in s.error for s in found)


def test_an_entry_of_a_class_archive_that_is_no_notebook_has_a_row(tmp_path):
    path = zipped(
        tmp_path / "class.zip", {"ada_hw1.ipynb": b"1", "bob/hw1.ipynb": b"2", "cleo_hw1.pdf": b"3"}
    )
    assert {s.student: bool(s.error) for s in collect([path], HW)} == {
        "ada": False,
        "bob": False,
        "cleo": True,
    }


def test_a_path_named_directly_may_be_a_link(tmp_path):
    _write(_folder(tmp_path / "ada") / "hw1.ipynb", b"1")
    (tmp_path / "one.ipynb").symlink_to(tmp_path / "ada" / "hw1.ipynb")
    (tmp_path / "all").symlink_to(tmp_path / "ada")
    for name in ("one.ipynb", "all"):
        (found,) = collect([tmp_path / name], HW)
        assert (found.data, found.error) == (b"1", "")


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _dangling(path: Path) -> Path:
    path.symlink_to("/nowhere/at/all")
    return path


@given(st.text())
def test_any_text_becomes_a_name_that_is_safe_to_write(text):
    name = safe_name(text)
    assert 0 < len(name.encode()) <= 200
    assert not set(name) & set("/\\:*?\"<>|\0\n\r\t $`;&=+@'")
    assert not name.startswith((".", "-"))
    assert ".." not in name
    assert safe_name(name) == name


@pytest.mark.parametrize("letter", ["a", "ü", "李", "\U00020000", "a."])
def test_a_long_name_is_cut_to_what_file_systems_take(letter, tmp_path):
    name = safe_name(letter * 500)
    assert 190 < len(name.encode()) <= 200
    assert safe_name(name) == name
    (tmp_path / f"{name}-1000.ipynb").write_bytes(b"")


@given(st.text())
def test_printable_text_holds_nothing_that_a_terminal_obeys(text):
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", printable(text))


@pytest.mark.parametrize(
    "name", ["=cmd()_hw1.ipynb", "Zoë K_hw1.ipynb", "李雷_hw1.ipynb", "a\u202eb_hw1.ipynb"]
)
def test_odd_file_names_keep_their_student_apart(name, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    (found,) = collect([tmp_path / name], HW)
    assert found.error == ""
    assert found.student == printable(name.split("_")[0])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limits")
@pytest.mark.parametrize(
    ("work", "ends"),
    [
        ("while True: pass", {-signal.SIGXCPU, -signal.SIGKILL}),
        ("bytearray(1 << 30)", {1}),  # MemoryError
        ("import os; os.write(os.open('written', os.O_CREAT | os.O_WRONLY), b'x')", {1, -signal.SIGXFSZ}),
    ],
    ids=["processor time", "memory", "files"],
)
def test_the_archives_reader_bounds_itself(work, ends, tmp_path):
    bound = "u.bound(dataclasses.replace(u.ONE, cpu_s=1))"
    code = f"import dataclasses; from autograder import unpack_child as u; {bound}\n{work}"
    environ = os.environ | {"PYTHONPATH": str(Path(submission.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, timeout=30, stderr=-3)
    assert done.returncode in ends
    assert not any(f.stat().st_size for f in tmp_path.iterdir())


@pytest.mark.parametrize("script", ["while True: pass", "import os; os.abort()", "print('half an answer')"])
def test_a_reader_that_does_not_answer_is_one_line(script, tmp_path, monkeypatch):
    monkeypatch.setattr(archive.unpack_child, "__file__", str(_write(tmp_path / "child.py", script.encode())))
    monkeypatch.setattr(archive, "MOST_SECONDS", 1.0)
    (found,) = collect([zipped(tmp_path / "a.zip", {"hw1.py": b"1"})], HW)
    assert found.error == archive.unpack_child.TOO_MUCH


def test_an_archive_among_others_speaks_for_one_student_alone(tmp_path):
    """Its members are named for neighbours; theirs stay theirs, whether a folder or a glob names them."""
    folder = _folder(tmp_path / "class")
    for name in ("ada", "fay"):
        _write(folder / f"{name}_hw1.ipynb", b"own work")
    zipped(
        folder / "mal_hw1.zip", {"ada_hw1/hw1.ipynb": b"empty", "fay/hw1.ipynb": b"", "mal/hw1.ipynb": b"1"}
    )
    for named in ([folder], sorted(folder.iterdir())):
        found = {s.name: s for s in collect(named, HW)}
        assert set(found) == {"ada_hw1", "fay_hw1", "mal_hw1"}
        assert all(s.counted for s in found.values())
        assert found["ada_hw1"].data == found["fay_hw1"].data == b"own work"
        assert "not one hw1.ipynb" in found["mal_hw1"].error


def test_a_link_among_several_paths_is_not_followed(tmp_path):
    secret = _write(tmp_path / "solution.ipynb", b"the answer")
    (tmp_path / "mal_hw1.ipynb").symlink_to(secret)
    other = _write(tmp_path / "ada_hw1.ipynb", b"1")
    by_glob = {s.student: s for s in collect([tmp_path / "mal_hw1.ipynb", other], HW)}
    assert "symbolic link" in by_glob["mal"].error
    assert by_glob["ada"].data == b"1"
    (alone,) = collect([tmp_path / "mal_hw1.ipynb"], HW)
    assert alone.data == b"the answer", "the one that is named is meant"
