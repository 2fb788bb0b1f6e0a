"""Wrong input to `grade` and `lab.py`: one clear line each, and everybody else graded as if alone."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; sys.argv[0] = 'mlsys-lab'; from mlsys_lab.cli import main; main()"

pytestmark = pytest.mark.slow

DOUBLE = "def double(x):\n    return x + x\n"
MEAN = "def mean(x):\n    return x.sum() / x.size\n"
RIGHT = DOUBLE + MEAN
FULL, HALF = 18, 9  # without the two points of a clean start


@dataclass(frozen=True)
class Outcome:
    """What a command did: its exit code and everything it said."""

    code: int
    said: str


@dataclass(frozen=True)
class HandIn:
    """One wrong hand-in: what is in it, and what its row must say."""

    id: str
    write: Callable[[Path], None]
    score: float
    said: str
    status: str = "graded"


def notebook(*cells: str, **top: Any) -> bytes:
    made = [
        {
            "cell_type": "code",
            "id": f"c{i}",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": c,
        }
        for i, c in enumerate(cells)
    ]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5} | top).encode()


def file(name: str, data: bytes | str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    return write


def code(student: str, text: str) -> Callable[[Path], None]:
    return file(f"{student}_toy.ipynb", notebook("import numpy as np", text))


def archive(name: str, members: dict[str, bytes], link: str = "") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as made:
            for member, data in members.items():
                made.writestr(member, data)
            if link:
                info = zipfile.ZipInfo("toy.ipynb")
                info.external_attr = 0o120777 << 16
                made.writestr(info, link)

    return write


def stubborn_loop(catch: str) -> str:
    loop = "        try:\n            while True: pass\n"
    return f"{MEAN}def double(x):\n    while True:\n{loop}        except {catch}: pass\n"


HAND_INS = [
    HandIn("empty file", file("empty_toy.ipynb", b""), 0, "the file is empty", "error"),
    HandIn("not a notebook", file("plain_toy.ipynb", '{"a": 1}'), 0, "not a notebook", "error"),
    HandIn(
        "a picture", file("picture_toy.png", b"\x89PNG"), 0, "is no notebook: hand in .ipynb or .py", "error"
    ),
    HandIn("invalid JSON", file("json_toy.ipynb", '{"cells": ['), 0, "not valid JSON", "error"),
    HandIn(
        "nbformat 99",
        file("future_toy.ipynb", notebook(RIGHT, nbformat=99)),
        0,
        "nbformat 99, not 4",
        "error",
    ),
    HandIn("a function is missing", code("lacking", DOUBLE), HALF, "not found in the submission: mean"),
    HandIn(
        "syntax error", code("syntax", RIGHT + "\n\ndef mean(x)\n"), 0, r"SyntaxError.*\(cell 2, line 7\)"
    ),
    HandIn("exception at import", code("import", f"import nothing_like_this\n{RIGHT}\nx = double"), FULL, ""),
    HandIn(
        "exception at import of what is used",
        code("needed", f"import nothing_like_this as n\ndef double(x):\n    return n.f(x)\n{MEAN}"),
        HALF,
        "ModuleNotFoundError: No module named 'nothing_like_this'",
    ),
    HandIn(
        "infinite loop",
        code("loop", f"{MEAN}def double(x):\n    while True: pass\n"),
        HALF,
        "no answer within 1 s",
    ),
    HandIn(
        "loop that swallows Ctrl-C",
        code("stub", stubborn_loop("KeyboardInterrupt")),
        HALF,
        "no answer within 1 s",
    ),
    HandIn(
        "loop that swallows all", code("born", stubborn_loop("BaseException")), HALF, "no answer within 1 s"
    ),
    HandIn(
        "os._exit(0)",
        code("exit", f"import os\n{MEAN}def double(x): os._exit(0)\n"),
        HALF,
        "ended its own process",
    ),
    HandIn(
        "segfault",
        code("segv", f"import ctypes\n{MEAN}def double(x): ctypes.string_at(0)\n"),
        HALF,
        "segmentation fault",
    ),
    HandIn(
        "2 GB", code("big", f"{MEAN}def double(x): return np.ones(2**28) * 2\n"), HALF, "MemoryError|Memory"
    ),
    HandIn(
        "50 MB of output",
        code("loud", f"{MEAN}def double(x):\n    for _ in range(50): print('x' * 2**20)\n    return x + x\n"),
        FULL,
        "",
    ),
    HandIn(
        "wrong type",
        code("type", f"{MEAN}def double(x): return 'two'\n"),
        HALF,
        "expected an array, got a value of type str",
    ),
    HandIn(
        "wrong shape",
        code("shape", f"{MEAN}def double(x): return (x + x).ravel()\n"),
        12,
        r"expected shape \(3, 4\)",
    ),
    HandIn("NaN", code("nan", f"{DOUBLE}def mean(x): return float('nan')\n"), HALF, "got nan"),
    HandIn(
        "zip with ../",
        archive("slip_toy.zip", {"../toy.ipynb": notebook(RIGHT)}),
        0,
        "points outside",
        "error",
    ),
    HandIn("zip with a link", archive("link_toy.zip", {}, link="/etc/passwd"), 0, "symbolic link", "error"),
    HandIn(
        "zip bomb", archive("bomb_toy.zip", {"toy.py": b"\0" * (80 << 20)}), 0, "more than 64 MiB", "error"
    ),
    HandIn(
        "spaces and unicode", file("Zoë van Dam_toy ü.ipynb", notebook("import numpy as np", RIGHT)), FULL, ""
    ),
    HandIn("a formula as a name", file("=cmd()_toy.ipynb", notebook("import numpy as np", RIGHT)), FULL, ""),
    HandIn(
        "deeply nested JSON",
        file("deep_toy.ipynb", "[" * 100_000),
        0,
        "nested too deeply|not valid JSON",
        "error",
    ),
    HandIn("not UTF-8", file("latin_toy.py", b"x = '\xe9\xff'"), 0, "not UTF-8", "error"),
]


def run(*arguments: str, cwd: Path, environ: dict[str, str] | None = None, timeout: float = 120) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Outcome(done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def graded(sandboxed, toy, tmp_path_factory) -> tuple[Outcome, dict[str, Any], Path]:
    """All wrong hand-ins, a missing file, a right one and one student's two, graded at once."""
    folder = tmp_path_factory.mktemp("class")
    for hand_in in HAND_INS:
        (place := folder / hand_in.id.replace("/", "_").replace(".", "_")).mkdir()
        hand_in.write(place)
    file("ada_toy.ipynb", notebook("import numpy as np", RIGHT))(folder)
    for place, age, text in (("first", 100, RIGHT), ("second", 0, DOUBLE)):
        (folder / place).mkdir()
        file("twice_toy.ipynb", notebook("import numpy as np", text))(folder / place)
        os.utime(folder / place / "twice_toy.ipynb", (1e9 - age,) * 2)
    paths = [str(p) for p in sorted(folder.rglob("*_toy*")) if p.is_file()]
    done = run("grade", str(toy), *paths, "gone_toy.ipynb", "--no-nbval", cwd=folder)
    summary = json.loads((folder / "grades" / "toy" / "summary.json").read_text())
    return done, summary, folder / "grades" / "toy"


