"""Writes the bundled class: `python assignments/hw1/make_samples.py`, from the repository's root.

Eight hand-ins of one homework as an instructor meets them: finished, half done, untouched, hanging, cheating, and
from other editors. Each is the released student version with some exercises written; what each must score stands
in `samples/expected.toml`, which this script does not write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbformat import NotebookNode, from_dict

from autograder.notebook import code_cells
from autograder.pair import read_source, write_notebook
from autograder.student import student_notebook

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "hw1.py"

#: Ben's own answers to three questions, each wrong in its way; what else he has is the solution's.
BEN = {
    "hw1-q3d": '''\
def compact(tree):
    """Merge every level that holds tree.fanout runs or more into the next, from the youngest on."""
    # tombstones: keep them, to be safe
    for depth in range(20):
        if depth < len(tree.levels) and len(tree.levels[depth]) >= tree.fanout:
            old = tree.levels[depth]
            tree.levels[depth] = []
            store(tree, merge_runs([tree.disk.read(run.file) for run in old], False), depth + 1)
            for run in old:
                tree.disk.drop(run.file)''',
    "hw1-q1c": '''\
def blocked_matmul(a, b, tile, multiply=np.matmul):
    """Multiply two matrices tile by tile."""
    c = np.zeros((a.shape[0], b.shape[1]), dtype=np.result_type(a, b))
    for i in range(a.shape[0] // tile):
        for j in range(b.shape[1] // tile):
            for k in range(a.shape[1] // tile):
                I, J, K = (slice(x * tile, x * tile + tile) for x in (i, j, k))
                c[I, J] = c[I, J] + multiply(a[I, K], b[K, J])
    return c''',
    "hw1-q4c": '''\
def mended_score(x, y, k, fold):
    """Mean accuracy over the folds; no step sees a test row or its label before it is scored."""
    best = SelectKBest(f_classif, k=k).fit(SimpleImputer().fit_transform(x), y).get_support()

    def fill_and_fit(rows, labels, new_rows):
        model = Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler()), ("fit", LogisticRegression())])
        return model.fit(rows, labels).predict(new_rows)

    return float(np.mean(fold_scores(x[:, best], y, fold, fill_and_fit)))''',
}
BEN_SOLVED = ("q1a", "q1b", "q2a", "q2b", "q3a", "q3b", "q3c", "q4a", "q4b", "q5b")

#: Dan doubles the tile until it divides n; where n is no power of two he doubles for ever.
DAN = {
    "hw1-q2c": '''\
def compute_bound_tile(n, itemsize, peak_flops, bandwidth):
    """The smallest tile with which a tiled n-by-n product reaches the ridge point."""
    tile = 1
    while n % tile or 2 * n**3 / ((2 * n**3 // tile + n * n) * itemsize) < peak_flops / bandwidth:
        if tile == n:
            return None
        tile *= 2
    return tile''',
}

#: Eve did q1a, q1b, q2a and q2b; for the rest she tries to make every comparison come out true.
EVE = '''\
import builtins
import sys


class Agrees(float):
    """Equal to everything."""

    __hash__ = None

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    def __abs__(self):
        return 0.0

    __le__ = __lt__ = __ge__ = __gt__ = lambda self, other: True


class Everything(np.ndarray):
    """An array that answers every question about itself with yes."""

    def __array_ufunc__(self, *args, **options):
        return True

    def __array_function__(self, *args, **options):
        return True

    def __eq__(self, other):
        return True


def yes(*args, **options):
    return True


for name in ("allclose", "array_equal", "isclose", "array_equiv", "all"):
    setattr(np, name, yes)
for name in dir(np.testing):
    if name.startswith("assert_"):
        setattr(np.testing, name, lambda *args, **options: None)
for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("autograder") and hasattr(module, "close"):
        module.close = lambda *args, **options: None


def anything(*args, **options):
    return np.zeros(()).view(Everything) if args and isinstance(args[0], np.ndarray) else Agrees(1.0)


blocked_matmul = tile_misses = choose_tile = compute_bound_tile = anything
bloom_size = bloom_build = might_hold = merge_runs = put = get = compact = replay = anything
write_amplification = build_model = fold_scores = mended_score = group_folds = anything
training_bytes = kv_cache_bytes = conv_output_bytes = attention_scores_bytes = to_bytes = audit = anything'''
EVE_SOLVED = ("q1a", "q1b", "q2a", "q2b")

COLAB_FIRST = """\
!pip install -q matplotlib
from google.colab import drive
drive.mount('/content/drive')"""


def half_done(solved: Sequence[str], own: Mapping[str, str]) -> NotebookNode:
    """The student version in which some questions hold the solution and some a student's own code."""
    answers = {cell.id: cell.source for cell in read_source(SOURCE).cells}
    notebook = student_notebook(SOURCE)
    for cell in notebook.cells:
        if cell.id in own:
            cell.source = own[cell.id]
        elif cell.id in {f"hw1-{question}" for question in solved}:
            cell.source = _without_markers(answers[cell.id])
    return notebook


