"""Start here: `python3 lab.py open` (learn), `python3 lab.py grade` (teach), `python3 lab.py test` (develop).

Makes an environment in .venv beside this file, installs what the command needs, and hands over to
`mlsys-lab`. Only the standard library, in syntax that any Python since 2.7 can read, so that an old
one can say what is missing. It never touches the system.
"""

from __future__ import print_function

import hashlib
import json
import os
import platform
import re
import subprocess
import sys

OLDEST, TOO_NEW = (3, 11), (3, 14)
HERE = os.path.dirname(os.path.abspath(__file__))

# What each command needs: extras of pyproject.toml. A command that is not here needs the base alone.
EXTRAS = {
    "open": ["lab"],
    "check": ["lab"],
    "submit": ["lab", "grade"],
    "grade": ["grade"],
    "gradebook manual": ["grade"],
    "kernel": ["kernels"],
    "demo warp": ["kernels"],
    "verify": ["lab", "grade", "torch", "tf", "kernels"],
    "release": ["release"],
    "test": ["test", "torch", "tf", "kernels"],
}

# Megabytes on disk once installed, measured on Linux x86-64 with Python 3.11 (see CONTRIBUTING.md).
BASE_MB = 250
EXTRA_MB = {"lab": 390, "grade": 290, "release": 20, "test": 670, "torch": 860, "tf": 1440, "kernels": 180}

# PyTorch's own index of builds without CUDA: a tenth of the size on a machine without an NVIDIA GPU.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def stop(message):
    """One line that names the fix; exit code 2."""
    sys.stderr.write("lab.py: " + message + "\n")
    sys.exit(2)


def check_python():
    """Say which Python is needed, and where one is, when this is not it."""
    if OLDEST <= sys.version_info[:2] < TOO_NEW:
        return
    this = ".".join(map(str, sys.version_info[:3]))
    found = newer_python()
    fix = "run `%s lab.py`" % found if found else "install one from python.org or your package manager"
    stop("this is Python %s; MLSys Lab needs 3.11, 3.12 or 3.13: %s" % (this, fix))


def newer_python():
    """The name of a fitting Python that runs here, or None."""
    for minor in (13, 12, 11):
        name = "python3.%d" % minor
        try:
            with open(os.devnull, "w") as nothing:
                if subprocess.call([name, "-c", ""], stdout=nothing, stderr=nothing) == 0:
                    return name
        except OSError:
            pass
    return None


def torch_arguments(system, environ, nvidia):
    """pip's further arguments for installing torch: a pure function of the platform.

    system: platform.system(); environ: the environment's variables; nvidia: is there an NVIDIA driver?
    Where the user has told pip where to find things, or has a GPU, or is not on Linux (whose default
    build alone brings CUDA), pip finds torch as it is set up to.
    """
    told = environ.get("PIP_FIND_LINKS") or environ.get("PIP_INDEX_URL") or environ.get("PIP_EXTRA_INDEX_URL")
    if told or nvidia or system != "Linux":
        return []
    return ["--extra-index-url", TORCH_CPU_INDEX, "--timeout", "15"]


def has_nvidia():
    """Is there an NVIDIA driver? Looks at files only."""
    return os.path.exists("/proc/driver/nvidia/version") or os.path.exists(
        os.path.join(os.environ.get("SystemRoot", "C:\\Windows"), "System32", "nvcuda.dll")
    )


def scripts(venv):
    return os.path.join(venv, "Scripts" if os.name == "nt" else "bin")


def program(venv, name):
    return os.path.join(scripts(venv), name + (".exe" if os.name == "nt" else ""))


def what_to_install():
    """The project: this repository, editable, or in a student's repository the wheel that came with it."""
    if os.path.exists(os.path.join(HERE, "pyproject.toml")):
        return ["-e", HERE], os.path.join(HERE, "pyproject.toml")
    folder = os.path.join(HERE, "wheels")
    wheels = [f for f in (os.listdir(folder) if os.path.isdir(folder) else []) if f.endswith(".whl")]
    if not wheels:
        stop("there is neither pyproject.toml nor wheels/*.whl beside lab.py: get the whole folder again")
    newest = os.path.join(folder, max(wheels, key=numbers))
    return [newest], newest


def numbers(name):
    """The numbers in a wheel's name, by which its version is newer: as text 0.9 would come after 0.10."""
    return [int(n) for n in re.findall(r"[0-9]+", name)]


def fingerprint(source):
    """Tells when the environment is out of date: another pyproject or wheel, constraints, place, Python."""
    digest = hashlib.sha256((HERE + "\0" + sys.version).encode("utf-8", "replace"))
    for path in (source, os.path.join(HERE, "constraints.txt")):
        if os.path.exists(path):
            with open(path, "rb") as stream:
                digest.update(stream.read())
    return digest.hexdigest()


