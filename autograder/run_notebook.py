"""A whole notebook from a clean start: pytest and nbval on the trusted side, the kernel in the sandbox.

The question is only whether every cell runs; outputs are not compared. A process of its own runs nbval, since
it reads whatever messages the kernel sends for as long as they come: its memory and its time are limited too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import select
import shutil
import signal
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, NoReturn

import pytest
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerBase, KernelProvisionerFactory

from autograder.colab import imports_colab
from autograder.fork_server import KernelProcess, Sandbox
from autograder.kernel_child import CHANNELS
from autograder.notebook import code_cells
from autograder.notebook_tools import without_the_grammar

with without_the_grammar():
    import nbval.kernel
    import nbval.plugin

PROVISIONER = "mlsys-lab-sandbox"
NOTEBOOK = "notebook.ipynb"
_MAX_ERROR = 300
_READER_MEMORY = 4 << 30
_KERNEL_MB = 512  # of a kernel with its libraries, before any cell
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class NotebookRun:
    """How a run from a clean start went.

    Attributes:
        passed: every code cell ran and none raised.
        cells: code cells that ran.
        failed_cell: the first that did not, from 1 among the code cells.
        error: one line; empty where all passed.
    """

    passed: bool
    cells: int
    failed_cell: int | None
    error: str


def run_notebook(notebook: Path, sandbox: Sandbox, *, cell_timeout_s: float, total_s: float) -> NotebookRun:
    """Run each code cell in order in a fresh kernel.

    Args:
        notebook: its metadata and outputs are dropped already.
        sandbox: of a view for kernels; the kernel is one of its children.
        cell_timeout_s: limit of one cell.
        total_s: limit of all, the kernel's start included.
    """
    results, theirs = os.pipe()
    # Its path is part of a socket's address, which has 108 bytes: /tmp where another one is long.
    place = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(prefix="nb-", dir=place if len(place) <= 40 else "/tmp") as folder:
        # The notebook lies there alone: no conftest.py and no configuration of anybody's is found.
        shutil.copyfile(notebook, Path(folder, NOTEBOOK))
        pid = os.fork()
        if pid == 0:
            os.close(results)
            _Reader(sandbox, Path(folder), cell_timeout_s, theirs).run()
        os.close(theirs)
        try:
            said = _read(results, time.monotonic() + total_s)
        finally:
            os.close(results)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    if said is None:
        return NotebookRun(False, 0, None, f"the notebook did not end within {total_s:g} s")
    try:
        return NotebookRun(**json.loads(said))
    except (ValueError, TypeError):
        return NotebookRun(False, 0, None, "the notebook's output could not be read (too much of it?)")


def _read(fd: int, deadline: float) -> bytes | None:
    data = b""
    while select.select([fd], [], [], max(deadline - time.monotonic(), 0.0))[0]:
        piece = os.read(fd, 1 << 16)
        if not piece:
            return data
        data += piece
    return None


class _Reader:
    """The process that runs nbval: its kernel, and a pytest plugin that counts what passed."""

    current: _Reader

    def __init__(self, sandbox: Sandbox, folder: Path, cell_timeout_s: float, answer: int) -> None:
        self.sandbox, self.folder, self.cell_timeout_s, self.answer = sandbox, folder, cell_timeout_s, answer
        self.collected = self.passed = 0
        self.failed_cell: int | None = None
        self.error = ""

    def run(self) -> NoReturn:
        """Be that process, to its end."""
        try:
            _Reader.current = self
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            wanted = _READER_MEMORY if hard == resource.RLIM_INFINITY else min(hard, _READER_MEMORY)
            resource.setrlimit(resource.RLIMIT_AS, (wanted, wanted))
            self._pytest()
            self.tell()
        finally:
            os._exit(1)

    def _pytest(self) -> None:
        factory = KernelProvisionerFactory.instance()
        entry = EntryPoint(
            PROVISIONER, f"{__name__}:SandboxProvisioner", "jupyter_client.kernel_provisioners"
        )
        factory.provisioners[PROVISIONER] = entry
        factory.default_provisioner_name = PROVISIONER
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        os.environ.pop("PYTEST_ADDOPTS", None)
        os.chdir(self.folder)
        arguments = [NOTEBOOK, "-c", os.devnull, "--noconftest", "-q"]
        arguments += [f"--rootdir={self.folder}", f"--confcutdir={self.folder}"]
        arguments += ["-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
        arguments += [f"--nbval-cell-timeout={self.cell_timeout_s:g}"]
        pytest.main(arguments, plugins=[nbval.plugin, self])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.collected = len(session.items)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        outcome = yield
        report = outcome.get_result()
        if report.when == "call" and getattr(item.parent, "timed_out", False) and self.failed_cell is None:
            # Also where the cell swallowed the interrupt and went on, so that nbval has nothing to report.
            self.failed_cell, self.error = self.passed + 1, f"no end within {self.cell_timeout_s:g} s"
        # A skip, an expected failure and an error are no pass.
        elif report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            self.passed += 1
        elif not report.passed and self.failed_cell is None:
            self.failed_cell = self.passed + 1
            self.error = self._one_line(call.excinfo.value if call.excinfo else None)

    def watch(self, kernel: KernelProcess) -> None:
        """Tell at once when the kernel ends by itself: nbval would wait out the cell's whole limit."""
        said = kernel.watch(self.sandbox.limits.memory_mb + _KERNEL_MB)
        if said:
            self.failed_cell, self.error = self.failed_cell or self.passed + 1, self.error or said
            self.tell()

    def tell(self) -> NoReturn:
        """Write the answer and end."""
        passed = self.collected > 0 and self.passed == self.collected
        error = "" if passed else self.error or "a cell did not run"
        if not self.collected and not self.error:
            error = "the notebook has no code cells"
        failed = None if passed else self.failed_cell
        said = NotebookRun(passed, self.passed, failed, f"cell {failed}: {error}" if failed else error)
        os.write(self.answer, json.dumps(asdict(said)).encode())
        os._exit(0)

    def _one_line(self, error: BaseException | None) -> str:
        """The last line of a traceback is the error; nbval keeps the kernel's in `inner_traceback`."""
        text = str(getattr(error, "inner_traceback", "") or error or "did not run")
        lines = [line.strip() for line in _ANSI.sub("", text).splitlines() if line.strip()]
        line = lines[-1] if lines else type(error).__name__
        if line.startswith(("Timeout of", "KeyboardInterrupt")):
            return f"no end within {self.cell_timeout_s:g} s"
        return line[:_MAX_ERROR]