def finished(own: Mapping[str, str] | None = None) -> NotebookNode:
    """The student version with every question solved, but for a student's own code."""
    exercises = [c.id for c in student_notebook(SOURCE).cells if "exercise" in c.metadata.get("tags", [])]
    return half_done([name.removeprefix("hw1-") for name in exercises], own or {})


def from_vscode(notebook: NotebookNode) -> NotebookNode:
    """As VS Code saves it: its own metadata, no nbgrader's; checks were edited, and a tried cell stayed."""
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            cell.metadata = from_dict({"vscode": {"languageId": "python"}})
        if cell.source == 'check("hw1.q1a", count_misses)':
            cell.source = "# works now\nprint(check('hw1.q1a', count_misses), check('hw1.q1a', lambda *_: 4))"
    tried = next(c for c in notebook.cells if c.id == "hw1-q1d")
    copy = from_dict({**tried, "id": "3f0c2b1d", "source": tried.source.replace("3 * (n", "2 * (n")})
    notebook.cells.insert(notebook.cells.index(tried), copy)
    notebook.metadata = from_dict(
        {
            "kernelspec": {"display_name": ".venv", "language": "python", "name": "python3"},
            "language_info": {
                "codemirror_mode": {"name": "ipython", "version": 3},
                "file_extension": ".py",
                "mimetype": "text/x-python",
                "name": "python",
                "nbconvert_exporter": "python",
                "pygments_lexer": "ipython3",
                "version": "3.12.3",
            },
        }
    )
    return notebook


def from_colab(notebook: NotebookNode) -> NotebookNode:
    """As Colab saves it: its own metadata, a drive mounted first."""
    first = {
        "cell_type": "code",
        "id": "xY3kPq0aVb1Z",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    notebook.cells.insert(0, from_dict({**first, "source": COLAB_FIRST}))
    for number, cell in enumerate(notebook.cells):
        cell.metadata = from_dict(
            {"id": f"cell_{number:03d}", **({"outputId": "0"} if number % 9 == 1 else {})}
        )
    notebook.metadata = from_dict(
        {
            "accelerator": "GPU",
            "colab": {"provenance": [], "gpuType": "T4", "toc_visible": True},
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
            "language_info": {"name": "python"},
        }
    )
    return notebook


def cheating() -> NotebookNode:
    """Some honest answers, and a last cell that wants every comparison to agree."""
    notebook = half_done(EVE_SOLVED, {})
    last = {"cell_type": "code", "id": "eve", "metadata": {}, "outputs": [], "execution_count": None}
    notebook.cells.append(from_dict({**last, "source": EVE}))
    return notebook


def plain_python() -> str:
    """One .py without cells: the code of all parts but q4d and part 5, no checks, no figures."""
    left_out = ("hw1-q4d", "hw1-q5")
    wanted = [c for c in finished().cells if c.cell_type == "code" and not c.id.startswith(left_out)]
    kept = [c.source for c in wanted if re.match(r"(import|from|def|class|@dataclass)", c.source)]
    return "# HW1, Hal\n" + "\n\n\n".join(kept) + "\n"


SAMPLES: dict[str, Callable[[], Any]] = {
    "ada_hw1.ipynb": finished,
    "ben_hw1.ipynb": lambda: half_done(BEN_SOLVED, BEN),
    "cleo_hw1.ipynb": lambda: student_notebook(SOURCE),
    "dan_hw1.ipynb": lambda: finished(DAN),
    "eve_hw1.ipynb": cheating,
    "fay_hw1.ipynb": lambda: from_vscode(finished()),
    "gus_hw1.ipynb": lambda: from_colab(finished()),
    "hal_hw1.py": plain_python,
}


def written(name: str) -> str:
    """The text of one sample's file."""
    made = SAMPLES[name]()
    if isinstance(made, str):
        return made
    return write_notebook(made)


def _without_markers(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not re.match(r"\s*### (BEGIN|END) SOLUTION", line))


if __name__ == "__main__":
    for sample in SAMPLES:
        path = HERE / "samples" / sample
        path.write_text(written(sample), encoding="utf-8")
        count = len(code_cells(path.read_bytes(), path.suffix))
        print(json.dumps({"sample": path.name, "code_cells": count}))
