"""What a sandbox shows: the interpreter, its packages, our few files; and how each level is given that view.

`namespaces` binds paths into bubblewrap's empty root. `uid` and `none` have no such root: they get copies of
our files in a folder of their own, and `uid` the list of what Landlock leaves visible.
"""

from __future__ import annotations

import os
import shutil
import site
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

#: The files of this package that run inside.
INSIDE = (
    "__init__", "confine", "errors", "extract", "frames", "kernel_child", "landlock", "seccomp", "wire",
    "wire_read", "wire_write", "worker", "zygote",
)  # fmt: skip
#: Installed packages that hold answers; a view shows the parts that it names, and those only.
MASKED = ("mlsys_lab", "autograder")
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
    """

    packages: tuple[Path, ...] = ()
    tree: Path | None = None
    preload: tuple[str, ...] = ("numpy",)


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


def masked() -> list[Path]:
    """Installed copies of our packages."""
    return [folder / name for folder in site_folders() for name in MASKED if (folder / name).is_dir()]


def bubblewrap(view: View, *, root: bool) -> list[str]:
    """The command that makes the outer enclosure; the interpreter's own command follows it.

    Args:
        root: is the caller root? Then uids are switched for real; otherwise a user namespace stands in.
    """
    command = [
        "bwrap",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-net",
        "--unshare-cgroup-try",
    ]
    command += [] if root else ["--unshare-user"]
    command += ["--ro-bind", "/usr", "/usr"]
    for name in ("lib", "lib32", "lib64", "bin", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            command += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            command += ["--ro-bind", str(path), str(path)]
    for place in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"):
        command += ["--ro-bind-try", place, place]
    for folder in ("/tmp", "/dev", "/dev/shm", "/dev/pts", "/sandbox", *(f"/sandbox/{n}" for n in _FOLDERS)):
        command += ["--perms", "0755", "--dir", folder]
    for device in _DEVICES:
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    command += [
        "--symlink",
        "/proc/self/fd",
        "/dev/fd",
        "--symlink",
        "pts/ptmx",
        "/dev/ptmx",
        "--proc",
        "/proc",
    ]
    for path in interpreter():
        command += [*_parents(path), "--ro-bind", str(path), str(path)]
    for path in masked():
        command += ["--perms", "0755", "--tmpfs", str(path), "--remount-ro", str(path)]
    for inside, source in files(view).items():
        command += ["--ro-bind", str(source), f"/sandbox/packages/{inside}"]
    if view.tree is not None:
        command += ["--ro-bind", str(view.tree), "/sandbox/tree"]
    command += ["--perms", "1777", "--tmpfs", "/sandbox/scratch", "--remount-ro", "/", "--cap-drop", "ALL"]
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
        (folder / name).mkdir(mode=0o755)
    pairs = [(source, folder / "packages" / place) for place, source in files(view).items()]
    for source, target in [*pairs, *([(view.tree, folder / "tree")] if view.tree else [])]:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    for path in folder.rglob("*"):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))


def visible(folder: Path) -> dict[str, list[str]]:
    """What Landlock leaves to a child of the level `uid`, besides its own folder."""
    read = [Path(p) for p in ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives")]
    read += [Path("/dev/urandom"), Path("/dev/random"), folder / "packages", folder / "tree"]
    listed: list[Path] = []
    for path in [*read, *interpreter()]:
        for part, whole in _around(path, masked()):
            (read if whole else listed).append(part)
    read = [p for p in read if not any(m.is_relative_to(p) for m in masked())]
    shown = {
        "read": read,
        "list": listed,
        "write": [
            Path("/dev/null"),
            Path("/dev/zero"),
            Path("/dev/full"),
            Path("/dev/ptmx"),
            Path("/dev/pts"),
        ],
    }
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
