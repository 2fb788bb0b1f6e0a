"""Part 2, the engine: long chains, random programs against forward differentiation, every kind of operand."""

from collections import Counter

import numpy as np
import pytest

from autograder.compare import close


def random_program(rng, steps, names=("x", "y", "z")):
    """A program whose steps use any earlier ones; operations add, mul, tanh and shift with an option."""
    program = [("input", (), {"name": name}) for name in names]
    while len(program) < steps:
        here, kind = len(program), str(rng.choice(["add", "mul", "tanh", "shift"]))
        places = [int(p) for p in rng.integers(max(0, here - 6), here, 1 if kind in ("tanh", "shift") else 2)]
        program.append((kind, tuple(places), {"by": float(rng.normal())} if kind == "shift" else {}))
    return program


def forward_slopes(program, given, wanted):
    """Values, and each value's derivative for one input, element by element: forward differentiation."""
    values, slopes = [], []
    for place, (kind, places, options) in enumerate(program):
        parts = [(values[i], slopes[i]) for i in places]
        if kind == "input":
            values.append(given[options["name"]])
            slopes.append(np.full_like(values[-1], 1.0 if place == wanted else 0.0))
        elif kind == "add":
            values.append(parts[0][0] + parts[1][0])
            slopes.append(parts[0][1] + parts[1][1])
        elif kind == "mul":
            values.append(parts[0][0] * parts[1][0])
            slopes.append(parts[0][1] * parts[1][0] + parts[0][0] * parts[1][1])
        elif kind == "tanh":
            values.append(np.tanh(parts[0][0]))
            slopes.append(parts[0][1] / np.cosh(parts[0][0]) ** 2)
        else:
            values.append(parts[0][0] + options["by"])
            slopes.append(parts[0][1])
    return values, slopes


def reached(program, root):
    """Steps that the root depends on."""
    found = {root}
    for place in range(root, -1, -1):
        if place in found:
            found |= set(program[place][1])
    return found


def noted_rules():
    """Four rules that note their calls: (rules, calls by operation, what each was given)."""
    calls, seen = Counter(), []
    rules = {
        "add": lambda g, value, a, b: (1 * g, 1 * g),
        "mul": lambda g, value, a, b: (g * b, g * a),
        "tanh": lambda g, value, x: (g * (1 - value * value),),
        "shift": lambda g, value, x, by: (g + 0 * by,),
    }

    def noted(kind):
        def inner(g, value, *parts, **options):
            calls[kind] += 1
            seen.append((np.array(value), [np.array(p) for p in parts]))
            return rules[kind](g, value, *parts, **options)

        return inner

    return {kind: noted(kind) for kind in rules}, calls, seen


@pytest.mark.question("q2a")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_random_programs_against_forward_differentiation(student, rng):
    """Random programs and roots: gradients, one call of a rule per step that counts, what each is given"""
    for trial in range(6):
        program = random_program(rng, 24)
        given = {name: rng.normal(size=(2, 2)) * 0.5 for name in "xyz"}
        values, _ = forward_slopes(program, given, 0)
        root = (23, 23, 20, 15, 1, 23)[trial]
        rules, calls, seen = noted_rules()
        seed = rng.normal(size=(2, 2))
        got = student.gradients(program, values, root, seed, rules)
        used = reached(program, root)
        close(len(got), 24)
        for place in range(24):
            assert (got[place] is None) == (place not in used)
        assert calls == Counter(program[p][0] for p in used if program[p][1])
        expected = [(values[p], [values[i] for i in program[p][1]]) for p in used if program[p][1]]
        for value, parts in expected:
            assert any(
                np.array_equal(value, v) and len(parts) == len(ps) and all(map(np.array_equal, parts, ps))
                for v, ps in seen
            )
        for place in set(range(3)) & used:
            slopes = forward_slopes(program, given, place)[1][root]
            close(got[place], seed * slopes, rtol=1e-9, atol=1e-12)
    nan = [("input", (), {"name": "x"}), ("tanh", (0,), {}), ("add", (0, 1), {})]
    close(student.go_back(nan, {"x": np.array([np.nan, 0.0])}, np.ones(2))[0], np.array([np.nan, 2.0]))


