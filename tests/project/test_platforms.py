"""Each cell of the platform table resolves: operating system x architecture x Python, from wheels alone.

pip downloads for every cell, so this runs where it is asked for: MLSYS_LAB_REQUIRE=platforms.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINUX = [f"manylinux_2_{n}_{{0}}" for n in (34, 31, 28, 27, 24, 17)] + ["manylinux2014_{0}"]
SYSTEMS = {
    ("linux", "x86_64"): [tag.format("x86_64") for tag in LINUX],
    ("linux", "aarch64"): [tag.format("aarch64") for tag in LINUX],
    ("darwin", "arm64"): [f"macosx_{n}_0_arm64" for n in (14, 13, 12, 11)] + ["macosx_10_9_universal2"],
    ("win32", "AMD64"): ["win_amd64"],
}
PYTHONS = ("3.11", "3.12", "3.13")
EXTRAS = ("lab", "grade", "release", "browser", "tf", "kernels")


def wanted(system: str, machine: str, python: str) -> list[str]:
    """The direct requirements whose markers hold there."""
    texts = list(PROJECT["dependencies"])
    for extra in EXTRAS:
        texts += PROJECT["optional-dependencies"][extra]
    there = default_environment() | {
        "sys_platform": system,
        "platform_machine": machine,
        "python_version": python,
        "os_name": "nt" if system == "win32" else "posix",
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system],
    }
    found = [Requirement(text) for text in texts]
    return [f"{r.name}{r.specifier}" for r in found if r.marker is None or r.marker.evaluate(there)]


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("system", "machine"), SYSTEMS)
def test_a_cell_of_the_platform_table_resolves_from_wheels(system, machine, python, tmp_path):
    if "platforms" not in os.environ.get("MLSYS_LAB_REQUIRE", "").split(","):
        pytest.skip("the platform table downloads for minutes: MLSYS_LAB_REQUIRE=platforms runs it")
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
    command += ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    for tag in SYSTEMS[system, machine]:
        command += ["--platform", tag]
    command += ["--target", str(tmp_path), "--no-deps", *wanted(system, machine, python)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