class SandboxProvisioner(KernelProvisionerBase):
    """Gives Jupyter's KernelManager a kernel that is a child of the current sandbox's fork server."""

    process: KernelProcess | None = None

    @property
    def has_process(self) -> bool:
        return self.process is not None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        manager: Any = self.parent
        manager.transport, manager.ip = "ipc", str(_Reader.current.folder / "k")
        for number, channel in enumerate(CHANNELS, start=1):
            setattr(manager, f"{channel}_port", number)
        manager.write_connection_file()
        self.connection_info = manager.get_connection_info()
        return await super().pre_launch(cmd=[], **kwargs)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        reader = _Reader.current
        file = Path(str(getattr(self.parent, "connection_file", "")))
        cells = code_cells((reader.folder / NOTEBOOK).read_bytes())
        self.process = reader.sandbox.kernel(file, colab=imports_colab(cells))
        threading.Thread(target=reader.watch, args=(self.process,), daemon=True).start()
        return self.connection_info

    async def poll(self) -> int | None:
        return None if self.process is None else self.process.poll()

    async def wait(self) -> int | None:
        if self.process is None:
            return None
        status, self.process = self.process.wait(), None
        return status

    async def send_signal(self, signum: int) -> None:
        if self.process is not None and signum == signal.SIGINT:
            self.process.interrupt()
        elif self.process is not None and signum:
            self.process.kill()

    async def kill(self, restart: bool = False) -> None:
        if self.process is not None:
            self.process.kill()

    async def terminate(self, restart: bool = False) -> None:
        await self.kill(restart)

    async def cleanup(self, restart: bool = False) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None
