"""A notebook from a clean start: nbval here, the kernel in the sandbox."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from autograder.assignment import Limits
from autograder.run_notebook import NotebookRun, run_notebook
from autograder.sandbox import Sandbox, View

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kernels(sandboxed: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    tree = tmp_path_factory.mktemp("tree")
    tree.chmod(0o755)
    (tree / "given.txt").write_text("from the course")
    view = View(
        packages=(ROOT / "mlsys_lab", ROOT / "autograder"),
        tree=tree,
        preload=("ipykernel.kernelapp", "matplotlib.pyplot", "numpy"),
    )
    with Sandbox(sandboxed, view, Limits(memory_mb=512)) as made:
        yield made


def run(
    kernels: Sandbox, folder: Path, *cells: str, cell_s: float = 5.0, total_s: float = 30.0
) -> NotebookRun:
    path = folder / "work.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    return run_notebook(path, kernels, cell_timeout_s=cell_s, total_s=total_s)


def test_a_notebook_that_runs_passes_and_its_cells_are_counted(kernels: Sandbox, tmp_path: Path) -> None:
    cells = [
        "import os, numpy as np\nx = np.arange(3)",
        "import matplotlib.pyplot as plt\n_ = plt.plot(x); plt.show()",
        "from mlsys_lab.viz import style\nimport autograder.check",
        "assert open(os.environ['MLSYS_LAB_COURSE'] + '/given.txt').read() == 'from the course'",
        "_ = open('mine.txt', 'w').write('x')\n!cat mine.txt",
    ]
    assert run(kernels, tmp_path, *cells) == NotebookRun(True, 5, None, "")


def test_the_first_cell_that_raises_is_named_with_its_error(kernels: Sandbox, tmp_path: Path) -> None:
    got = run(kernels, tmp_path, "x = 1", "print(y)", "z = 1 / 0")
    assert (got.passed, got.failed_cell) == (False, 2)
    assert got.error == "cell 2: NameError: name 'y' is not defined"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("while True: pass", "no end within 1 s"),
        # The interrupt is taken for what it is not; the cell goes on and ends well.
        ("import time\ntry:\n    time.sleep(9)\nexcept KeyboardInterrupt:\n    pass", "no end within 1 s"),
        ("import os\nos._exit(3)", "ended (exit 3)"),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV); import ctypes; ctypes.string_at(0)",
            "ended",
        ),
        ("import numpy as np\nx = np.ones(1 << 29)", "MemoryError"),
        ("raise SystemExit", "SystemExit"),
    ],
)
def test_a_bad_cell_gives_one_clear_line_soon(kernels: Sandbox, tmp_path: Path, cell: str, said: str) -> None:
    began = time.monotonic()
    got = run(kernels, tmp_path, cell, cell_s=1.0)
    assert not got.passed
    assert said in got.error
    assert "\n" not in got.error
    assert time.monotonic() - began < 20.0  # a loop would go on for ever


def test_a_notebook_that_goes_on_and_on_ends_at_its_total(kernels: Sandbox, tmp_path: Path) -> None:
    began = time.monotonic()
    got = run(kernels, tmp_path, *["import time; time.sleep(0.8)"] * 9, total_s=2.0)
    assert not got.passed
    assert "2 s" in got.error
    assert time.monotonic() - began < 6.5  # 7.2 s of naps, were there no total


def test_an_empty_notebook_does_not_pass(kernels: Sandbox, tmp_path: Path) -> None:
    assert run(kernels, tmp_path) == NotebookRun(False, 0, None, "the notebook has no code cells")


def test_a_notebook_may_run_a_notebook_of_its_own(kernels: Sandbox, tmp_path: Path) -> None:
    cell = """
import nbformat, nbclient
inner = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])
nbclient.NotebookClient(inner, timeout=20, kernel_name="python3").execute()
assert inner.cells[0].outputs[0].text == "42\\n"
"""
    assert run(kernels, tmp_path, cell, cell_s=25.0) == NotebookRun(True, 1, None, "")


def test_the_kernel_reaches_no_network_and_sees_nothing_of_the_host(kernels: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("x")
    cells = [
        "import os, socket\ntry: socket.create_connection(('192.0.2.1', 80), 0.5)\nexcept OSError: pass\n"
        "else: raise SystemExit",
        f"assert not os.path.exists({str(tmp_path / 'secret.txt')!r})",
        "assert all(p in (str(os.getpid()), '1') for p in os.listdir('/proc') if p.isdigit())",
        f"assert os.getuid() != {os.getuid() if os.getuid() == 0 else -1}",
        "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) != 0",
        "assert not {k for k in os.environ if 'KEY' in k or 'TOKEN' in k}",
    ]
    assert run(kernels, tmp_path, *cells).error == ""


def test_a_flood_of_output_does_not_lose_the_answer(kernels: Sandbox, tmp_path: Path) -> None:
    got = run(kernels, tmp_path, "while True: print('x' * 1_000_000)", cell_s=1.0, total_s=6.0)
    assert not got.passed
    assert got.error


def test_nothing_is_left_behind(kernels: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    folder = tempfile.TemporaryDirectory

    def remember(*args: str, **kwargs: str) -> tempfile.TemporaryDirectory[str]:
        found = folder(*args, **kwargs)
        made.append(found.name)
        return found

    monkeypatch.setattr("tempfile.TemporaryDirectory", remember)
    run(kernels, tmp_path, "import subprocess\nsubprocess.Popen(['sleep', '98.7654'])\nx = 1")
    assert len(made) == 1
    assert not Path(made[0]).exists()
    time.sleep(0.3)
    assert [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"98.7654" in _read(p)] == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_many_processes_together_get_no_more_memory_than_the_limit(kernels: Sandbox, tmp_path: Path) -> None:
    cell = "import os, time, numpy as np\nfor _ in range(4):\n"
    cell += "    if os.fork() == 0: x = np.ones(40 << 20); time.sleep(9)"
    got = run(kernels, tmp_path, cell, "import time; time.sleep(5)", cell_s=8.0)
    assert "more than 1024 MiB" in got.error


def test_the_hosts_name_and_the_users_name_are_found(kernels: Sandbox, tmp_path: Path) -> None:
    cell = "import getpass, socket\ngetpass.getuser()\n"
    cell += "assert socket.gethostbyname(socket.gethostname()) == '127.0.0.1'"
    assert run(kernels, tmp_path, cell).error == ""
