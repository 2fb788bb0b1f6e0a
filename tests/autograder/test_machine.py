"""A lab's own cell installs the framework it compares with: once, the build that fits, and says its size."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

from autograder import machine

ROOT = Path(__file__).resolve().parents[2]
TORCH = machine.FRAMEWORKS["torch"][0]
TENSORFLOW, TENSORFLOW_CPU = machine.FRAMEWORKS["tensorflow"][0], machine.TENSORFLOW_CPU[2]


@pytest.fixture
def pip(monkeypatch):
    """What would be installed: pip is not called, and nothing is found."""
    calls: list[list[str]] = []

    def run(command, check):
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(machine.subprocess, "run", run)
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(machine.importlib, "import_module", lambda name: f"module {name}")
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    return calls


def on(monkeypatch, system: str, processor: str) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: system)
    monkeypatch.setattr(machine.platform, "machine", lambda: processor)
    monkeypatch.setattr(machine, "has_nvidia_driver", lambda: False)


def test_what_is_there_is_not_installed_again(pip, monkeypatch, capsys):
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: object())
    assert machine.need("torch") == "module torch"
    assert pip == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("framework", "system", "processor", "ends"),
    [
        ("torch", "Linux", "x86_64", [machine.TORCH_CPU_INDEX, "--timeout", "15", TORCH]),
        ("torch", "Darwin", "arm64", ["--disable-pip-version-check", TORCH]),
        ("tensorflow", "Linux", "x86_64", ["--disable-pip-version-check", TENSORFLOW_CPU]),
        ("tensorflow", "Linux", "aarch64", ["--disable-pip-version-check", TENSORFLOW]),
        ("tensorflow", "Darwin", "arm64", ["--disable-pip-version-check", TENSORFLOW]),
        ("tensorflow", "Windows", "AMD64", ["--disable-pip-version-check", TENSORFLOW]),
    ],
)
def test_the_build_that_fits_is_installed_and_its_size_said(
    pip, monkeypatch, capsys, framework, system, processor, ends
):
    on(monkeypatch, system, processor)
    assert machine.need(framework) == f"module {framework}"
    (command,) = pip
    assert command[:3] == [sys.executable, "-m", "pip"]
    assert command[-len(ends) :] == ends
    assert f"about {machine.FRAMEWORKS[framework][1]} MB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("system", "processor", "asked", "megabytes"),
    [
        ("Linux", "x86_64", *machine.FRAMEWORKS["nvrtc"]),
        ("Windows", "AMD64", *machine.FRAMEWORKS["nvrtc"]),
        ("Linux", "aarch64", *machine.FRAMEWORKS["nvrtc"]),
        ("Darwin", "arm64", *machine.CLANG),
    ],
)
def test_a_compiler_of_cuda_is_nvidias_or_clang(
    pip, monkeypatch, capsys, system, processor, asked, megabytes
):
    on(monkeypatch, system, processor)
    monkeypatch.setattr(machine, "distributions", lambda name: iter(()))
    assert machine.need("nvrtc") is None
    assert [command[-1] for command in pip] == [asked]
    assert f"about {megabytes} MB" in capsys.readouterr().out


@pytest.mark.parametrize("there", machine.COMPILERS)
def test_one_compiler_of_cuda_is_enough(pip, monkeypatch, there):
    monkeypatch.setattr(machine, "distributions", lambda name: iter([name] if name == there else []))
    assert machine.need("nvrtc") is None
    assert pip == []


def test_what_cannot_be_installed_is_one_line(pip, monkeypatch):
    monkeypatch.setattr(machine.subprocess, "run", lambda c, check: subprocess.CompletedProcess(c, 1))
    with pytest.raises(RuntimeError, match="torch could not be installed"):
        machine.need("torch")


def test_the_versions_are_the_tested_ones():
    tested = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    asked = {requirement for requirement, _ in machine.FRAMEWORKS.values()}
    asked |= {TENSORFLOW_CPU, machine.CLANG[0]}
    assert asked <= set(tested)


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows"])
@pytest.mark.parametrize("processor", ["x86_64", "aarch64", "arm64", "AMD64"])
def test_a_cell_asks_for_what_the_extras_of_the_project_ask_for(system, processor):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    platform = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}[system]
    there = default_environment() | {"sys_platform": platform, "platform_machine": processor}
    for framework, extra in (("torch", "torch"), ("tensorflow", "tf"), ("nvrtc", "kernels")):
        found = [Requirement(text) for text in extras["optional-dependencies"][extra]]
        wanted = next(r for r in found if r.marker is None or r.marker.evaluate(there))
        name, version = machine.required(framework, system, processor)[0].split("==")
        assert wanted.name == name
        assert wanted.specifier.contains(version)


@pytest.mark.parametrize(
    "module", ["autograder.reference", "autograder.pair", "autograder.student", "autograder.run_notebook"]
)
def test_reading_notebooks_builds_no_grammar_of_addresses(module):
    code = f"import sys, {module}, nbformat, jsonschema; print('rfc3987_syntax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_check_reads_no_notebook_and_needs_none_of_the_tools_that_do():
    code = "import sys, autograder.check; print({'nbformat', 'jupytext', 'pytest'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
