"""Exports of course systems and class lists: whose work is whose, on a class of thirty with real names."""

from __future__ import annotations

import re
import unicodedata
import zipfile
from pathlib import Path

import pytest

from autograder.assignment import Assignment, UsageError
from autograder.collect import gather
from autograder.roster import read_roster
from tests.autograder.exports import (
    CLASS,
    PLAIN,
    Student,
    canvas_export,
    canvas_members,
    gradescope_members,
    moodle_members,
    plain_members,
    roster,
    without_the_flag,
    zipped,
)

HW = Assignment(name="hw1", title="", folder=Path(), source=Path("hw1.py"), public=())

MEMBERS = {
    "canvas": canvas_members,
    "gradescope": gradescope_members,
    "moodle": moodle_members,
    PLAIN: plain_members,
}
#: A class list of one kind for each source; what of a hand-in it can be matched by.
ROSTERS = {
    "canvas": canvas_export({"HW1 (12345)": {}}).decode("utf-8"),
    "gradescope": roster(
        {"Email": lambda s: s.email.upper(), "Name": lambda s: s.name, "SID": lambda s: s.sid}
    ),
    "moodle": roster(
        {"Section": lambda s: "A", "name": lambda s: unicodedata.normalize("NFD", s.sortable.upper())}
    ),
    PLAIN: roster({"login": lambda s: s.login, "student": lambda s: s.name, "id": lambda s: s.sid}),
}
SOURCES = pytest.mark.parametrize("source", MEMBERS, ids=lambda s: s if s.isalpha() else "regex")


def work(student: Student) -> bytes:
    return f"work of {student.number}".encode()


def export(tmp_path: Path, source: str, **options: object) -> Path:
    return zipped(tmp_path / "export.zip", MEMBERS[source](work, homework="hw1", **options))  # type: ignore[operator]


