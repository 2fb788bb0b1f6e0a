"""The main job on a small homework: scores, reports, resume, the clean start, what students may see."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from autograder.assignment import Limits, load_assignment
from autograder.classroom import Plan, grade_class, opened_sandboxes
from autograder.grade import failed, named_otherwise
from autograder.report import gradebook, html_report, plain
from autograder.screen import remark
from autograder.submission import Submission, collect
from autograder.verify import verify

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "mlsys_lab"
SECRET = 987654321.5

pytestmark = pytest.mark.slow

SOLVED = {
    "double": "def double(x):\n    return x + x\n",
    "mean": "def mean(x):\n    return x.sum() / x.size\n",
}


def notebook(*cells: str, metadata: dict[str, Any] | None = None) -> bytes:
    made = [
        {
            "cell_type": "code",
            "id": f"c{i}",
            "metadata": metadata or {},
            "execution_count": 7,
            "outputs": [{"output_type": "stream", "name": "stdout", "text": "an old output"}],
            "source": c,
        }
        for i, c in enumerate(cells)
    ]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


@pytest.fixture
def assignment(toy, tmp_path):
    """The toy homework with one more hidden test, which knows a secret."""
    folder = tmp_path / "toy"
    shutil.copytree(toy, folder)
    (folder / "tests" / "hidden" / "test_secret.py").write_text(
        "import numpy as np\nimport pytest\nfrom autograder.compare import close\n"
        '@pytest.mark.question("q2")\n@pytest.mark.points(0)\n@pytest.mark.hidden\n'
        "def test_secret(student):\n"
        f'    """Another mean"""\n    close(student.mean(np.full(3, {SECRET})), {SECRET}, input={SECRET})\n'
    )
    return load_assignment(folder)


def graded(assignment, folder, files, *, level="namespaces", nbval=False, out=None, **options):
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    found = collect([folder], assignment)
    out = out or folder.parent / "out"
    rows = grade_class(found, assignment, Plan(level, LIBRARY, nbval, 2), out, **options)
    return {r.student: r for r in rows}, out


def test_scores_are_the_points_of_the_passed_tests(sandboxed, assignment, tmp_path):
    half = SOLVED["double"] + "def mean(x):\n    return x[0] * 0 + 3.0\n"
    files = {
        "full_toy.ipynb": notebook("import numpy as np", SOLVED["double"], SOLVED["mean"]),
        "half_toy.ipynb": notebook("import numpy as np", half),
        "none_toy.py": b"# %%\ndef double(x):\n    raise NotImplementedError\n",
    }
    rows, out = graded(assignment, tmp_path / "class", files)
    assert {k: (r.score, r.max_score, r.status) for k, r in rows.items()} == {
        "full": (18, 18, "graded"),
        "half": (14, 18, "graded"),
        "none": (0, 18, "graded"),
    }
    with (out / "gradebook.csv").open(newline="") as stream:
        book = {line["student"]: line for line in csv.DictReader(stream)}
    assert (book["half"]["q1"], book["half"]["q2"], book["half"]["score"]) == ("9", "5", "14")


def test_a_fault_of_the_grader_is_one_row_that_says_so(sandboxed, assignment, tmp_path, monkeypatch):
    def broken(*args, **options):
        raise KeyError("a fault")

    monkeypatch.setattr("autograder.classroom.grade", broken)
    rows, _ = graded(assignment, tmp_path / "class", {"ada_toy.py": b"x = 1"})
    assert (rows["ada"].status, rows["ada"].score) == ("error", 0)
    assert rows["ada"].message == "the grader failed on it (KeyError); grade it by hand and report this"


def test_of_a_students_several_the_newest_that_can_be_graded_counts(sandboxed, assignment, tmp_path):
    right = notebook("import numpy as np", SOLVED["double"], SOLVED["mean"])
    (tmp_path / "class").mkdir()
    files = {
        "ada_toy.ipynb": right,
        "ada_toy-late.ipynb": b"",
        "ada_toy-later.ipynb": b"{",
        "bob_toy.py": b"",
    }
    for age, (name, data) in enumerate(files.items()):
        (tmp_path / "class" / name).write_bytes(data)
        os.utime(tmp_path / "class" / name, (1e9 + age, 1e9 + age))
    found = collect([tmp_path / "class"], assignment)
    out = tmp_path / "out"
    rows = grade_class(found, assignment, Plan("namespaces", LIBRARY, False, 2), out)
    assert {r.name: (r.counted, r.status) for r in rows} == {
        "ada_toy": (True, "graded"),
        "ada_toy-late": (False, "error"),
        "ada_toy-later": (False, "error"),
        "bob_toy": (True, "error"),
    }
    stored = json.loads((out / "ada_toy" / "results.json").read_text())
    assert stored["extra_data"]["counted"] is True


def test_the_clean_start_counts_with_the_share_of_the_other_points(sandboxed, assignment, tmp_path):
    wrong_mean = "def mean(x):\n    return 0.0\n"
    files = {
        "runs_toy.ipynb": notebook("import numpy as np", SOLVED["double"], SOLVED["mean"]),
        "half_toy.ipynb": notebook("import numpy as np", SOLVED["double"], wrong_mean),
        "raises_toy.ipynb": notebook("import numpy as np", SOLVED["double"], SOLVED["mean"], "1 / 0"),
        "empty_toy.ipynb": notebook("x = 1"),
        "tagged_toy.ipynb": notebook(
            "import numpy as np",
            *SOLVED.values(),
            "1 / 0",
            metadata={"tags": ["raises-exception", "nbval-skip"]},
        ),
    }
    rows, _ = graded(assignment, tmp_path / "class", files, nbval=True)
    assert {k: (r.score, r.clean_start) for k, r in rows.items()} == {
        "runs": (20, 2),
        "half": (10, 1),
        "raises": (18, 0),
        "empty": (0, 0),
        "tagged": (18, 0),
    }
    assert "ZeroDivisionError" in rows["raises"].clean_start_message
    assert rows["runs"].max_score == 20


def test_a_check_inside_the_sandboxed_kernel_runs_the_public_tests(sandboxed, assignment, tmp_path):
    checked = "from autograder.check import check\nassert check('toy.q1', double) and check('toy.q2', mean)"
    files = {"ada_toy.ipynb": notebook("import numpy as np", *SOLVED.values(), checked)}
    rows, _ = graded(assignment, tmp_path / "class", files, nbval=True)
    assert rows["ada"].clean_start_message == "all 4 cells ran"


def test_the_same_folder_resumes_and_a_changed_submission_is_graded_again(sandboxed, assignment, tmp_path):
    files = {
        "ada_toy.ipynb": notebook("import numpy as np", *SOLVED.values()),
        "bob_toy.ipynb": notebook("import numpy as np", SOLVED["double"]),
    }
    started: list[str] = []
    keep = {"on_start": lambda s: started.append(s.student)}
    graded(assignment, tmp_path / "class", files, **keep)
    first = sorted(started)
    graded(assignment, tmp_path / "class", files, **keep)
    assert sorted(started) == first == ["ada", "bob"]
    files["bob_toy.ipynb"] = notebook("import numpy as np", *SOLVED.values())
    rows, out = graded(assignment, tmp_path / "class", files, **keep)
    assert started[2:] == ["bob"]
    assert rows["bob"].score == 18
    (out / "ada_toy" / "report.html").unlink()
    test = assignment.public[0]
    test.write_text(test.read_text() + "\n# another version of the tests\n")
    graded(load_assignment(assignment.folder), tmp_path / "class", files, **keep)
    assert sorted(started[3:]) == ["ada", "bob"]


def test_grading_one_more_student_into_the_folder_keeps_the_grades_of_the_class(
    sandboxed, assignment, tmp_path
):
    _, out = graded(assignment, tmp_path / "class", {f"{s}_toy.py": b"x = 1" for s in ("ada", "bob")})
    for late in ("eve", "fay", "gus"):
        graded(assignment, tmp_path / late, {f"{late}_toy.py": b"x = 1"}, out=out)
    assert "gus" in (out / "gradebook.csv").read_text()
    kept = [(out / f"earlier-gradebook-{n}.csv").read_text() for n in (1, 2, 3)]
    assert "ada" in kept[0]
    assert "bob" in kept[0]
    assert "eve" in kept[1]
    assert "fay" in kept[2]


class Reader(html.parser.HTMLParser):
    """What a page says, and which elements and addresses it has."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags, self.links = "", [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href") and v]

    def handle_data(self, data):
        self.text += data


