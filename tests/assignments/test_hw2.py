"""HW2 itself: its solution agrees with PyTorch, its wrong solutions lose points; its samples."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograder.assignment import load_assignment
from autograder.local import LocalSession
from autograder.notebook import code_cells
from autograder.run_tests import run_tests
from autograder.verify import mutant_kills

ROOT = Path(__file__).resolve().parents[2]
HW2 = ROOT / "assignments" / "hw2"
ASSIGNMENT = load_assignment(HW2)
KILLS = {p: mutant_kills(p.read_text(encoding="utf-8")) for p in sorted((HW2 / "mutants").glob("*.py"))}
IMPORTS = "import itertools\nimport math\nfrom functools import partial\nimport numpy as np\n"
CELLS = [
    compile(cell.split("\nif ")[0], "<hw2>", "exec")
    for cell in code_cells((HW2 / "hw2.py").read_bytes(), ".py")
    if cell.startswith(("def ", "class ", "OPERATIONS", "# rule(g"))
]


def defined(wrong: str = "") -> dict[str, Any]:
    """The names that the solved notebook defines, without its data; a wrong solution's on top."""
    namespace: dict[str, Any] = {"__name__": "__main__", "PALETTE": {}}
    exec(IMPORTS, namespace)
    for cell in CELLS:
        exec(cell, namespace)
    exec(wrong, namespace)
    return namespace


@pytest.fixture(scope="module")
def solution() -> dict[str, Any]:
    return defined()


# Two of each question's, the first by name; `verify` tries them all.
WRONG = [
    (path, question)
    for question in ASSIGNMENT.questions
    for path in [p for p, killed in KILLS.items() if killed[0] == question][:2]
]
# Their tests draw programs, so another draw could let an error through; the others enumerate.
LUCK = ("q2a", "q4b")


def failing(namespace: dict[str, Any], question: str, seed: int) -> set[str]:
    """The names of a question's tests that fail."""
    files = [p for p in (*ASSIGNMENT.public, *ASSIGNMENT.hidden) if p.stem == f"test_{question[:2]}"]
    results = run_tests(files, LocalSession(namespace, None, call_s=1.0), seed=seed, question=question)
    assert results
    return {result.name for result in results if not result.passed}


@pytest.mark.slow
@pytest.mark.parametrize(("path", "question"), WRONG, ids=[f"{p.stem}-{q}" for p, q in WRONG])
def test_a_wrong_solution_loses_points_and_never_by_luck(path, question):
    namespace = defined(path.read_text(encoding="utf-8"))
    lost = failing(namespace, question, ASSIGNMENT.seed())
    assert lost
    if question in LUCK:
        assert failing(namespace, question, 20) == lost


def test_rules_of_the_solution_agree_with_torch(solution):
    import torch

    rng = np.random.default_rng(0)

    def compared(ours, function, *arrays):
        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        result = function(*tensors)
        g = rng.normal(size=tuple(result.shape))
        result.backward(torch.tensor(g))
        for got, tensor in zip(ours(g, *arrays), tensors, strict=True):
            np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-9, atol=1e-12)

    pair = rng.integers(1, 4, (3, 1, 2)).astype(float), rng.integers(1, 4, (4, 1)).astype(float)
    for name, function in {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div}.items():
        compared(lambda g, a, b, name=name: solution["elementwise_vjp"](name, g, a, b), function, *pair)
    compared(lambda g, a, b: solution["elementwise_vjp"]("maximum", g, a, b), torch.maximum, *pair)
    factors = rng.normal(size=(5, 1, 2, 3)), rng.normal(size=(4, 3, 2))
    compared(solution["matmul_vjp"], torch.matmul, *factors)
    table = rng.integers(0, 3, (3, 4, 2)).astype(float)
    for name, function in {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}.items():
        compared(lambda g, x, name=name: [solution["reduce_vjp"](name, g, x, (0, -1))],
                 lambda x, function=function: function(x, dim=(0, -1)), table)  # fmt: skip
    rows = [2, 0, 2]
    compared(lambda g, x: [solution["index_vjp"](g, x.shape, rows)], lambda x: x[rows], table)


def test_a_traced_network_has_the_gradients_of_torch(solution):
    import torch

    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=s) for s in ((5, 3), (3, 4), (4,)))

    def network(x, w, b, tanh):
        hidden = tanh(x @ w + b)
        return (1 - 2 * hidden * hidden / (b * b + 2)).mean()

    program, values, root = solution["trace"](lambda *p: network(*p, lambda t: t.tanh()), x, w, b)
    got = solution["gradients"](program, values, root, np.ones(()), solution["RULES"])
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    network(*tensors, torch.tanh).backward()
    for place, tensor in enumerate(tensors):
        np.testing.assert_allclose(got[place], tensor.grad.numpy(), rtol=1e-10)


