"""What a sandbox shows: the interpreter, its packages, our few files; and how each level is given that view.

`namespaces` binds paths into bubblewrap's empty root. `uid` and `none` have no such root: they get copies of
our files in a folder of their own, and `uid` the list of what Landlock leaves visible.
"""

from __future__ import annotations

import os
import shutil
import site
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

#: The files of this package that run inside.
INSIDE = (
    "__init__", "colab", "confine", "errors", "extract", "frames", "kernel_child", "landlock", "seccomp",
    "wire", "wire_read", "wire_write", "worker", "zygote",
)  # fmt: skip
#: Installed packages that hold answers; a view shows the parts that it names, and those only.
MASKED = ("mlsys_lab", "autograder")
#: Programs look their own host up: without these, the name server of a network that is not there is asked.
ETC = {
    "/etc/hosts": "127.0.0.1 localhost sandbox\n",
    "/etc/nsswitch.conf": "hosts: files\npasswd: files\ngroup: files\n",
}
_HERE = Path(__file__).resolve().parent
_DEVICES = ("null", "zero", "full", "random", "urandom")
_RIGHTS = ("SYS_ADMIN", "SETUID", "SETGID", "SETPCAP", "KILL", "NET_ADMIN", "SYS_RESOURCE")


@dataclass(frozen=True)
class View:
    """What student code can see besides the interpreter.

    Attributes:
        packages: our package folders, subpackages or modules, read-only, importable under their own names.
        tree: a staged student tree, shown read-only to kernels; `MLSYS_LAB_COURSE` names it.
        preload: modules that the fork server imports once.
        hide: folders that stay hidden even inside the interpreter's; the repository does anyway.
    """

    packages: tuple[Path, ...] = ()
    tree: Path | None = None
    preload: tuple[str, ...] = ("numpy",)
    hide: tuple[Path, ...] = ()


def importable(path: Path) -> PurePosixPath:
    """Where a module file or folder belongs below the root of its outermost package: `mlsys_lab/autograd`."""
    top = path
    while (top.parent / "__init__.py").is_file():
        top = top.parent
    return PurePosixPath(path.relative_to(top.parent).as_posix())


def files(view: View) -> dict[PurePosixPath, Path]:
    """Our files of a view: the place below the packages' folder, and what lies there."""
    wanted = [*(p.resolve() for p in view.packages), *(_HERE / f"{name}.py" for name in INSIDE)]
    placed: dict[PurePosixPath, Path] = {}
    for path in wanted:
        placed[importable(path)] = path
        parent = path.parent
        while (parent / "__init__.py").is_file():
            placed[importable(parent / "__init__.py")] = parent / "__init__.py"
            parent = parent.parent
    return {place: path for place, path in placed.items() if not any(up in placed for up in place.parents)}


def site_folders() -> list[Path]:
    """The folders of installed packages of this interpreter."""
    user = site.getusersitepackages()
    found = [*site.getsitepackages(), *([user] if user in sys.path else [])]
    return [Path(folder) for folder in dict.fromkeys(found) if Path(folder).is_dir()]


def interpreter() -> list[Path]:
    """The folders that this interpreter needs, outermost only, symbolic links followed as well."""
    executable = Path(sys.executable)
    named = [Path(sys.prefix), Path(sys.base_prefix), executable.resolve().parent.parent, *site_folders()]
    both = dict.fromkeys([*named, *(path.resolve() for path in named)])
    return [p for p in both if not any(up in both for up in p.parents) and not p.is_relative_to("/usr")]


def masked(view: View) -> list[Path]:
    """What must not be seen although it lies in what is shown: installed copies of our packages, a repository
    that was cloned below the interpreter's folder or /usr."""
    sites = site_folders()
    installed = [folder / name for folder in sites for name in MASKED if (folder / name).is_dir()]
    ours = [path.resolve() for path in (_HERE.parent, *view.hide) if path.resolve() not in sites]
    shown = [Path("/usr"), *interpreter()]
    return installed + [path for path in ours if any(path.is_relative_to(s) and path != s for s in shown)]