def test_what_a_student_gets_holds_no_hidden_value_and_their_own_error_with_its_line(
    sandboxed, assignment, tmp_path
):
    evil = "<script>alert(1)</script><img src=http://x.example/y>\x1b[31m\u202e"
    text = (
        "def double(x):\n    y = 1\n    return nothing_here\n"
        f"def mean(x):\n    print({evil!r})\n    raise ValueError({evil!r} + repr(x))\n"
    )
    rows, out = graded(
        assignment, tmp_path / "class", {"eve_toy.ipynb": notebook("import numpy as np", text)}
    )
    page = (out / "eve_toy" / "report.html").read_text()
    result = (out / "eve_toy" / "results.json").read_text()
    for said in (page, result):
        assert "987654321" not in said, "a hidden test's input or value came out"
    reader = Reader()
    reader.feed(page)
    assert "NameError: name 'nothing_here' is not defined (cell 2, line 3)" in reader.text
    assert "script" not in reader.tags
    assert [link for link in reader.links if not link.startswith("#")] == []
    assert not set(page) & set("\x1b\u202e")
    assert "<script>alert(1)</script>" in reader.text, "shown as text"
    assert rows["eve"].score == 0


def test_results_json_has_gradescopes_fields(sandboxed, assignment, tmp_path):
    _, out = graded(assignment, tmp_path / "class", {"a_toy.py": SOLVED["double"].encode()})
    result = json.loads((out / "a_toy" / "results.json").read_text())
    known = {"score", "execution_time", "output", "output_format", "visibility", "tests", "extra_data"}
    assert set(result) <= known
    assert sum(t["score"] for t in result["tests"]) == result["score"] == 9
    for test in result["tests"]:
        assert set(test) <= {"name", "score", "max_score", "status", "output", "visibility", "number", "tags"}
        assert test["status"] in ("passed", "failed")
        assert 0 <= test["score"] <= test["max_score"]


