"""lab.py on other people's machines: an old Python, each platform's torch, a stale environment."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from autograder import machine
from autograder.pair import SETUP

ROOT = Path(__file__).resolve().parents[2]
CPU_INDEX = ["--extra-index-url", "https://download.pytorch.org/whl/cpu", "--timeout", "15"]


@pytest.fixture(scope="module")
def lab() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lab_bootstrap", ROOT / "lab.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_imports_the_standard_library_alone(lab):
    tree = ast.parse((ROOT / "lab.py").read_text())
    names = {
        (a.name if isinstance(n, ast.Import) else n.module or "").split(".")[0]
        for n in ast.walk(tree)
        if isinstance(n, ast.Import | ast.ImportFrom)
        for a in n.names
    }
    assert names <= set(sys.stdlib_module_names)


def test_has_no_syntax_newer_than_python_2(lab):
    text = (ROOT / "lab.py").read_text()
    ast.parse(text, feature_version=(3, 4))
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(
            node, ast.JoinedStr | ast.AnnAssign | ast.NamedExpr | ast.Nonlocal | ast.Starred
        )
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None
            assert not node.args.kwonlyargs
            assert all(a.annotation is None for a in node.args.args)


@pytest.mark.parametrize(
    "name", ["python2", "python2.7", "python3.6", "python3.8", "python3.9", "python3.10"]
)
def test_a_real_old_python_reads_it_and_says_what_is_needed(name):
    try:
        done = subprocess.run([name, "lab.py", "open"], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        pytest.skip(f"no {name} on this machine")
    if done.returncode == 127:
        pytest.skip(f"no {name} on this machine")
    assert done.returncode == 2
    assert re.fullmatch(
        r"lab\.py: this is Python [\d.]+; MLSys Lab needs 3\.11, 3\.12 or 3\.13: .+\n", done.stderr
    )


@pytest.mark.parametrize(
    ("system", "environ", "nvidia", "expected"),
    [
        ("Linux", {}, False, CPU_INDEX),
        ("Linux", {}, True, []),
        ("Linux", {"PIP_FIND_LINKS": "/wheels"}, False, []),
        ("Linux", {"PIP_INDEX_URL": "https://mirror.example/simple"}, False, []),
        ("Darwin", {}, False, []),
        ("Windows", {}, False, []),
        ("Windows", {}, True, []),
    ],
)
def test_which_torch_per_platform(lab, system, environ, nvidia, expected):
    assert lab.torch_arguments(system, environ, nvidia) == expected
    assert machine.torch_arguments(system, environ, nvidia) == expected, "a lab's own cell chooses alike"


def test_every_command_asks_for_extras_that_exist(lab):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {extra for extras in lab.EXTRAS.values() for extra in extras}
    assert asked <= set(project["optional-dependencies"])
    assert asked <= set(lab.EXTRA_MB)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["demo", "warp"], "demo warp"),
        (["demo", "autograd"], "demo"),
        (["kernel", "copy", "--json"], "kernel"),
        ([], ""),
    ],
)
def test_a_demo_that_compiles_kernels_gets_the_compiler_and_the_others_do_not(
    lab, monkeypatch, arguments, command
):
    asked = []

    def prepare(name):
        asked.append(name)
        raise SystemExit(0)

    monkeypatch.setattr(lab, "prepare", prepare)
    with pytest.raises(SystemExit):
        lab.main(arguments)
    assert asked == [command]


def test_learning_needs_neither_torch_nor_tensorflow(lab):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = list(project["dependencies"])
    for extra in lab.EXTRAS["open"]:
        needed += project["optional-dependencies"][extra]
    assert not [n for n in needed if re.match(r"(torch|tensorflow|cupy)", n)]


def test_a_change_of_pyproject_place_or_constraints_makes_the_environment_stale(lab, tmp_path, monkeypatch):
    source = tmp_path / "pyproject.toml"
    source.write_text("a = 1")
    monkeypatch.setattr(lab, "HERE", str(tmp_path))
    first = lab.fingerprint(str(source))
    assert lab.fingerprint(str(source)) == first
    (tmp_path / "constraints.txt").write_text("numpy==2.4.0")
    second = lab.fingerprint(str(source))
    source.write_text("a = 2")
    third = lab.fingerprint(str(source))
    monkeypatch.setattr(lab, "HERE", str(tmp_path / "elsewhere"))
    assert len({first, second, third, lab.fingerprint(str(source))}) == 4


@pytest.mark.parametrize("text", ["", "not json", "{}", '{"fingerprint": 1}', "[1]"])
def test_a_broken_stamp_means_set_up_again(lab, tmp_path, text):
    (tmp_path / "stamp").write_text(text)
    assert lab.read_stamp(str(tmp_path / "stamp")) == ("", [])


def _fake_installer(tmp_path: Path, name: str) -> Path:
    """A stand-in that writes down how it was called and makes what an installer would have made."""
    path = tmp_path / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        f"with open({str(tmp_path / 'calls.jsonl')!r}, 'a') as f: f.write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "if sys.argv[1] == 'venv':\n"
        "    os.makedirs(sys.argv[-1] + '/bin')\n"
        "    os.symlink(sys.executable, sys.argv[-1] + '/bin/python')\n"
        "else:\n"
        "    p = os.path.dirname(sys.argv[sys.argv.index('--python') + 1]) + '/mlsys-lab'\n"
        "    open(p, 'w').write('#!/bin/sh\\necho handed over: \"$@\"\\n'); os.chmod(p, 0o755)\n"
    )
    path.chmod(0o755)
    return path


@pytest.mark.skipif(os.name == "nt", reason="writes a shell script")
def test_uses_uv_where_it_is_says_the_size_and_hands_the_arguments_over(tmp_path):
    place = tmp_path / "a place with ümlaut"
    place.mkdir()
    for name in ("lab.py", "pyproject.toml"):
        (place / name).write_bytes((ROOT / name).read_bytes())
    _fake_installer(tmp_path, "uv")
    environ = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PIP_FIND_LINKS": "/some/wheels"}
    command = [sys.executable, str(place / "lab.py"), "grade", "hw1", "--out", "x y"]
    first = subprocess.run(command, capture_output=True, text=True, env=environ, check=True, cwd=tmp_path)
    again = subprocess.run(command, capture_output=True, text=True, env=environ, check=True, cwd=tmp_path)
    assert first.stdout == "handed over: grade hw1 --out x y\n" == again.stdout
    assert re.search(r"about \d+ MB on disk, once; nothing outside this folder changes", first.stderr)
    assert "From now on you can also call: " in first.stderr
    assert again.stderr == ""
    calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert [c[0] for c in calls] == ["venv", "pip"]
    assert calls[1][-1] == f"{place}[grade]"
    assert "/some/wheels" in calls[1]


@pytest.mark.skipif(os.name == "nt", reason="writes a shell script")
def test_a_failed_install_is_one_line_and_is_tried_again(tmp_path):
    for name in ("lab.py", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    uv = _fake_installer(tmp_path, "uv")
    working = uv.read_text()
    uv.write_text("#!/bin/sh\n[ $1 = venv ] && mkdir -p .venv/bin && exit 0\necho no network >&2\nexit 1\n")
    environ = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = [sys.executable, "lab.py", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(
        "lab.py: installing failed (see above); when that is mended, the same command goes on\n"
    )
    uv.write_text(working)
    subprocess.run(["rm", "-r", str(tmp_path / ".venv")], check=True)
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_a_students_repository_installs_the_wheel_that_came_with_it(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "HERE", str(tmp_path))
    (tmp_path / "wheels").mkdir()
    with pytest.raises(SystemExit) as stopped:
        lab.what_to_install()
    assert stopped.value.code == 2
    wheel = tmp_path / "wheels" / "mlsys_lab_course-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"")
    assert lab.what_to_install() == ([str(wheel)], str(wheel))
    names = [f"mlsys_lab_course-{v}-py3-none-any.whl" for v in ("0.9.1", "0.10.0", "0.2.0")]
    for name in names:
        (tmp_path / "wheels" / name).write_bytes(b"")
    newest = tmp_path / "wheels" / names[1]
    assert lab.what_to_install() == ([str(newest)], str(newest))
    # A notebook of its own takes the same one.
    chosen = next(line.strip() for line in SETUP.splitlines() if line.strip().startswith("newest = "))
    near = {"near": [f"../wheels/{name}" for name in names], "os": os, "re": re}
    exec(chosen, near)
    assert near["newest"] == f"../wheels/{names[1]}"