def test_the_optimiser_of_the_solution_agrees_with_torch(solution):
    import torch

    rng = np.random.default_rng(0)
    start = [rng.normal(size=(2, 3)), rng.normal(size=4)]
    tensors = [torch.tensor(p, requires_grad=True) for p in start]
    optimiser = torch.optim.AdamW(tensors, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    ours, state = start, {}
    for update in range(6):
        found = [rng.normal(size=p.shape) if (update + i) % 3 else None for i, p in enumerate(start)]
        for tensor, g in zip(tensors, found, strict=True):
            tensor.grad = None if g is None else torch.tensor(g)
        given = [g for g in found if g is not None]
        norm = torch.nn.utils.clip_grad_norm_(tensors, 1.5)
        clipped, got = solution["clip"](given, 1.5)
        assert got == pytest.approx(float(norm), rel=1e-12)
        optimiser.step()
        pieces = iter(clipped)
        found = [None if g is None else next(pieces) for g in found]
        ours, state = solution["adamw"](ours, found, state, 0.05, (0.8, 0.95), 1e-6, 0.1)
        for p, tensor in zip(ours, tensors, strict=True):
            np.testing.assert_allclose(p, tensor.detach().numpy(), rtol=1e-5)


def test_the_rubric_counts_what_the_model_gives(solution):
    sizes, costs = [1] * 25, [0] + [1] * 24
    equal = {length: solution["plan_cost"](sizes, costs, range(length, 24, length)) for length in (2, 3, 4)}
    assert equal == {2: (13, 12), 3: (10, 16), 4: (9, 18)}

    def least(start: int, held: int, budget: int) -> float:
        """Fewest extra steps from a start on, by trying every next start that the budget allows."""
        ends = [end for end in range(start + 1, 25) if held + end - start - 1 <= budget]
        return min(
            (end - start - 1 + (0 if end == 24 else least(end, held + 1, budget)) for end in ends),
            default=np.inf,
        )

    assert [least(0, 1, budget) for budget in (6, 7)] == [np.inf, 17]
    text = (HW2 / "hw2.py").read_text(encoding="utf-8")
    assert "10 GiB and 16 extra steps" in text
    assert "7 GiB with 17 extra steps" in text


LARGE = np.arange(2000)
OTHER = np.where(LARGE == 1000, -1, LARGE)  # prints as LARGE does


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LARGE, OTHER),
        ((LARGE, slice(None)), (OTHER, slice(None))),
        ([slice(None), (LARGE,)], [slice(None), (OTHER,)]),
        (slice(LARGE, None), slice(OTHER, None)),
        (slice(0, 4), slice(0, 4, 1)),
        ((0, 1), [0, 1]),
        (np.float32(1), np.float64(1)),
        (0, False),
    ],
)
def test_a_fingerprint_tells_options_apart_by_every_bit_wherever_they_stand(solution, one, other):
    fingerprint = solution["fingerprint"]
    assert fingerprint({"key": one}) != fingerprint({"key": other})
    assert fingerprint({"key": one}) == fingerprint({"key": copy.deepcopy(one)})


@pytest.mark.parametrize(("shape", "axis"), [((4, 5), 2), ((4, 5), -3), ((), 1), ((), -2), ((2,), (0, 1))])
def test_the_solution_refuses_the_axes_that_numpy_refuses(solution, shape, axis):
    with pytest.raises(np.exceptions.AxisError):
        np.sum(np.ones(shape), axis=axis)
    program = [("input", (), {"name": "x"}), ("sum", (0,), {"axis": axis})]
    with pytest.raises(ValueError, match="step 1"):
        solution["infer"](program, {"x": (shape, "float64")})


def nothing(*_):
    return None


@pytest.mark.parametrize(
    ("question", "name", "wrong", "said"),
    [
        ("q1a", "unbroadcast", nothing, "None (is there a return?)"),
        ("q1b", "elementwise_vjp", nothing, "returned None (is there a return?)"),
        (
            "q1b",
            "elementwise_vjp",
            lambda operation, g, a, b: (g, g),
            "the gradient for a has to have shape (3, 1)",
        ),
        ("q1d", "reduce_vjp", lambda operation, g, x, *_: g, "has to have shape (2, 3)"),
        ("q2a", "gradients", nothing, "gradients returned None (is there a return?)"),
        ("q2b", "needed", nothing, "needed gives a list, got NoneType"),
        ("q3b", "adamw", nothing, "adamw gives two things"),
        ("q4a", "infer", nothing, "got None (is there a return?)"),
        ("q4b", "simplify", lambda program, root, operations: (program, root), "expected"),
        ("q5b", "choose_kept", lambda sizes, costs, budget: [], "[] costs 8, 0 would do"),
        ("q5c", "checkpointed", nothing, "expected (value n, gradient)"),
        (
            "q5c",
            "measured_peak",
            lambda kept, n, width: 65.4,
            "kept = [8, 16, 24, 32, 40, 48, 56]: the plan holds 15 values, yours held 65 at once",
        ),
    ],
)
def test_a_public_test_names_what_went_wrong(question, name, wrong, said):
    session = LocalSession({"go_back": nothing, name: wrong}, None)
    results = run_tests(ASSIGNMENT.public, session, seed=3, question=question)
    assert any(said in r.message for r in results), [r.message for r in results]