@pytest.mark.question("q2a")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_each_gradient_has_its_values_dtype_also_on_the_way(student):
    """float32 and float64 in one program: each result, and each gradient that a rule is handed"""
    handed = []

    def product(g, value, a, b):
        handed.append((str(g.dtype), str(value.dtype)))
        return np.multiply(g, b, dtype="float64"), np.multiply(g, a, dtype="float64")

    def narrow(g, value, x):
        handed.append((str(g.dtype), str(value.dtype)))
        return (3 * g.astype("float64"),)

    names = [("input", (), {"name": name}) for name in "xyz"]
    program = [*names, ("mul", (0, 1), {}), ("narrow", (3,), {}), ("mul", (4, 2), {}), ("mul", (5, 0), {})]
    kinds = ["float32", "float64", "float32", "float64", "float32", "float32", "float32"]
    values = [np.full(2, v, kind) for v, kind in zip((2, 3, 5, 6, 18, 90, 180), kinds, strict=True)]
    got = student.gradients(program, values, 6, np.float32([1, 10]), {"mul": product, "narrow": narrow})
    close([str(part.dtype) for part in got], kinds)
    for part, slope in zip(got, (180, 60, 36, 30, 10, 2, 1), strict=True):
        close(part, slope * np.array([1.0, 10.0]), rtol=1e-6)
    assert handed
    assert all(given == kind for given, kind in handed)
    mixed = [*names[:2], ("mul", (0, 1), {})]  # the root is wider than one of its inputs
    got = student.go_back(mixed, {"x": np.float32([2, 4]), "y": np.array([3.0, 0.5])}, np.array([1.0, 2.0]))
    close([str(part.dtype) for part in got], ["float32", "float64", "float64"])


@pytest.mark.question("q2a")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_thirty_thousand_steps(student):
    """A chain of 30,000 steps, and one of 10,000 that all use one value"""
    chain = [("input", (), {"name": "x"}), *(("tanh", (i,), {}) for i in range(30_000))]
    got = student.go_back(chain, {"x": np.zeros(1)}, np.array([3.0]))
    close(got[0], np.array([3.0]))
    close(len(got), 30_001)
    names = [("input", (), {"name": "x"}), ("input", (), {"name": "y"})]
    sums = [*names, *(("add", (i + 1, 0), {}) for i in range(10_000))]
    got = student.go_back(sums, {"x": np.zeros(2, np.float32), "y": np.ones(2, np.float32)}, np.ones(2, np.float32))
    close(got[0], np.full(2, 10_000.0))
    close(got[1], np.ones(2))
    assert got[0].dtype == np.float32