def megabytes(extras):
    """What an environment with these extras takes: the first ones overlap, the frameworks add up."""
    frameworks = ("torch", "tf", "kernels")
    overlapping = [EXTRA_MB.get(e, 0) for e in extras if e not in frameworks]
    return BASE_MB + max(overlapping + [0]) + sum(EXTRA_MB[e] for e in extras if e in frameworks)


def read_stamp(path):
    try:
        with open(path) as stream:
            stamp = json.load(stream)
        return stamp["fingerprint"], list(stamp["extras"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", []


def which(name):
    import shutil

    return shutil.which(name)


def make_environment(venv, uv):
    if os.path.exists(program(venv, "python")):
        return
    if uv:
        run([uv, "venv", "--quiet", "--seed", "--python", sys.executable, venv], "uv could not make .venv")
        return
    try:
        import ensurepip  # noqa: F401
        import venv as module  # noqa: F401
    except ImportError:
        version = "%d.%d" % sys.version_info[:2]
        stop(
            "this Python cannot make environments (no ensurepip): `apt-get install python%s-venv` on Debian "
            "and Ubuntu, or install uv (docs.astral.sh/uv), then run this again" % version
        )
    run([sys.executable, "-m", "venv", venv], "could not make .venv")


def run(command, failure):
    """Run an installer; where it fails, its own words stand above our one line."""
    try:
        code = subprocess.call(command)
    except OSError as error:
        stop("%s: %s" % (failure, error))
    if code != 0:
        stop("%s (see above); when that is mended, the same command goes on" % failure)


def install(venv, extras, uv, interactive):
    target, _ = what_to_install()
    target = target[:-1] + [target[-1] + "[" + ",".join(extras) + "]"] if extras else target
    constraints = os.path.join(HERE, "constraints.txt")
    options = ["-c", constraints] if os.path.exists(constraints) else []
    if "torch" in extras:
        options += torch_arguments(platform.system(), os.environ, has_nvidia())
    if uv:
        links = os.environ.get("PIP_FIND_LINKS")
        options += ["--find-links", links] if links else []
        command = [uv, "pip", "install", "--python", program(venv, "python")]
        command += [] if interactive else ["--quiet"]
    else:
        command = [program(venv, "python"), "-m", "pip", "install", "--disable-pip-version-check"]
        command += ["--quiet"] + ([] if interactive else ["--progress-bar", "off"])
    run(command + options + target, "installing failed")


def prepare(command):
    """Make .venv hold what the command needs; return the path of `mlsys-lab` in it."""
    venv = os.path.join(HERE, ".venv")
    stamp = os.path.join(venv, "mlsys-lab.json")
    _, source = what_to_install()
    known, have = read_stamp(stamp)
    wanted = EXTRAS.get(command, [])
    fresh = known == fingerprint(source) and os.path.exists(program(venv, "mlsys-lab"))
    if fresh and set(wanted) <= set(have):
        return program(venv, "mlsys-lab")
    extras = sorted(set(wanted) | set(have))
    size = megabytes(extras)
    more = "up to " if have else "about "  # some of it may be there already
    interactive = sys.stderr.isatty()
    sys.stderr.write(
        "Setting up .venv for `%s`: %s%d MB on disk, once; nothing outside this folder changes.\n"
        % (command or "mlsys-lab", more, size)
    )
    uv = which("uv")
    make_environment(venv, uv)
    install(venv, extras, uv, interactive)
    with open(stamp, "w") as stream:
        json.dump({"fingerprint": fingerprint(source), "extras": extras}, stream)
    shown = os.path.relpath(program(venv, "mlsys-lab"), os.getcwd())
    sys.stderr.write("Ready. From now on you can also call: %s %s\n" % (shown, command))
    return program(venv, "mlsys-lab")


def main(arguments):
    check_python()
    words = [a for a in arguments if re.match(r"[a-z]+$", a)]
    command = " ".join(words[:2]) if " ".join(words[:2]) in EXTRAS else "".join(words[:1])
    if command == "test" and not os.path.isdir(os.path.join(HERE, "tests")):
        stop("the tests are in the instructors' repository; `python3 lab.py check` checks your own work")
    path = prepare(command)
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)  # what lies there is not this project's
    environment.pop("PYTHONHOME", None)
    sys.stdout.flush()
    if os.name == "nt":
        sys.exit(subprocess.call([path] + arguments, env=environment))
    os.execve(path, [path] + arguments, environment)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("lab.py: interrupted; the same command goes on\n")
        sys.exit(130)