def row_of(summary: dict[str, Any], student: str) -> dict[str, Any]:
    (row,) = [r for r in summary["submissions"] if r["student"] == student]
    return row


def all_said(out: Path, name: str) -> str:
    result = json.loads((out / name / "results.json").read_text())
    return "\n".join([result["output"], *(t["output"] for t in result["tests"])])


@pytest.mark.parametrize("hand_in", HAND_INS, ids=lambda h: h.id)
def test_a_wrong_hand_in_gets_one_clear_line(hand_in, graded):
    done, summary, out = graded
    assert done.code == 0
    assert "Traceback" not in done.said
    probe = out.parent.parent / "probe"
    shutil.rmtree(probe, ignore_errors=True)
    probe.mkdir()
    hand_in.write(probe)
    (path,) = probe.iterdir()
    row = row_of(summary, path.name.split("_")[0])
    assert (row["status"], row["score"], row["max_score"]) == (hand_in.status, hand_in.score, FULL)
    assert "\n" not in row["message"]
    assert bool(row["message"]) == (hand_in.status == "error")
    text = row["message"] if hand_in.status == "error" else all_said(out, row["name"])
    assert re.search(hand_in.said, text)


def test_the_neighbours_are_graded_as_if_alone(graded, toy, tmp_path):
    _, summary, _ = graded
    file("ada_toy.ipynb", notebook("import numpy as np", RIGHT))(tmp_path)
    run("grade", str(toy), "ada_toy.ipynb", "--no-nbval", cwd=tmp_path)
    alone = json.loads((tmp_path / "grades" / "toy" / "summary.json").read_text())["submissions"][0]
    beside = row_of(summary, "ada")
    assert {k: v for k, v in beside.items() if k != "seconds"} == {
        k: v for k, v in alone.items() if k != "seconds"
    }
    assert alone["score"] == FULL