def bubblewrap(view: View, texts: Sequence[int], *, root: bool) -> list[str]:
    """The command that makes the outer enclosure; the interpreter's own command follows it.

    Args:
        texts: descriptors of the files of `ETC`, in order.
        root: is the caller root? Then uids are switched for real; otherwise a user namespace stands in.
    """
    command = [shutil.which("bwrap") or "bwrap", "--unshare-cgroup-try"]
    command += [f"--unshare-{kind}" for kind in ("pid", "ipc", "uts", "net", *([] if root else ["user"]))]
    command += ["--ro-bind", "/usr", "/usr", "--perms", "0755", "--dir", "/etc"]
    for name in ("lib", "lib32", "lib64", "bin", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            command += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            command += ["--ro-bind", str(path), str(path)]
    for place in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"):
        command += ["--ro-bind-try", place, place]
    for place, fd in zip(ETC, texts, strict=True):
        command += ["--perms", "0644", "--ro-bind-data", str(fd), place]
    for folder in ("/tmp", "/dev", "/dev/shm", "/dev/pts", "/sandbox", *(f"/sandbox/{n}" for n in _FOLDERS)):
        command += ["--perms", "0755", "--dir", folder]
    for device in _DEVICES:
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    command += ["--symlink", "/proc/self/fd", "/dev/fd", "--symlink", "pts/ptmx", "/dev/ptmx"]
    command += ["--proc", "/proc"]
    for path in interpreter():
        command += [*_parents(path), "--ro-bind", str(path), str(path)]
    for path in masked(view):
        command += ["--perms", "0755", "--tmpfs", str(path), "--remount-ro", str(path)]
    for inside, source in files(view).items():
        place = f"/sandbox/packages/{inside}"
        command += [*_parents(Path(place)), "--ro-bind", str(source), place]
    if view.tree is not None:
        command += ["--ro-bind", str(view.tree), "/sandbox/tree"]
    command += ["--perms", "0700", "--tmpfs", "/sandbox/scratch", "--remount-ro", "/", "--cap-drop", "ALL"]
    for right in _RIGHTS:
        command += ["--cap-add", f"CAP_{right}"]
    return [*command, "--chdir", "/", "--"]


_FOLDERS = ("packages", "tree", "home", "cover", "scratch")


def _parents(path: Path) -> list[str]:
    """Folders on the way, readable: bubblewrap's own would be closed to another uid."""
    made: list[str] = []
    for parent in [p for p in reversed(path.parents) if str(p) not in ("/", "/tmp")]:
        made += ["--perms", "0755", "--dir", str(parent)]
    return made


def stage(view: View, folder: Path) -> None:
    """Copies of our files and of the tree that every user may read, for the levels without mounts."""
    folder.chmod(0o755)
    for name in ("packages", "children", "scratch"):
        (folder / name).mkdir()
    pairs = [(source, folder / "packages" / place) for place, source in files(view).items()]
    for source, target in [*pairs, *([(view.tree, folder / "tree")] if view.tree else [])]:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))


def visible(view: View, folder: Path) -> dict[str, list[str]]:
    """What Landlock leaves to a child of the level `uid`, besides its own folder."""
    read = [Path(p) for p in ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives")]
    read += [Path("/dev/urandom"), Path("/dev/random"), folder / "packages", folder / "tree"]
    # Of other processes nothing; threadpoolctl reads its own maps, joblib counts the processors.
    read += [Path(p) for p in ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu")]
    listed: list[Path] = []
    for path in [*read, *interpreter()]:
        for part, whole in _around(path, masked(view)):
            (read if whole else listed).append(part)
    read = [p for p in read if not any(m.is_relative_to(p) for m in masked(view))]
    write = [Path("/dev", name) for name in ("null", "zero", "full", "ptmx", "pts")]
    shown = {"read": read, "list": listed, "write": write}
    return {key: list(dict.fromkeys(str(p) for p in paths)) for key, paths in shown.items()}


def _around(path: Path, hidden: list[Path]) -> Iterator[tuple[Path, bool]]:
    """The parts of a folder outside the hidden ones: (part, all below it?)."""
    if path in hidden:
        return
    if any(h.is_relative_to(path) for h in hidden):
        yield path, False
        for child in path.iterdir():
            yield from _around(child, hidden)
    else:
        yield path, True