def test_a_memory_hog_and_a_deadline_leave_the_next_question_its_points(sandboxed, assignment, tmp_path):
    limits = Limits(call_s=0.5, question_s=1.0, submission_s=8.0, memory_mb=256)
    tight = load_assignment(assignment.folder)
    object.__setattr__(tight, "limits", limits)
    text = "def double(x):\n    while True: pass\n" + SOLVED["mean"]
    rows, _ = graded(tight, tmp_path / "class", {"a_toy.py": text.encode()})
    assert rows["a"].score == 9
    timed_out = [t.message for t in rows["a"].tests if t.question == "q1"]
    assert "no answer within 0.5 s" in timed_out[0]
    assert "not run again" in timed_out[1]


def test_top_level_code_that_hangs_costs_only_what_needs_it(sandboxed, assignment, tmp_path):
    text = (
        "def wait():\n    while True: pass\nlimit = wait()\ndef double(x):\n    return x + x + limit\n"
        + SOLVED["mean"]
    )
    limits = dataclasses.replace(assignment.limits, question_s=2)
    quick = dataclasses.replace(assignment, limits=limits)
    rows, _ = graded(quick, tmp_path / "class", {"a_toy.py": text.encode()})
    assert rows["a"].score == 9
    assert any("Timeout" in note for note in rows["a"].notes)


def test_spawned_jobs_grade_as_forked_ones(sandboxed, assignment, tmp_path, monkeypatch):
    files = {"a_toy.py": "".join(SOLVED.values()).encode(), "b_toy.py": SOLVED["mean"].encode()}
    forked, _ = graded(assignment, tmp_path / "class", files)
    monkeypatch.setenv("MLSYS_LAB_START_METHOD", "spawn")
    spawned, _ = graded(assignment, tmp_path / "class", files, out=tmp_path / "other")
    assert (
        {k: r.score for k, r in spawned.items()}
        == {k: r.score for k, r in forked.items()}
        == {"a": 18, "b": 9}
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("a\rb", "a\nb"),
        ("left\u202eright", "leftright"),
        ("a\x00b\x08c", "abc"),
        ("\tindented", "    indented"),
        ("\ud800", ""),
    ],
)
def test_control_sequences_are_not_obeyed(text, shown):
    assert plain(text) == shown


def test_formulas_in_a_gradebook_are_text(assignment, tmp_path):
    from dataclasses import replace

    from autograder.grade import failed
    from autograder.submission import Submission

    row = failed(Submission("n", "=HYPERLINK(1)", "x"), assignment, "@sum", False, {})
    cells = list(csv.reader(gradebook([row], assignment).splitlines()))[1]
    assert "'=HYPERLINK(1)" in cells
    assert "'@sum" in cells
    assert "'-1+1" in gradebook([replace(row, student="-1+1")], assignment)


def test_a_report_of_an_ungraded_submission_says_why(assignment):
    from autograder.grade import failed
    from autograder.submission import Submission

    row = failed(Submission("n", "s", "x"), assignment, "the file is <empty>", True, {})
    page = html_report(row, assignment, {"version": "v", "sandbox": "none"})
    assert "the file is &lt;empty&gt;" in page
    assert "Graded without a sandbox" in page