def test_a_missing_file_is_a_row(graded):
    row = row_of(graded[1], "gone")
    assert (row["status"], row["score"], row["message"]) == ("error", 0, "there is no file gone_toy.ipynb")


def test_of_the_same_student_twice_the_newest_counts(graded):
    rows = [r for r in graded[1]["submissions"] if r["student"] == "twice"]
    assert sorted((r["score"], r["counted"]) for r in rows) == [(HALF, True), (FULL, False)]
    assert len({r["name"] for r in rows}) == 2


def test_printed_megabytes_are_capped_and_the_rest_is_dropped_with_a_note(graded):
    printed = json.loads((graded[2] / "loud_toy" / "results.json").read_text())["extra_data"]["printed"]
    assert len(printed) < 2.5 * 2**20
    assert "more bytes of output dropped" in printed


def test_the_gradebook_holds_no_formula(graded):
    with (graded[2] / "gradebook.csv").open(newline="", encoding="utf-8") as stream:
        cells = [cell for line in csv.reader(stream) for cell in line]
    assert "'=cmd()" in cells
    assert not [c for c in cells if re.match(r"[=+@]|-\D", c)]


def no_homework(toy: Path, tmp: Path) -> Outcome:
    return run("grade", "hw99", cwd=tmp)


def nothing_there(toy: Path, tmp: Path) -> Outcome:
    outcome = run("grade", str(toy), "gone_toy.ipynb", cwd=tmp)
    assert not (tmp / "grades").exists()
    return outcome


def a_notebook_where_the_homework_belongs(toy: Path, tmp: Path) -> Outcome:
    file("ada_toy.ipynb", notebook(RIGHT))(tmp)
    return run("grade", "ada_toy.ipynb", cwd=tmp)


def unknown_level(toy: Path, tmp: Path) -> Outcome:
    file("ada_toy.ipynb", notebook(RIGHT))(tmp)
    return run("grade", str(toy), "ada_toy.ipynb", "--sandbox", "moat", cwd=tmp)


def unknown_option(toy: Path, tmp: Path) -> Outcome:
    return run("grade", "--fast", cwd=tmp)


def no_private_tests(toy: Path, tmp: Path) -> Outcome:
    return run("grade", str(toy), "x.ipynb", "--tests", "nowhere", cwd=tmp)


def broken_toml(toy: Path, tmp: Path) -> Outcome:
    (tmp / "hwx").mkdir()
    (tmp / "hwx" / "assignment.toml").write_text("name = ")
    return run("grade", "hwx", "x.ipynb", cwd=tmp)


def broken_test(toy: Path, tmp: Path) -> Outcome:
    shutil.copytree(toy, tmp / "toy")
    (tmp / "toy" / "tests" / "public" / "test_broken.py").write_text("def test_x(student)\n")
    file("ada_toy.ipynb", notebook(RIGHT))(tmp)
    return run("grade", "toy", "ada_toy.ipynb", "--no-nbval", cwd=tmp)


def _toy_with(test: str) -> Callable[[Path, Path], Outcome]:
    def act(toy: Path, tmp: Path) -> Outcome:
        shutil.copytree(toy, tmp / "toy")
        (tmp / "toy" / "tests" / "public" / "test_added.py").write_text(f"import pytest\n{test}\n")
        file("ada_toy.ipynb", notebook(RIGHT))(tmp)
        return run("grade", "toy", "ada_toy.ipynb", "--no-nbval", cwd=tmp)

    act.__name__ = re.sub(r"\W+", "_", test)[-40:]
    return act