def class_list(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "class.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def whose(found: list) -> dict[str, bytes]:
    return {s.sender.key: s.data for s in found if s.counted}


@SOURCES
def test_every_one_of_thirty_is_found_with_their_own_work(source, tmp_path):
    found = gather([export(tmp_path, source)], HW, source=source)
    assert sorted(s.data for s in found) == sorted(work(s) for s in CLASS)
    assert len({s.name.casefold() for s in found}) == 30
    assert not [s.error for s in found if s.error]
    assert all(s.counted for s in found)


@SOURCES
def test_the_roster_gives_each_hand_in_to_its_student_and_to_nobody_else(source, tmp_path):
    people = read_roster(class_list(tmp_path, ROSTERS[source]))
    found = gather([export(tmp_path, source)], HW, source=source, roster=people)
    rows = {f"roster:{p.row}": s for p, s in zip(people.people, CLASS, strict=True)}
    assert whose(found) == {key: work(s) for key, s in rows.items()}
    assert len({s.student for s in found}) == 30


@SOURCES
def test_an_unpacked_export_is_read_as_the_archive_is(source, tmp_path):
    path = export(tmp_path, source)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked here")
    packed = gather([path], HW, source=source)
    folder = gather([tmp_path / "unpacked here"], HW, source=source)
    assert [(s.name, s.student, s.data, s.sender) for s in folder] == [
        (s.name, s.student, s.data, s.sender) for s in packed
    ]


def test_names_that_a_mac_packed_again_keep_their_umlauts(tmp_path):
    members = {f"hw1 handed in/submissions/{k}": v for k, v in canvas_members(work, homework="hw1").items()}
    found = gather([without_the_flag(zipped(tmp_path / "a.zip", members))], HW, source="canvas")
    assert {s.student for s in found} == {s.squeezed for s in CLASS}


def test_canvas_marks_who_is_late_and_numbers_what_has_the_same_name(tmp_path):
    path = export(tmp_path, "canvas", late=frozenset({103, 110}))
    found = {s.sender.ids[0]: s.sender for s in gather([path], HW, source="canvas")}
    assert {i for i, who in found.items() if who.late} == {"90103", "90110"}
    assert {i for i, who in found.items() if who.attempt == 2} == {s.canvas_id for s in CLASS[::5]}


def test_of_canvas_two_notebooks_of_one_name_the_later_counts(tmp_path):
    members = {
        "ada_LATE_7_11_hw1-1.ipynb": b"second",
        "ada_LATE_7_10_hw1.ipynb": b"first",
        "ada_LATE_7_12_notes-3.py": b"",
        "bob_8_20_notes-4.ipynb": b"no",
        "bob_8_21_hw1.ipynb": b"yes",
        "anon_x9Yz2_30_hw1.ipynb": b"nameless",
        "LATE_anon_x9Yz3_31_hw1.ipynb": b"nameless and late",
    }
    found = gather([zipped(tmp_path / "a.zip", members)], HW, source="canvas")
    rows = [(s.student, s.sender.attempt, s.sender.late, s.data, s.counted) for s in found]
    assert sorted(rows) == [
        ("ada", 1, True, b"first", False),
        ("ada", 2, True, b"second", True),
        ("anon_x9Yz2", 1, False, b"nameless", True),
        ("anon_x9Yz3", 1, True, b"nameless and late", True),
        ("bob", 5, False, b"yes", True),
    ]


def test_a_students_own_archive_within_the_export_is_one_hand_in(tmp_path):
    inner = zipped(tmp_path / "inner.zip", {"stuff/hw1.ipynb": b"mine", "stuff/x_hw1.ipynb": b"not a class"})
    bomb = zipped(tmp_path / "bomb.zip", {"hw1.ipynb": b"\0" * (80 << 20)})
    members = {
        "ada_1_10_work.zip": inner.read_bytes(),
        "bob_2_20_work.zip": bomb.read_bytes(),
        "cleo_3_30_hw1.ipynb": b"\0" * (33 << 20),
        "dan_4_text.html": b"<p>see my repository</p>",
        "eve_5_50_report.pdf": b"%PDF",
        "fay_6_60_hw1.ipynb": b"fine",
    }
    found = {s.student: s for s in gather([zipped(tmp_path / "a.zip", members)], HW, source="canvas")}
    assert {k: s.data for k, s in found.items() if not s.error} == {"ada": b"mine", "fay": b"fine"}
    said = {k: s.error for k, s in found.items() if s.error}
    assert set(said) == {"bob", "cleo", "dan", "eve"}
    assert "64 MiB" in said["bob"]
    assert "32 MiB" in said["cleo"]
    assert said["dan"] == "text was handed in, no notebook"
    assert said["eve"] == "holds no hw1.ipynb or hw1.py; .pdf is no notebook"


def test_a_group_on_gradescope_is_a_row_for_each_of_it_and_the_time_is_its_own(tmp_path):
    text = (
        "submission_1:\n  :submitters:\n  - :name: Ada\n    :sid: 007\n    :email: ada@x.org\n"
        "  - :name: Bob\n    :sid: '8'\n    :email: bob@x.org\n  :created_at: 2027-02-01T10:00:00+08:00\n"
        "submission_2:\n  :submitters:\n  - :name: Cleo\n    :sid:\n    :email: cleo@x.org\n"
    )
    members = {
        "submission_metadata.yml": text.encode(),
        "submission_1/hw1.py": b"both",
        "submission_9/hw1.py": b"?",
    }
    found = {s.student: s for s in gather([zipped(tmp_path / "a.zip", members)], HW, source="gradescope")}
    assert (found["Ada"].data, found["Bob"].data) == (b"both", b"both")
    assert found["Ada"].sender.sent_at == "2027-02-01T10:00:00+08:00"
    assert found["Cleo"].error == "its folder is not in the export"
    assert found["submission_9"].error.startswith("is not in submission_metadata.yml")


def test_without_folders_moodle_names_the_files_so(tmp_path):
    members = moodle_members(work, homework="hw1", folders=False)
    members["Ann Lee_3000999_assignsubmission_onlinetext_/onlinetext.html"] = b"<p>"
    found = gather([zipped(tmp_path / "a.zip", members)], HW, source="moodle")
    assert sorted(s.data for s in found if not s.error) == sorted(work(s) for s in CLASS)
    assert [s.error for s in found if s.student == "Ann Lee"] == ["text was handed in, no notebook"]


def test_who_sent_nothing_gets_a_row_and_who_is_not_in_the_roster_stays_with_one(tmp_path):
    members = {k: v for k, v in canvas_members(work, homework="hw1").items() if "_90105_" not in k}
    members["mallorymal_666_99_hw1.ipynb"] = b"who"
    people = read_roster(class_list(tmp_path, ROSTERS["canvas"]))
    found = gather([zipped(tmp_path / "a.zip", members)], HW, source="canvas", roster=people)
    assert [(s.student, s.error) for s in found if s.error] == [("O'Brien, Seán", "no submission")]
    assert [s.student for s in found if s.sender.match == "not in the roster"] == ["mallorymal"]
    assert len(found) == 31


def test_files_are_matched_by_login_address_id_or_name(tmp_path):
    (tmp_path / "class").mkdir()
    names = {
        "ada_l_hw1": b"login",
        "42_hw1": b"id",
        "jörg MÜLLER_hw1": b"name",
        "cleo_hw1": b"address",
        "x_hw1": b"",
    }
    for name, data in names.items():
        (tmp_path / "class" / f"{unicodedata.normalize('NFD', name)}.ipynb").write_bytes(data)
    text = "name,login,id,email\nAda L,ada_l,1,\n,,42,\n'Müller, Jörg',,3,\nCleo B,,4,cleo@x.org\n".replace(
        "'", '"'
    )
    people = read_roster(class_list(tmp_path, text))
    found = gather([tmp_path / "class"], HW, roster=people)
    assert {s.data: s.student for s in found} == {
        b"login": "Ada L",
        b"id": "42",
        b"name": "Müller, Jörg",
        b"address": "Cleo B",
        b"": "x",
    }


def test_a_name_that_two_have_matches_neither_and_an_id_does(tmp_path):
    people = read_roster(class_list(tmp_path, "name,id\nLi Na,1\nna li,2\nTan Bo,3\n"))
    assert [note.partition(": ")[2] for note in people.notes] == [
        "the name na li is also in row 2; the two are told apart by id, login or address only"
    ]
    members = {"lina_1_10_hw1.py": b"by id", "lina_77_11_hw1.py": b"by name", "tanbo_78_12_hw1.py": b"clear"}
    found = gather([zipped(tmp_path / "a.zip", members)], HW, source="canvas", roster=people)
    said = {s.data: (s.sender.key, s.sender.match) for s in found if not s.error}
    assert said == {
        b"by id": ("roster:2", "id 1"),
        b"by name": ("canvas:77", "not in the roster: rows 2 and 3 have that name"),
        b"clear": ("roster:4", "name"),
    }


REFUSED = [
    (
        "canvas",
        lambda: moodle_members(work),
        r"expected files named lastfirst_.*found 30 files, such as 'Ada Lovelace_",
    ),
    ("canvas", lambda: moodle_members(work), r"it looks like --from moodle$"),
    (
        "moodle",
        lambda: gradescope_members(work),
        r"expected folders or files named Full Name.*--from gradescope$",
    ),
    (
        "gradescope",
        lambda: canvas_members(work),
        r"expected folders submission_ID and submission_metadata.*canvas$",
    ),
    ("gradescope", dict, "found no files"),
    ("canvas", lambda: {"holiday.jpg": b""}, r"found 1 files, such as 'holiday.jpg'$"),
    (r"(?P<student>\d+)\.py", lambda: canvas_members(work), r"expected paths that match .* as a whole"),
    (
        "canvas",
        lambda: canvas_members(work, homework="hw2"),
        r"expected hand-ins of hw1, found 30 of 30 named hw2",
    ),
    ("canvas", lambda: {"a_1_2_hw1.py": b"", "../x": b""}, "points outside of it"),
    ("gradescope", lambda: {"submission_1/a.py": b"", "submission_metadata.yml": b"a: ["}, "cannot be read"),
    (
        "gradescope",
        lambda: {"submission_1/a.py": b"", "submission_metadata.yml": b"7"},
        "lists no submissions",
    ),
    (
        "gradescope",
        lambda: {"submission_1/a.py": b"", "submission_metadata.yml": b"s: 1"},
        "s has no :submitters",
    ),
    (r"(?P<student>\w)(?P<attempt>x)\.py", lambda: {"ax.py": b""}, "attempt is 'x', and no number"),
    ("canvs", dict, r"takes files, canvas, gradescope, moodle or a regular .*got 'canvs'"),
    ("(?P<student>", dict, "is not valid"),
    (r"(?P<name>\w+)", dict, "has the group student .* this one has name"),
]


@pytest.mark.parametrize(
    ("source", "members", "said"), REFUSED, ids=[f"{r[0][:9]}-{n}" for n, r in enumerate(REFUSED)]
)
def test_an_export_of_another_shape_or_homework_is_refused_in_one_line(source, members, said, tmp_path):
    path = zipped(tmp_path / "export.zip", members())
    with pytest.raises(UsageError, match=said) as refused:
        gather([path], HW, source=source)
    assert "\n" not in str(refused.value)


def test_an_export_of_another_course_is_refused_by_the_roster(tmp_path):
    people = read_roster(class_list(tmp_path, "name,id\nSomebody Else,1\n"))
    with pytest.raises(
        UsageError, match=r"none of the 30 hand-ins .*class.csv: .*another course.*Found .*Somebody"
    ):
        gather([export(tmp_path, "canvas")], HW, source="canvas", roster=people)


ROSTER_REFUSED = [
    (b"", "class.csv is empty"),
    (b" \n\n", "class.csv is empty"),
    (b"name,id\n", "has a header and no students"),
    (
        b"colour,size\nred,3\n",
        "has none of the columns name, student, id, login, email; it has: colour, size",
    ),
    ("name,id\nJörg,1\n".encode("latin-1"), "row 2: byte 0xf6 is not UTF-8: save it as CSV UTF-8"),
    ("name,id\nAda,1\n".encode("utf-16"), "is UTF-16"),
    (b"name,id\nAda,1\nBob,1\n", "row 3: the id 1 is also in row 2"),
    (b"name,login\nAda,x\nBob,X\n", "row 3: the login x is also in row 2"),
    (b"name\nAda B\nB Ada\n", "row 3: the name B Ada is also in row 2: give both an id or a login"),
    (b"name,section\nAda,1\n,2\n", "row 3: no name, id, login or email in it"),
    (b"name,id\nLovelace, Ada,1\n", "row 2: 3 cells where the header has 2: quote a name that holds a comma"),
    (b'name,id\n"Ada,1\n' + b"x" * 200_000, "row .*field larger than field limit"),
    (b"name,id\nAda\0,1\n", "zero bytes"),
]


@pytest.mark.parametrize(("data", "said"), ROSTER_REFUSED, ids=[r[1][-20:] for r in ROSTER_REFUSED])
def test_a_roster_that_is_wrong_is_refused_in_one_line_that_names_the_row(data, said, tmp_path):
    path = tmp_path / "class.csv"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=said) as refused:
        read_roster(path)
    assert "\n" not in str(refused.value)
    assert "class.csv" in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "Section;E-Mail;Full Name;Student ID\nA;zoe@x.org;Zoë Ö;7\nB;li@x.org;Li;8\n",
        "\ufefffirst_name,last name,SIS Login ID\r\nZoë,Ö,zoe@x.org\r\n,Li,li@x.org\r\n",
        "student\tname\nzoe@x.org\tÖ, Zoë\nli@x.org\tLi\n",
        "Name,Email\rZoë Ö,zoe@x.org\rLi,li@x.org\r",
        "LastName,FirstName,ID,SIS User ID,SIS Login ID,Section,HW1 (12)\n,,,,,,Manual Posting\n"
        "    Points Possible,,,,,,100\nÖ,Zoë,1,S1,zoe@x.org,A,\nLi,,2,S2,li@x.org,A,\n"
        "Student,Test,9,,f00,A,\n",
    ],
    ids=["semicolons", "two columns and a mark", "tabs", "an old Mac's", "Canvas with two name columns"],
)
def test_a_class_list_is_read_in_any_order_and_separator(text, tmp_path):
    people = read_roster(class_list(tmp_path, text)).people
    assert [p.names for p in people] == [{"zoëö", "özoë"}, {"li"}]
    assert [p.email or p.login for p in people] == ["zoe@x.org", "li@x.org"]