@pytest.mark.question("q2b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_needed_steps_of_random_programs(student, rng):
    """Random programs: a step is needed if it lies between, by the table of who reaches whom"""
    for _ in range(8):
        program = random_program(rng, 30)
        reach = np.eye(30, dtype=bool)  # reach[i, j]: j depends on i
        for place, (_, places, _) in enumerate(program):
            for i in places:
                reach[:, place] |= reach[:, i]
        wanted = [int(w) for w in rng.choice(30, 3, replace=False)]
        root = int(rng.integers(10, 30))
        expected = np.flatnonzero(reach[wanted].any(axis=0) & reach[:, root]).tolist()
        close([int(step) for step in student.needed(program, wanted, root)], expected)


@pytest.mark.question("q2b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_sixty_thousand_steps_and_half_of_them_wanted(student):
    """A program of 60,000 steps, 30,000 of them wanted"""
    n = 30_000
    program = [("input", (), {"name": "w"})] * n
    program += [("tanh", (0,), {}), *(("add", (n + i - 1, i), {}) for i in range(1, n))]
    got = student.needed(program, list(range(n - 1, -1, -1)), 2 * n - 1)
    close(np.array(got), np.arange(2 * n))
    chain = [*program[:9], ("tanh", (5,), {}), *(("add", (i, 2), {}) for i in range(9, 99))]
    close(np.array(student.needed(chain, [5], 99)), np.array([5, *range(9, 100)]))


def traced(student, function, *arrays):
    """What a function of Tensors writes on a tape: (program, values, root)."""
    tape = student.Tape()
    tensors = [tape.write(("input", (), {"name": f"x{i}"}), array) for i, array in enumerate(arrays)]
    root = function(*tensors).place
    return tape.program, tape.values, root


@pytest.mark.question("q2c")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_all_operators_with_all_operands(student, rng):
    """Each operator with a Tensor, an array or a number on either side; order and dtype as in NumPy"""
    x = rng.uniform(1, 2, (2, 2)).astype(np.float32)
    others = [rng.uniform(1, 2, (2, 2)), rng.uniform(1, 2, 2).astype(np.float32), 3, 0.25, np.float64(0.5)]
    forms = [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a / b,
    ]
    for other in others:
        plain = other if np.ndim(other) else np.float32(other)
        for form in forms:
            for swapped in (False, True):
                _, values, root = traced(
                    student, lambda t, f=form, o=other, s=swapped: f(o, t) if s else f(t, o), x
                )
                expected = form(plain, x) if swapped else form(x, plain)
                close(values[root], expected, rtol=1e-6)
                assert values[root].dtype == expected.dtype
    for form in (lambda t: t @ others[0], lambda t: others[0] @ t):
        _, values, root = traced(student, form, x)
        close(values[root], form(x), rtol=1e-6)
        assert values[root].dtype == np.float64
    _, values, root = traced(student, lambda t: (t - 1.5).maximum(0), x)
    close(values[root], np.maximum(x - np.float32(1.5), 0), rtol=1e-6)
    assert values[root].dtype == np.float32


@pytest.mark.question("q2c")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_an_array_of_one_element_is_no_single_number(student):
    """Shapes (1,) and (1, 1) in float64 beside float32, on either side, and what becomes of them on the tape"""
    x = np.float32([1.0, 2.0, 4.0])
    for other in (np.array([0.1]), np.array([[0.1]])):
        for form, expected in [
            (lambda t, o=other: t + o, x + other),
            (lambda t, o=other: o / t, other / x),
            (lambda t, o=other: t.maximum(o), np.maximum(x, other)),
        ]:
            program, values, root = traced(student, form, x)
            close(values[root], expected, rtol=1e-12)
            assert values[root].dtype == np.float64
            (kept,) = [step[2]["value"] for step in program if step[0] == "constant"]
            close(np.asarray(kept), other)
            assert np.asarray(kept).dtype == np.float64


@pytest.mark.question("q2c")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_the_tape_of_a_small_network(student, rng):
    """The steps, places and options that a network writes; a Tensor used twice is one value"""
    x, w = rng.normal(size=(4, 3)), rng.normal(size=(3, 2))
    program, values, root = traced(student, lambda x, w: ((x @ w + 1.0) * (x @ w)).sum(axis=0), x, w)
    product = x @ w
    close(values[root], ((product + 1.0) * product).sum(axis=0), rtol=1e-9)
    kinds = Counter(step[0] for step in program)
    close(dict(kinds), {"input": 2, "matmul": 2, "constant": 1, "add": 1, "mul": 1, "sum": 1})
    for place, (kind, places, options) in enumerate(program):
        assert all(0 <= i < place for i in places)
        close(len(places), {"input": 0, "constant": 0, "sum": 1}.get(kind, 2))
        if kind == "constant":
            close(list(options), ["value"])
            close(np.asarray(options["value"]), np.array(1.0))
    program, _, _ = traced(student, lambda x: x * x, x)
    close([list(step[1]) for step in program], [[], [0, 0]])
