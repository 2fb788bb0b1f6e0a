"""Checks of lab 04: against closed forms, nudging, and the definition of the order."""

import math

import numpy as np
import pytest

from autograder.compare import close

SQUARE = (lambda x: x * x, lambda x: 2 * x)
SINE = (math.sin, math.cos)
TRIPLE = (lambda x: 3 * x, lambda x: 3.0)


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_each_slope_is_taken_where_its_step_is(student):
    """Chains of squares, sines and triples, in both orders, have the slope of the whole."""
    for x in (0.5, -1.25, 2.0):
        for names, steps, asked in (
            ("square, sine", [SQUARE, SINE], (math.sin(x * x), 2 * x * math.cos(x * x))),
            ("sine, square", [SINE, SQUARE], (math.sin(x) ** 2, math.sin(2 * x))),
            ("triple, square, triple", [TRIPLE, SQUARE, TRIPLE], (27 * x * x, 54 * x)),
        ):
            close(student.chain_rule(steps, x), asked, rtol=1e-12, input={"steps": names, "x": x})


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_chains_of_any_length(student):
    """No step changes nothing, and ten squarings are a power."""
    close(student.chain_rule([], 7.0), (7.0, 1.0), input={"steps": "none", "x": 7.0})
    x, asked = 1.001, (1.001**1024, 1024 * 1.001**1023)
    close(student.chain_rule([SQUARE] * 10, x), asked, rtol=1e-9, input={"steps": "ten squares", "x": x})


def nudged(g, a, b, which, h=1e-6):
    """The slope of sum(g * (a @ b)) for each element of a or b, by central differences."""
    factors = [a.copy(), b.copy()]
    slopes = np.zeros_like(factors[which])
    for place in np.ndindex(slopes.shape):
        sides = []
        for step in (h, -h):
            moved = [f.copy() for f in factors]
            moved[which][place] += step
            sides.append((g * (moved[0] @ moved[1])).sum())
        slopes[place] = (sides[0] - sides[1]) / (2 * h)
    return slopes


def pair(student, g, a, b):
    answer = student.matmul_vjp(g, a, b)
    assert isinstance(answer, tuple | list), "two arrays are asked for: the slopes for a and for b"
    assert len(answer) == 2, f"two arrays are asked for, got {len(answer)}"
    return answer


@pytest.mark.question("q2")
@pytest.mark.points(2)
def test_the_slope_for_a(student, rng):
    """The slope for a (2, 3) is that found by nudging."""
    g, a, b = rng.normal(size=(2, 4)), rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    close(pair(student, g, a, b)[0], nudged(g, a, b, 0), rtol=1e-5, atol=1e-7, input=(g, a, b))


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_the_slope_for_b(student, rng):
    """The slope for b (3, 4) is that found by nudging, also where n is 1."""
    for n in (2, 1):
        g, a, b = rng.normal(size=(n, 4)), rng.normal(size=(n, 3)), rng.normal(size=(3, 4))
        close(pair(student, g, a, b)[1], nudged(g, a, b, 1), rtol=1e-5, atol=1e-7, input=(g, a, b))


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_float32_stays_float32(student, rng):
    """Float32 in, float32 out: no double leaks into the gradients."""
    g, a, b = (rng.normal(size=s).astype(np.float32) for s in ((5, 5), (5, 5), (5, 5)))
    for slope, asked in zip(pair(student, g, a, b), (g @ b.T, a.T @ g), strict=True):
        close(slope, asked, rtol=1e-4, atol=1e-5)
        assert slope.dtype == np.float32, f"expected float32, got {slope.dtype}"


def hold_order(order, inputs, root):
    """Every node that root needs, once; each before its inputs."""
    assert isinstance(order, list | tuple), f"a list of nodes is asked for, got {type(order).__name__}"
    needed, queue = {root}, [root]
    while queue:
        new = set(inputs[queue.pop()]) - needed
        needed |= new
        queue += new
    shown = f"inputs {inputs}, root {root}: got {order}" if len(inputs) < 12 else f"{len(inputs)} nodes"
    assert sorted(order) == sorted(needed), f"each node that root needs, once and no other; {shown}"
    place = {node: i for i, node in enumerate(order)}
    for node in order:
        for i in inputs[node]:
            assert place[node] < place[i], f"{node} uses {i} and has to come before it; {shown}"


def random_graph(rng, n):
    """Node i is computed from up to three nodes below it, the same one twice now and then."""
    return [[int(j) for j in rng.integers(0, i, rng.integers(0, 4))] if i else [] for i in range(n)]


def renumbered(inputs, root, names):
    """The same graph with node i called names[i], and what its root is called."""
    called = dict(zip(names, inputs, strict=True))
    return [[int(names[i]) for i in called[name]] for name in sorted(called)], int(names[root])


@pytest.mark.question("q3")
@pytest.mark.points(2)
def test_a_node_comes_after_every_node_that_uses_it(student, rng):
    """A long and a short path to the same node, both ways round; random graphs, nodes numbered anyhow"""
    for inputs, root in (
        ([[], [0], [0, 1]], 2),
        ([[], [0], [1, 0]], 2),
        ([[], [0], [1], [2, 0, 1]], 3),
        ([[], [0], [1], [0, 1, 2]], 3),
    ):
        hold_order(student.backward_order(inputs, root), inputs, root)
        inputs, root = renumbered(inputs, root, range(root, -1, -1))
        hold_order(student.backward_order(inputs, root), inputs, root)
    for n in (5, 9, 40):
        for _ in range(5):
            inputs, root = renumbered(random_graph(rng, n), n - 1, rng.permutation(n))
            hold_order(student.backward_order(inputs, root), inputs, root)


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_only_what_the_root_needs(student):
    """Nodes that the root does not use are left out, and a leaf is its own order."""
    inputs = [[], [0], [0], [1, 1]]
    hold_order(student.backward_order(inputs, 3), inputs, 3)
    close(list(student.backward_order(inputs, 0)), [0], input={"inputs": inputs, "root": 0})


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_deep_graphs_and_much_reuse(student):
    """A chain of 20,000 nodes, and 60 squarings, each used twice."""
    for inputs in ([[]] + [[i] for i in range(20_000)], [[]] + [[i, i] for i in range(60)]):
        inputs, root = renumbered(inputs, len(inputs) - 1, range(len(inputs) - 1, -1, -1))
        hold_order(student.backward_order(inputs, root), inputs, root)