def test_a_missing_roster_is_said(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_roster(tmp_path / "class.csv")


EXPORT = ("grade", "hw1", "export.zip", "--from")
DOORS: list[tuple[str, dict[str, str], tuple[str, ...], str]] = [
    (
        "no such source",
        {},
        (*EXPORT, "canvs"),
        r"--from takes files, canvas, gradescope, moodle or .*got 'canvs'",
    ),
    (
        "another shape",
        {},
        (*EXPORT, "moodle"),
        r"export.zip: expected folders .*it looks like --from canvas$",
    ),
    (
        "another homework",
        {},
        ("grade", "hw2", "export.zip", "--from", "canvas"),
        "of hw2, found 30 of 30 named hw1",
    ),
    ("no export", {}, ("grade", "hw1", "gone.zip", "--from", "canvas"), "there is no file gone.zip"),
    (
        "no export named",
        {},
        ("grade", "hw1", "--from", "canvas"),
        "name the export after hw1, as in `hw1 sub",
    ),
    (
        "no archive",
        {"a.txt": "x"},
        ("grade", "hw1", "a.txt", "--from", "canvas"),
        "a.txt is no archive and no fol",
    ),
    (
        "damaged",
        {"a.zip": "x"},
        ("grade", "hw1", "a.zip", "--from", "canvas"),
        "a.zip: the archive cannot be read",
    ),
    (
        "another course",
        {"class.csv": "name,id\nSomebody Else,1\n"},
        (*EXPORT, "canvas", "--roster", "class.csv"),
        "none of the 30 hand-ins in export.zip is of a student of class.csv: is it the export of another",
    ),
    (
        "a roster with one id twice",
        {"class.csv": "name,id\nJörg,1\nÄnne,1\n"},
        (*EXPORT, "canvas", "--roster", "class.csv"),
        "the roster class.csv, row 3: the id 1 is also in row 2",
    ),
    ("no roster", {}, (*EXPORT, "canvas", "--roster", "gone.csv"), "the roster gone.csv cannot be read"),
    ("a plan", {"course.toml": "late = 3"}, (*EXPORT, "canvas"), "course.toml: late is a table, got 3"),
]


@pytest.mark.parametrize(("files", "arguments", "said"), [d[1:] for d in DOORS], ids=[d[0] for d in DOORS])
def test_a_wrong_door_exits_with_2_and_one_line_before_anything_is_graded(
    files, arguments, said, command, tmp_path, sandboxed
):
    zipped(tmp_path / "export.zip", canvas_members(work, homework="hw1"))
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    outcome = command(*arguments)
    assert outcome.code == 2, outcome
    assert re.search(said, outcome.err), outcome.err
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("mlsys-lab: ")
    assert not (tmp_path / "grades").exists()
