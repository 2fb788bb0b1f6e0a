"""CPU cost of grading against nbval, otter-grader and nbgrader on the same notebook and tests.

`marginal` is what one more submission costs: (a batch of 6 less a batch of 1) / 5 for ours; a call of its
own for nbval and otter, which know no batches; nbgrader's batches of 4 and 1 likewise. `batch of 30` is the
whole command, start included. The peers' environment is made on first use.

    python benchmarks/grading.py [--quick] [--json FILE]
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

from measure import ROOT, Row, arguments, cpu_seconds, peers_environment, report, row

sys.path.insert(0, str(ROOT))

from autograder.assignment import Assignment, load_assignment
from autograder.notebook import code_cells
from autograder.run_tests import TestResult, collect_tests

HOMEWORK = "hw1"
HERE = Path(__file__).resolve().parent
ENVIRON = {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
MAIN = "import sys; sys.argv[0] = 'mlsys-lab'; from mlsys_lab.cli import main; main()"


class Course:
    """One homework in the forms that each grader wants, and n copies of its solved notebook."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs
        self.environ = ENVIRON | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        self.assignment: Assignment = load_assignment(ROOT / "assignments" / HOMEWORK)
        self.tests = [(p, t) for p in self._test_files() for t in collect_tests([p])]
        self.cells = code_cells(self.assignment.notebook.read_bytes())
        self.plain = folder / f"{HOMEWORK}.ipynb"
        self._write(self.plain, [(cell, None) for cell in self.cells])
        self._public_checks_beside(self.plain)
        self._otter()
        self._nbgrader()

    def _test_files(self) -> list[Path]:
        return [*self.assignment.public, *self.assignment.hidden]

    def _write(self, path: Path, cells: list[tuple[str, dict[str, object] | None]]) -> None:
        made = [
            {
                "cell_type": "code",
                "id": f"c{i}",
                "metadata": {"nbgrader": marks} if marks else {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            }
            for i, (source, marks) in enumerate(cells)
        ]
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        notebook = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook))

    def _public_checks_beside(self, notebook: Path) -> None:
        """The notebook's own `check` cells work wherever a grader runs it."""
        tree = self.folder / "tree" / "assignments" / HOMEWORK
        (tree / "tests").mkdir(parents=True)
        shutil.copytree(self.assignment.folder / "tests" / "public", tree / "tests" / "public")
        shutil.copy(self.assignment.folder / "assignment.toml", tree)
        self.environ["MLSYS_LAB_COURSE"] = str(self.folder / "tree")

    def _otter(self) -> None:
        tests = self.folder / "otter" / "tests"
        tests.mkdir(parents=True)
        for question in dict.fromkeys(t.question for _, t in self.tests):
            lines = ["from otter.test_files import test_case", "OK_FORMAT = False", f"name = {question!r}"]
            lines += ["points = None", "from same_tests import run_test"]
            for path, t in self.tests:
                if t.question == question:
                    lines += [f"@test_case(points={t.points}, hidden={t.hidden})", f"def {t.name}(env):"]
                    lines += [f"    run_test({str(path)!r}, {t.name!r}, env)"]
            (tests / f"{question}.py").write_text("\n".join(lines) + "\n")
        self.otter_zip = tests.parent / "autograder.zip"
        generate = [str(self.programs / "otter"), "generate", "-t", str(tests), "-o", str(self.otter_zip)]
        cpu_seconds([*generate, "--no-environment"], cwd=tests.parent, environ=self.environ)

    def _nbgrader(self) -> None:
        self.nbgrader = self.folder / "nbgrader"
        cells: list[tuple[str, dict[str, object] | None]] = [(cell, None) for cell in self.cells]
        cells += [(self._test_cell(path, t), self._marks(t)) for path, t in self.tests]
        self._write(self.nbgrader / "source" / HOMEWORK / f"{HOMEWORK}.ipynb", cells)
        (self.nbgrader / "nbgrader_config.py").write_text(
            "c = get_config()\nc.CourseDirectory.course_id = 'bench'\n"
            "c.ClearSolutions.enforce_metadata = False\nc.ExecutePreprocessor.timeout = 120\n"
        )
        command = [str(self.programs / "nbgrader"), "generate_assignment", HOMEWORK, "--force"]
        cpu_seconds(command, cwd=self.nbgrader, environ=self.environ)
        self.for_nbgrader = cells

    def _test_cell(self, path: Path, test: TestResult) -> str:
        return f"from same_tests import run_test\nrun_test({str(path)!r}, {test.name!r}, globals())"

    def _marks(self, test: TestResult) -> dict[str, object]:
        return {
            "grade": True,
            "grade_id": test.name,
            "locked": True,
            "points": test.points,
            "schema_version": 3,
            "solution": False,
            "task": False,
            "cell_type": "code",
        }

    def ours(self, n: int, *options: str) -> float:
        """CPU seconds of our grading of n submissions, into a fresh folder."""
        with tempfile.TemporaryDirectory() as place:
            names = [f"s{i}_{HOMEWORK}.ipynb" for i in range(n)]
            for name in names:
                shutil.copy(self.assignment.notebook, Path(place) / name)
            command = [sys.executable, "-c", MAIN, "grade", HOMEWORK, *names, "--jobs", "1", *options]
            spent = cpu_seconds(command, cwd=Path(place), environ=self.environ)
            rows = json.loads((Path(place) / "grades" / HOMEWORK / "summary.json").read_text())["submissions"]
            assert len(rows) == n
            assert all(r["score"] == r["max_score"] for r in rows), rows
            return spent

    def nbval(self, n: int) -> float:
        """CPU seconds of n calls of pytest with nbval on the notebook."""
        command = [
            str(self.programs / "python"),
            "-m",
            "pytest",
            "--nbval-lax",
            "-q",
            "-p",
            "no:cacheprovider",
        ]
        command += ["--nbval-cell-timeout=120", str(self.plain)]
        return sum(cpu_seconds(command, cwd=self.folder, environ=self.environ) for _ in range(n))

    def otter(self, n: int) -> float:
        """CPU seconds of n calls of `otter run`, its grading without a container."""
        command = [str(self.programs / "otter"), "run", "-a", str(self.otter_zip), "--no-logo"]
        spent = 0.0
        for _ in range(n):
            with tempfile.TemporaryDirectory() as place:
                shutil.copy(self.plain, place)
                spent += cpu_seconds(
                    [*command, "-o", place, str(Path(place) / self.plain.name)],
                    cwd=Path(place),
                    environ=self.environ,
                )
                scored = json.loads((Path(place) / "results.json").read_text())
                earned = sum(t.get("score", 0) for t in scored["tests"])
                assert earned == sum(t.points for _, t in self.tests), "otter must pass every test"
        return spent

    def nbgrader_batch(self, n: int) -> float:
        """CPU seconds of `nbgrader autograde` on n submissions."""
        shutil.rmtree(self.nbgrader / "submitted", ignore_errors=True)
        shutil.rmtree(self.nbgrader / "autograded", ignore_errors=True)
        for i in range(n):
            place = self.nbgrader / "submitted" / f"s{i}" / HOMEWORK
            place.mkdir(parents=True)
            shutil.copy(self.nbgrader / "source" / HOMEWORK / f"{HOMEWORK}.ipynb", place)
        command = [str(self.programs / "nbgrader"), "autograde", HOMEWORK, "--force"]
        spent = cpu_seconds(command, cwd=self.nbgrader, environ=self.environ)
        graded = self.nbgrader.glob(f"autograded/s*/{HOMEWORK}/{HOMEWORK}.ipynb")
        wrong = [p for p in graded if '"output_type": "error"' in p.read_text()]
        assert not wrong, "nbgrader must pass every test"
        return spent


