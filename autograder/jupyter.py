"""Opening the workspace in JupyterLab, on this machine alone.

Everything that JupyterLab reads or writes for itself lies in the workspace's `.jupyter`: nothing in the
learner's home or environment changes, and nobody's own settings change the course. The kernel keeps the
portable name `python3`, so that a notebook saved here opens in Colab or VS Code too; here it is shown as
"MLSys Lab".
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

from autograder.assignment import UsageError
from autograder.files import write_whole
from autograder.notebook_tools import jupytext, nbformat
from autograder.pair import KERNEL, write_percent
from autograder.tree import course_root, is_workspace
from autograder.workspace import Written, make_workspace, recorded

PRIVATE = ".jupyter"

#: No request may leave the machine: no news, no update check, no extension manager's list.
OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": False,
    },
    "@jupyterlab/extensionmanager-extension:plugin": {"enabled": False},
    # All cells stay in the page: a search, a screen reader and a folded hint keep their place.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "defer"},
}


def workspace_for(start: Path | None = None) -> tuple[Path, Path]:
    """Which tree to open and which workspace it goes to: (root, workspace).

    Inside a workspace it is that one; otherwise `workspace/` in the course's folder, or in the current
    folder where the course comes with the wheel.
    """
    here = (start or Path.cwd()).resolve()
    inside = next((folder for folder in (here, *here.parents) if is_workspace(folder)), None)
    root = course_root(inside.parent if inside else here)
    bundled = Path(__file__).resolve().parent / "course"
    return root, inside or (here if root == bundled else root) / "workspace"


def prepare(root: Path, workspace: Path) -> Written:
    """Make or renew a workspace, settle its pairs, and write the private settings and the kernel."""
    report = make_workspace(root, workspace)
    for notebook in remake_notebooks(workspace):
        report.notes.append(
            f"{notebook.name} was missing and is made anew from your {notebook.with_suffix('.py').name}; "
            "to start over, delete both"
        )
    for text, kept in settle_pairs(workspace):
        report.notes.append(
            f"{text.name} was older than its notebook and is renewed from it; yours is {kept}"
        )
    private = workspace / PRIVATE
    _write_json(private / "config" / "labconfig" / "default_setting_overrides.json", OVERRIDES)
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": KERNEL["display_name"],
        "language": "python",
        "env": {"OMP_NUM_THREADS": "1", "MLSYS_LAB_COURSE": str(workspace), "PYTHONPATH": _python_path()},
        "metadata": {"debugger": True},
    }
    _write_json(private / "data" / "kernels" / KERNEL["name"] / "kernel.json", spec)
    return report


def remake_notebooks(workspace: Path) -> list[Path]:
    """Make the notebooks anew whose .py alone is left.

    Returns:
        The notebooks that were written.
    """
    made = []
    for path in sorted(recorded(workspace)):
        notebook = workspace / path
        text = notebook.with_suffix(".py")
        if notebook.suffix == ".ipynb" and not notebook.is_file() and text.is_file():
            try:
                fresh = jupytext.reads(text.read_text(encoding="utf-8"), fmt="py:percent")
            except ValueError:
                continue
            write_whole(notebook, nbformat.writes(fresh, version=4) + "\n")
            made.append(notebook)
    return made


def settle_pairs(workspace: Path) -> list[tuple[Path, Path]]:
    """Bring a .py up to its notebook where an editor without jupytext saved the notebook alone.

    JupyterLab would refuse such a pair. The older .py is kept in `backup/`.

    Returns:
        The .py files that were written, each with its former self.
    """
    written = []
    for notebook in sorted(workspace.rglob("*.ipynb")):
        text = notebook.with_suffix(".py")
        if PRIVATE in notebook.parts or ".ipynb_checkpoints" in notebook.parts or not text.is_file():
            continue
        if notebook.stat().st_mtime <= text.stat().st_mtime:
            continue
        try:
            fresh = write_percent(nbformat.read(notebook, as_version=4))
        except (ValueError, nbformat.reader.NotJSONError, nbformat.ValidationError):
            continue  # JupyterLab says what is wrong with it
        if fresh != text.read_text(encoding="utf-8"):
            backup = workspace / "backup" / f"{text.stem}-{time.strftime('%Y%m%d-%H%M%S')}.py"
            backup.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(text, backup)
            text.write_text(fresh, encoding="utf-8")
            written.append((text, backup))
        os.utime(text)
    return written


def environment(workspace: Path) -> dict[str, str]:
    """The environment for JupyterLab: private folders, the learner's other variables as they are."""
    private = workspace / PRIVATE
    return {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(private / "config"),
        "JUPYTER_DATA_DIR": str(private / "data"),
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
        "JUPYTER_PATH": str(private / "data"),
        "JUPYTERLAB_SETTINGS_DIR": str(private / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(private / "workspaces"),
        "JUPYTER_NO_CONFIG": "",
    }


def server_command(workspace: Path, *, browser: bool, port: int) -> list[str]:
    """The command line that starts JupyterLab in a workspace, on 127.0.0.1 only."""
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={workspace}",
        "--ServerApp.contents_manager_class=jupytext.TextFileContentsManager",
        "--LabApp.extension_manager=readonly",
        "--LabApp.news_url=",
    ]
    if port:
        command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return command


def running(workspace: Path) -> str:
    """The address of a JupyterLab that runs in this workspace, with its token; nothing where none does."""
    from jupyter_server.serverapp import list_running_servers

    runtime = workspace / PRIVATE / "runtime"
    servers = list(list_running_servers(str(runtime))) if runtime.is_dir() else []
    return f"{servers[0]['url']}lab?token={servers[0]['token']}" if servers else ""


def open_lab(*, no_browser: bool = False, port: int = 0, start: Path | None = None) -> int:
    """Make or renew the workspace and run JupyterLab there until it ends.

    Args:
        no_browser: print the address and open no browser.
        port: the port to listen on; 0 for any free one, or the server that runs here already.
        start: where to look for the course; the current folder where None.

    Returns:
        JupyterLab's exit code.

    Raises:
        UsageError: JupyterLab is not installed, or there is no course here.
    """
    try:
        import jupyterlab  # noqa: F401
    except ImportError:
        raise UsageError(
            "JupyterLab is not installed: `python3 lab.py open` does it, or pip install 'jupyterlab>=4.6,<5'"
        ) from None
    root, workspace = workspace_for(start)
    for line in prepare(root, workspace).lines():
        print(line, flush=True)
    already = running(workspace)
    if already and not port:
        print(f"JupyterLab already runs in this workspace: {already}", flush=True)
        if not no_browser:
            webbrowser.open(already)
        return 0
    server = subprocess.Popen(
        server_command(workspace, browser=not no_browser, port=port),
        env=environment(workspace),
        cwd=workspace,
    )
    # Who ends this process means the server too.
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        return server.wait()
    except KeyboardInterrupt:
        # JupyterLab got the same Ctrl-C from the terminal; give it the time to stop its kernels.
        try:
            return server.wait(10)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            server.terminate()
            return server.wait(10)


def _python_path() -> str:
    """Where a kernel finds this package when it is not installed (a source tree on PYTHONPATH)."""
    home = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(
        dict.fromkeys([home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    )


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