def findings(assignment) -> dict[str, tuple[bool, tuple[str, ...]]]:
    return {f.claim: (f.ok, f.detail) for f in verify(assignment, library=LIBRARY, level="namespaces")}


def test_verify_holds_for_a_sound_homework_and_names_what_is_unsound(sandboxed, toy, tmp_path):
    from autograder.pair import pair

    folder = tmp_path / "toy"
    shutil.copytree(toy, folder)
    (folder / "mutants").mkdir()
    (folder / "mutants" / "triples.py").write_text(
        '"""Triples"""\n# kills: q1\ndef double(x):\n    return 3 * x\n'
    )
    pair(folder / "toy.py")
    sound = findings(load_assignment(folder))
    assert all(ok for ok, _ in sound.values()), sound
    assert len(sound) >= 7

    (folder / "mutants" / "survivor.py").write_text(
        '"""Right"""\n# kills: q2\ndef mean(x):\n    return x.mean()\n'
    )
    (folder / "tests" / "public" / "test_toy.py").open("a").write(
        '\n@pytest.mark.question("q1")\n@pytest.mark.points(1)\ndef test_always(student):\n    """Always"""\n'
    )
    (folder / "tests" / "public" / "test_told.py").write_text("# return x.sum() / x.size\nreturn_value = 1\n")
    broken = findings(load_assignment(folder))
    wrong = {claim: detail for claim, (ok, detail) in broken.items() if not ok}
    said = json.dumps(list(wrong.items()))
    assert "it keeps all points of q2" in said
    assert "add up to 21" in said
    assert "test_always gives 1" in said


def test_sandboxes_of_one_assignment_are_two_views(sandboxed, assignment):
    with opened_sandboxes(assignment, "namespaces", LIBRARY) as (workers, kernels):
        code = (
            "def double(x):\n"
            "    import importlib.util\n"
            "    return [importlib.util.find_spec(n) is not None\n"
            "            for n in ('mlsys_lab', 'autograder.grade')]\n"
        )
        with workers.worker() as worker:
            worker.load([code], ["double"])
            assert worker.student.double(0) == [False, False]
        assert kernels.view.tree is not None


#: All that a hidden test may say; nothing in it is the student's to choose.
FIXED = {
    "",
    "your code raised an exception",
    "not of the type or shape that is asked for; what it compared is withheld",
    "the values differ; what it compared is withheld",
    "what it compared is withheld",
    "MemoryError: more memory than allowed",
    "WorkerDied: the process that ran your code ended",
}
SMUGGLERS = [
    "np.zeros((int(x[0]), 0))",
    "np.zeros(3, dtype='S%d' % (int(x[0]) % 1000 + 1))",
    "{int(x[0]): 1}",
    "[0] * (int(x[0]) % 1000)",
    "'%r' % x[0]",
    "(_ for _ in ()).throw(type('E%d' % int(x[0]), (Exception,), {})(repr(x)))",
    "(_ for _ in ()).throw([KeyError, IndexError, OSError][int(x[0]) % 3](repr(x)))",
    "__import__('os')._exit(int(x[0]) % 256)",
    "10 ** 400",
    "-(10 ** 30)",
    "None",
]


def test_hidden_tests_say_only_fixed_words_whatever_the_code_returns_or_raises(
    sandboxed, assignment, tmp_path
):
    files = {
        f"s{i}_toy.py": f"import numpy as np\ndef mean(x):\n    return {expression}\n".encode()
        for i, expression in enumerate(SMUGGLERS)
    }
    rows, _ = graded(assignment, tmp_path / "class", files)
    for row in rows.values():
        assert row.status == "graded"
        assert {t.message for t in row.tests if t.hidden and t.question == "q2"} <= FIXED, row.name


GUARDS = [
    "IN = 'google.colab' in sys.modules\nif IN:\n    from google.colab import drive, nothing_of_ours",
    "try:\n    import google.colab\n    os.listdir('/content')\nexcept ImportError:\n    pass",
    "try:\n    assert not importlib.util.find_spec('google.colab')\nexcept ModuleNotFoundError:\n    pass",
]
MOUNTS = [
    "from google.colab import drive\ndrive.mount('/content/drive')\ndrive.flush_and_unmount()",
    "import google.colab.drive\ngoogle.colab.drive.mount('/content/drive')",
    "from google.colab import files\nfiles.download('a')\nassert files.upload() == {}",
]
INSTALLS = [
    "!pip --no-such-option",
    "!pip3 --no-such-option",
    "!/usr/bin/pip install a",
    "!python3.11 -m pip --no-such-option",
    "!{sys.executable} -m pip --no-such-option",
    "!python3 -u -m pip --no-such-option",
    "!PIP_NO_INPUT=1 pip --no-such-option",
    "%pip --no-such-option",
    "said = !pip --no-such-option\nassert 'not run here' in said[0]",
]