def main() -> int:
    options = arguments(__doc__ or "")
    rounds, batch, more = (1, 2, 2) if options.quick else (3, 30, 5)
    with tempfile.TemporaryDirectory(prefix="mlsys-lab-bench-") as place:
        course = Course(Path(place), peers_environment("grading"))
        marginal, full, nbval, otter, nbgrader = [], [], [], [], []
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            nbval.append(course.nbval(1))
            marginal.append((course.ours(1 + more, "--no-nbval") - course.ours(1, "--no-nbval")) / more)
            otter.append(course.otter(1))
            full.append((course.ours(1 + more) - course.ours(1)) / more)
            nbgrader.append((course.nbgrader_batch(4) - course.nbgrader_batch(1)) / 3)
        rows = [
            row("marginal, tests alone", "pytest --nbval-lax", marginal, nbval, "CPU s", 0.15),
            row("marginal, tests and clean start", "pytest --nbval-lax", full, nbval, "CPU s", 1.15),
            row("marginal, tests alone", "otter-grader 7.0.0", marginal, otter, "CPU s", 1.0),
            row("marginal, tests and clean start", "otter-grader 7.0.0", full, otter, "CPU s", 1.0),
            row("marginal, tests alone", "nbgrader 0.9.6", marginal, nbgrader, "CPU s", 1.0),
            row("marginal, tests and clean start", "nbgrader 0.9.6", full, nbgrader, "CPU s", 1.0),
        ]
        rows += batches(course, batch, nbval, otter)
    return report(rows, options)


def batches(course: Course, n: int, one_nbval: list[float], one_otter: list[float]) -> list[Row]:
    """A class of n, once; nbval and otter know none: n times the median call measured above."""
    print(f"batches of {n}", file=sys.stderr)
    alone, both, nbgrader = [course.ours(n, "--no-nbval")], [course.ours(n)], [course.nbgrader_batch(n)]
    nbval, otter = [n * median(one_nbval)], [n * median(one_otter)]
    case = f"batch of {n}"
    return [
        row(f"{case}, tests alone", "pytest --nbval-lax", alone, nbval, "CPU s", 0.15),
        row(f"{case}, tests and clean start", "pytest --nbval-lax", both, nbval, "CPU s", 1.15),
        row(f"{case}, tests alone", "otter-grader 7.0.0", alone, otter, "CPU s", 1.0),
        row(f"{case}, tests alone", "nbgrader 0.9.6", alone, nbgrader, "CPU s", 1.0),
        row(f"{case}, tests and clean start", "otter-grader 7.0.0", both, otter, "CPU s", 1.0),
        row(f"{case}, tests and clean start", "nbgrader 0.9.6", both, nbgrader, "CPU s", 1.0),
    ]


if __name__ == "__main__":
    sys.exit(main())
