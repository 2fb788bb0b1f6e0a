"""The project holds its own rules: floors, types, style, dependencies, what the repository says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", *arguments)


def test_ruff_finds_nothing():
    done = python("ruff", "check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout


def test_the_code_is_formatted():
    done = python("ruff", "format", "--no-cache", "--check", ".")
    assert done.returncode == 0, done.stdout


def test_mypy_finds_nothing(tmp_path):
    done = python("mypy", "--cache-dir", str(ROOT / ".mypy_cache"))
    assert done.returncode == 0, done.stdout


def linted(cwd: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(cwd)!r}); {code}"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_imports_go_down_the_floors_only():
    done = linted(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("mlsys_lab/_core/upward.py", "from mlsys_lab.viz import style"),
        ("mlsys_lab/_core/upward.py", "def f():\n    import mlsys_lab.cli"),
        ("mlsys_lab/serving/__init__.py", "import mlsys_lab.capacity"),
        ("mlsys_lab/nn/__init__.py", "import mlsys_lab.compile"),
        ("autograder/upward.py", "def f():\n    import mlsys_lab"),
    ],
)
def test_an_import_that_goes_up_is_found(path, line, tmp_path):
    for package in ("mlsys_lab", "autograder"):
        for source in (ROOT / package).rglob("*.py"):
            target = tmp_path / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    for floor in ("autograd", "nn", "optim", "compile", "kernels", "distributed", "serving", "capacity"):
        (tmp_path / "mlsys_lab" / floor).mkdir(exist_ok=True)
        (tmp_path / "mlsys_lab" / floor / "__init__.py").touch()
    assert linted(tmp_path).returncode == 0
    (tmp_path / path).write_text(line + "\n")
    assert linted(tmp_path).returncode == 1


def test_nothing_happens_at_import():
    code = (
        "import sys, threading, os; before = dict(os.environ)\n"
        "import mlsys_lab, mlsys_lab.viz, autograder, autograder.check, autograder.compare\n"
        "heavy = {'torch', 'tensorflow', 'cupy', 'sklearn', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert threading.active_count() == 1 and dict(os.environ) == before\n"
    )
    done = run(sys.executable, "-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def names(requirements: list[str]) -> dict[str, str]:
    """Requirement name to the rest of the line, in one spelling."""
    found = {}
    for requirement in requirements:
        name, rest = re.fullmatch(r"([\w.-]+)(?:\[[^]]*\])?\s*(.*)", requirement).groups()  # type: ignore[union-attr]
        found[name.lower().replace("_", "-")] = rest
    return found


def test_environment_yml_asks_for_what_pyproject_asks_for():
    import yaml

    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    tail = next(d["pip"] for d in environment if isinstance(d, dict))
    conda = names([d for d in environment if isinstance(d, str) and not re.match(r"(python|pip)\b(?!-)", d)])
    ours = names(PROJECT["project"]["dependencies"])
    for extra, wanted in PROJECT["project"]["optional-dependencies"].items():
        if extra not in ("dev", "test"):
            ours |= names(wanted)
    ours |= names([r for r in PROJECT["project"]["optional-dependencies"]["test"] if "[" not in r])
    spelled = {"pytorch": "torch", "cupy": "cupy-cuda13x"}  # conda-forge's name: ours
    theirs = {spelled.get(k, k): v for k, v in conda.items()} | names(
        [t for t in tail if not t.startswith("-e")]
    )
    assert set(ours) == set(theirs)
    for name, rest in ours.items():
        if name != "cupy-cuda13x":  # a platform marker here, a build string there
            assert theirs[name] == rest, name


def test_constraints_pin_each_direct_dependency_within_its_range():
    from packaging.requirements import Requirement

    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    pinned = {k.lower().replace("_", "-"): v for k, v in pins.items()}
    wanted = [*PROJECT["project"]["dependencies"]]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += [r for r in extra if not r.startswith("mlsys-lab-course")]
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is None:
            name = requirement.name.lower().replace("_", "-")
            assert pinned[name] in requirement.specifier, name


def tracked() -> list[Path]:
    done = run("git", "ls-files", "--cached", "--others", "--exclude-standard")
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def test_top_level_holds_what_was_planned_and_nothing_else():
    planned = {
        *("README.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "LICENSE-text", "NOTICE"),
        *("lab.py", "pyproject.toml", "constraints.txt", "environment.yml"),
        *("labs", "mlsys_lab", "assignments", "autograder", "benchmarks", "tests"),
        *(".devcontainer", ".github", ".ci", ".gitignore"),
    }
    assert {p.relative_to(ROOT).parts[0] for p in tracked()} <= planned


def test_no_path_of_a_machine_and_no_host_but_torchs_index():
    wrong = re.compile(r"/(root|work|home/\w+|Users/\w+)/[\w.]|pypi\.org/simple|registry\.npmjs|file:///opt")
    for path in tracked():
        if path.suffix in (".py", ".md", ".toml", ".txt", ".yml", ".html", ".ipynb", ".json", ".cff", ""):
            text = path.read_text(encoding="utf-8", errors="replace")
            if path != Path(__file__):
                assert not wrong.search(text), (path, wrong.search(text))


def test_no_file_of_the_packages_is_longer_than_350_lines():
    long = {
        str(p.relative_to(ROOT)): n
        for package in ("mlsys_lab", "autograder")
        for p in (ROOT / package).rglob("*.py")
        if (n := len(p.read_text(encoding="utf-8").splitlines())) > 350
    }
    assert long == {}


COMMANDS = [
    *("open", "check", "submit", "grade", "verify", "release", "doctor", "test", "demo", "kernel"),
    *("estimate", "gradebook", "update"),
]


def test_readme_names_only_commands_that_exist():
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    said = set(re.findall(r"(?:lab\.py|mlsys-lab) ([a-z]+)", text))
    code = "import sys; sys.argv = ['mlsys-lab', '--help']; from mlsys_lab.cli import main; main()"
    help_text = run(sys.executable, "-c", code).stdout
    listed = set(re.findall(r"^  ([a-z]+)  ", help_text, re.MULTILINE))
    assert listed == set(COMMANDS)
    assert said <= listed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    code = (
        f"import sys; sys.argv = ['mlsys-lab', {command!r}, '--help']; from mlsys_lab.cli import main; main()"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0
    assert f"Example: mlsys-lab {command}" in " ".join(done.stdout.split())


def test_the_version_is_one_number_everywhere():
    import mlsys_lab
    from autograder import VERSION

    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert citation is not None
    assert {PROJECT["project"]["version"], VERSION, mlsys_lab.__version__, citation[1]} == {VERSION}