def no_tests(toy: Path, tmp: Path) -> Outcome:
    shutil.copytree(toy, tmp / "toy")
    for path in (tmp / "toy" / "tests").rglob("test_*.py"):
        path.unlink()
    (tmp / "test_foreign.py").write_text("raise SystemError('imported')\n")
    file("ada_toy.ipynb", notebook(RIGHT))(tmp)
    return run("grade", "toy", "ada_toy.ipynb", "--no-nbval", cwd=tmp)


def interrupted(toy: Path, tmp: Path) -> Outcome:
    for i in range(6):
        text = f"import time\n{MEAN}def double(x):\n    time.sleep(0.7)\n    return x + x\n"
        file(f"s{i}_toy.ipynb", notebook("import numpy as np", text))(tmp)
    paths = sorted(p.name for p in tmp.glob("*.ipynb"))
    # A shell's background job ignores SIGINT, and so would everything started by it.
    main = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {MAIN}"
    command = [sys.executable, "-c", main, "grade", str(toy), *paths, "--no-nbval", "--jobs", "1"]
    scratch = tempfile.mkdtemp(dir="/tmp")
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": scratch}
    process = subprocess.Popen(
        command,
        cwd=tmp,
        env=environ,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the whole group
    rest, out = process.stderr.read(), process.stdout.read() if process.stdout else ""
    summary = json.loads((tmp / "grades" / "toy" / "summary.json").read_text())
    assert 1 <= len(summary["submissions"]) < 6
    process.wait(30)
    assert os.listdir(scratch) == [], "no hand-in is left behind"
    os.rmdir(scratch)
    again = run("grade", str(toy), *paths, "--no-nbval", cwd=tmp)
    assert again.code == 0
    assert again.said.count("graded s") == 6 - len(summary["submissions"]), (
        "what was graded is not graded again"
    )
    time.sleep(0.3)
    assert not _processes_of(tmp), "nothing is left running"
    return Outcome(process.wait(30), first + rest + out)


def _processes_of(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd").startswith(str(folder)):
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


def disk_full(toy: Path, tmp: Path) -> Outcome:
    file("ada_toy.ipynb", notebook("import numpy as np", RIGHT))(tmp)
    full = tmp / "full"
    full.mkdir()
    enclosure = ["bwrap", "--dev-bind", "/", "/", "--size", "4096", "--tmpfs", str(full), "--chdir", str(tmp)]
    command = [*enclosure, sys.executable, "-c", MAIN, "grade", str(toy), "ada_toy.ipynb", "--no-nbval"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--out", str(full)],
        cwd=tmp,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Outcome(done.returncode, done.stdout + done.stderr)


def out_is_a_file(toy: Path, tmp: Path) -> Outcome:
    file("ada_toy.ipynb", notebook(RIGHT))(tmp)
    (tmp / "taken").write_text("")
    return run("grade", str(toy), "ada_toy.ipynb", "--out", "taken", "--no-nbval", cwd=tmp)


def foreign_autograder(toy: Path, tmp: Path) -> Outcome:
    (tmp / "autograder").mkdir()
    (tmp / "autograder" / "__init__.py").write_text("")
    return run("grade", cwd=tmp, environ={"PYTHONPATH": f"{tmp}{os.pathsep}{ROOT}"})


def bootstrap(tmp: Path, before: str) -> Outcome:
    shutil.copy(ROOT / "lab.py", tmp)
    shutil.copy(ROOT / "pyproject.toml", tmp)
    start = "import runpy; runpy.run_path('lab.py', run_name='__main__')"
    code = f"import sys; {before}; sys.argv = ['lab.py', 'open']; {start}"
    environ = {"PATH": "/nowhere", "HOME": str(tmp)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp, env=environ, capture_output=True, text=True, check=False
    )
    return Outcome(done.returncode, done.stdout + done.stderr)


def python_too_old(toy: Path, tmp: Path) -> Outcome:
    return bootstrap(tmp, "sys.version_info = (3, 8, 18, 'final', 0)")


def no_ensurepip(toy: Path, tmp: Path) -> Outcome:
    return bootstrap(tmp, "sys.modules['ensurepip'] = None")


def no_bubblewrap(toy: Path, tmp: Path) -> Outcome:
    file("ada_toy.ipynb", notebook("import numpy as np", RIGHT))(tmp)
    return run(
        "grade", str(toy), "ada_toy.ipynb", "--sandbox", "namespaces", cwd=tmp, environ={"PATH": "/nowhere"}
    )


def no_bubblewrap_and_no_level_asked_for(toy: Path, tmp: Path) -> Outcome:
    file("ada_toy.ipynb", notebook("import numpy as np", RIGHT))(tmp)
    no_uid = "import autograder.confine as c, autograder.sandbox as s; s.spare_uids = lambda: False; "
    command = [sys.executable, "-c", no_uid + MAIN, "grade", str(toy), "ada_toy.ipynb"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": "/nowhere"}
    done = subprocess.run(command, cwd=tmp, env=environ, capture_output=True, text=True, check=False)
    return Outcome(done.returncode, done.stdout + done.stderr)


COMMANDS: list[tuple[Callable[[Path, Path], Outcome], int, str]] = [
    (no_homework, 2, r"mlsys-lab: there is no homework or lab 'hw99'; there are: .*hw1"),
    (nothing_there, 2, r"mlsys-lab: there is no file gone_toy.ipynb: nothing to grade"),
    (a_notebook_where_the_homework_belongs, 2, r"name one first, as in `mlsys-lab grade hw1 ada_toy.ipynb`"),
    (unknown_level, 2, r"mlsys-lab: .*'moat'.* namespaces, uid, none"),
    (unknown_option, 2, r"mlsys-lab: No such option: --fast"),
    (no_private_tests, 2, r"mlsys-lab: the folder of private tests .*nowhere is not there"),
    (broken_toml, 2, r"mlsys-lab: .*assignment\.toml is not valid TOML"),
    (broken_test, 2, r"mlsys-lab: .*test_broken\.py.*cannot be collected"),
    (
        _toy_with('@pytest.mark.question("q1")\n@pytest.mark.points("three")\ndef test_x(): pass'),
        2,
        r"mlsys-lab: toy: test_added\.py::test_x needs the marks .* points\(NUMBER\)",
    ),
    (_toy_with("import sys\nsys.exit(3)"), 2, r"mlsys-lab: toy: pytest ended early: "),
    (
        _toy_with("pytest.importorskip('nothere')"),
        2,
        r"mlsys-lab: toy: .*test_added\.py skips itself as a whole",
    ),
    (no_tests, 2, r"mlsys-lab: toy: there are no tests$"),
    (interrupted, 130, r"mlsys-lab: interrupted; grades/toy has what was graded, the same command goes on"),
    (disk_full, 2, r"mlsys-lab: cannot write to .*full: No space left on device"),
    (out_is_a_file, 2, r"mlsys-lab: taken is a file: name a folder"),
    (foreign_autograder, 2, r"mlsys-lab: another package named autograder is imported from .*__init__\.py"),
    (python_too_old, 2, r"lab\.py: this is Python 3\.8\.18; MLSys Lab needs 3\.11, 3\.12 or 3\.13: "),
    (
        no_ensurepip,
        2,
        r"lab\.py: this Python cannot make environments \(no ensurepip\): `apt-get install python3",
    ),
    (no_bubblewrap, 2, r"mlsys-lab: .*bubblewrap.*apt-get install bubblewrap"),
    (
        no_bubblewrap_and_no_level_asked_for,
        2,
        r"mlsys-lab: no sandbox works here.*apt-get install bubblewrap.*--sandbox none",
    ),
]


@pytest.mark.parametrize(("act", "code", "said"), COMMANDS, ids=lambda c: getattr(c, "__name__", None))
def test_a_wrong_command_exits_with_its_code_and_one_line(act, code, said, sandboxed, toy, tmp_path):
    outcome = act(toy, tmp_path)
    assert outcome.code == code, outcome.said
    assert re.search(said, outcome.said)
    assert "Traceback" not in outcome.said
    last = [line for line in outcome.said.splitlines() if line.startswith(("mlsys-lab:", "lab.py:"))]
    assert len(last) == 1