def test_a_notebook_from_colab_starts_clean(sandboxed, assignment, tmp_path):
    asks = "import importlib.util\nimport os\nimport sys\n"
    install = "\n".join(f"{line}\nassert '_exit_code' not in globals()" for line in INSTALLS)
    others = "!echo pip\nassert _exit_code == 0\nassert !echo a pip"
    others = "!echo pip\nassert _exit_code == 0"
    solved = ("import numpy as np", *SOLVED.values())
    files = {
        "ada_toy.ipynb": notebook(*MOUNTS, asks, install, others, *solved),
        "ben_toy.ipynb": notebook(asks, *GUARDS, *solved),
    }
    rows, _ = graded(assignment, tmp_path / "class", files, nbval=True)
    assert {r.name: r.clean_start_message for r in rows.values()} == {
        "ada_toy": "all 9 cells ran",
        "ben_toy": "all 7 cells ran",
    }
    assert {r.score for r in rows.values()} == {20}


def test_an_error_that_json_cannot_hold_is_an_error(sandboxed, assignment, tmp_path):
    cells = (*SOLVED.values(), "raise ValueError('\\udfff')")
    rows, _ = graded(
        assignment, tmp_path / "class", {"ada_toy.ipynb": notebook("import numpy as np", *cells)}, nbval=True
    )
    assert rows["ada"].clean_start_message.startswith("cell 4: ValueError")


def test_a_notebook_from_vs_code_starts_clean(sandboxed, assignment, tmp_path):
    earlier = "def mean(x):\n    return x[0]\n"
    cells = ["import numpy as np", earlier, *SOLVED.values(), 'check("toy.q2", mean, [])\n']
    made = json.loads(notebook("check = print\n", *cells))
    made["metadata"] = {"kernelspec": {"display_name": ".venv", "language": "python", "name": "nowhere"}}
    for cell in made["cells"]:
        cell["metadata"] = {"vscode": {"languageId": "python"}}
    rows, _ = graded(assignment, tmp_path / "class", {"ada_toy.ipynb": json.dumps(made).encode()}, nbval=True)
    assert rows["ada"].clean_start_message == f"all {len(made['cells'])} cells ran"
    assert rows["ada"].score == 20


def test_what_a_hidden_test_hands_over_comes_out_nowhere(sandboxed, assignment, tmp_path):
    keeps = (
        "kept = []\n"
        "def double(x):\n    return x + x\n"
        "def mean(x):\n"
        "    kept.append(float(x[0]))\n    print('seen', kept)\n    raise ValueError(repr(kept))\n"
    )
    _, out = graded(assignment, tmp_path / "class", {"spy_toy.ipynb": notebook("import numpy as np", keeps)})
    for path in (out / "spy_toy").iterdir():
        assert "seen" in path.read_text(), "what was printed in public tests is shown"
        assert "987654321" not in path.read_text()


@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("otto_hw2", ["the hand-in is named hw2, it was graded as hw1"]),
        ("hw12-final", ["the hand-in is named hw12, it was graded as hw1"]),
        ("ada_hw1", []),
        ("ada_hw1_from_hw2", []),
        ("ada_homework", []),
        ("shw2", []),
    ],
)
def test_a_hand_in_that_is_named_for_another_homework_is_graded_and_it_is_said(assignment, name, notes):
    handed_in = Submission(name=name, student="s", origin="o")
    assert named_otherwise(handed_in, dataclasses.replace(assignment, name="hw1")) == notes


def test_a_students_own_exception_is_not_taken_for_the_graders(sandboxed, assignment, tmp_path):
    code = "class Timeout(Exception): pass\ndef double(x): raise Timeout('no answer within 2 s')\n"
    rows, _ = graded(assignment, tmp_path / "in", {"ada_toy.py": code.encode()})
    row = rows["ada"]
    assert "ran out of time" not in remark(row)
    assert any("the code's own Timeout" in test.message for test in row.tests)


def test_the_table_says_first_where_an_error_is(assignment):
    submission = Submission("ada_toy", "ada", "ada_toy.ipynb")
    row = dataclasses.replace(
        failed(submission, assignment, "", False, {}),
        status="graded",
        notes=("it failed: SyntaxError: no (cell 7, line 2)",),
    )
    assert remark(row).endswith("cell 7, line 2: SyntaxError: no")
