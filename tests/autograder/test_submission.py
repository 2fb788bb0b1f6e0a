"""What was handed in: which file is graded, under what name, and one clear line for what cannot be read."""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder.assignment import Assignment
from autograder.submission import collect, printable, safe_name

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
    ],
)
def test_what_cannot_be_read_is_one_row_with_one_line(make, said, tmp_path):
    (found,) = collect([make(tmp_path)], HW)
    assert re.search(said, found.error)
    assert "\n" not in found.error
    assert found.data == b""


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
    assert 0 < len(name) <= 100
    assert not set(name) & set("/\\:*?\"<>|\0\n\r\t $`;&=+@'")
    assert not name.startswith((".", "-"))
    assert ".." not in name
    assert safe_name(name) == name


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
