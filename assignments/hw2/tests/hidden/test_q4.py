"""Part 4, before anything runs: small programs that are run after all, and values counted by definition."""

import re
from collections import Counter

import numpy as np
import pytest

from autograder.compare import close
from autograder.errors import StudentError

BINARY = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "maximum": np.maximum}
UNARY = {"exp": np.exp, "log": np.log, "tanh": np.tanh}
REDUCE = {"sum": np.sum, "mean": np.mean, "max": np.max}


def source(name):
    return ("input", (), {"name": name})


def constant(value):
    return ("constant", (), {"value": np.asarray(value)})


@pytest.mark.question("q4a")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_inferred_is_what_running_gives(student, rng):
    """Every operation on shapes of many kinds, against arrays that NumPy makes"""
    shapes = {"a": (2, 1, 3), "b": (4, 3), "c": (), "d": (1,), "e": (3, 2), "f": (5, 1, 2, 3), "g": (0, 3)}
    given = {name: (shape, "float32" if name in "adg" else "float64") for name, shape in shapes.items()}
    arrays = [np.ones(shape, dtype) for shape, dtype in given.values()]
    program = [source(name) for name in given]
    steps = [(op, pair, {}) for op in BINARY for pair in [(0, 1), (1, 0), (2, 3), (0, 3), (3, 6), (5, 0), (2, 2)]]
    steps += [(op, (i,), {}) for op in UNARY for i in range(7)]
    steps += [("matmul", pair, {}) for pair in [(1, 4), (0, 4), (5, 4), (6, 4)]]
    for op in REDUCE:
        for axis in (None, 0, -1, (0, 2), (-1, -2)):
            steps += [(op, (0,), {"axis": axis, "keepdims": keep}) for keep in (True, False)]
        steps += [(op, (5,), {"axis": (1, -1)}), (op, (2,), {}), (op, (1,), {"keepdims": True})]
    with np.errstate(all="ignore"):
        for op, places, options in steps:
            program.append((op, places, options))
            function = {**BINARY, **UNARY, **REDUCE, "matmul": np.matmul}[op]
            arrays.append(function(*(arrays[i] for i in places), **options))
    program.append(constant(np.float32(2)))
    arrays.append(np.float32(2))
    expected = [(np.shape(a), str(a.dtype)) for a in arrays]
    close(student.infer(program, given), expected)


@pytest.mark.question("q4a")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_errors_at_other_places(student):
    """Shapes that do not fit: in a batch, in a late step, 1 against 3; axes that are not there; no false alarm"""
    huge = {"x": ((10**6, 10**6), "float32"), "y": ((10**6, 1), "float32")}
    program = [source("x"), source("y"), ("mul", (0, 1), {}), ("matmul", (2, 1), {}), ("sum", (3,), {"axis": 0})]
    close(student.infer(program, huge)[2:], [((10**6, 10**6), "float32"), ((10**6, 1), "float32"), ((1,), "float32")])
    for bad in (
        [*program, constant(np.ones(3)), ("sub", (2, 5), {})],
        [*program, constant(np.ones((2, 3, 3))), ("matmul", (5, 3), {})],
        [*program, constant(np.ones((2, 1, 10**3))), ("maximum", (5, 0), {})],
    ):
        try:
            student.infer(bad, huge)
            kind, message = "", ""
        except StudentError as error:
            kind, message = error.kind, error.message
        assert kind == "ValueError"
        assert re.search(r"\bstep 6\b", message)
    # In a product the inner axis never broadcasts: not 1 against 3 either.
    products = [((2, 3, 4), (5, 4, 2)), ((2, 1), (3, 2)), ((2, 3), (1, 2)), ((6, 2, 1), (3, 2))]
    for left, right in products:
        assert refused(student, [source("a"), source("b"), ("matmul", (0, 1), {})], left, right) == "ValueError"
    for shape, axis in [((4, 5), 2), ((4, 5), -3), ((4, 5), (0, 2)), ((), 1), ((), -2)]:
        reduced = [source("a"), source("b"), ("max", (0,), {"axis": axis, "keepdims": True})]
        assert refused(student, reduced, shape, ()) == "ValueError"


def refused(student, program, left, right):
    """The kind of error that infer raises for a program of three steps, if it names the last of them."""
    try:
        student.infer(program, {"a": (left, "float64"), "b": (right, "float64")})
    except StudentError as error:
        return error.kind if re.search(r"\bstep 2\b", error.message) else "unnamed"
    return "no error"


MEANING = {**BINARY, "tanh": np.tanh, "sum": np.sum}


def value_of(program, root, given):
    values = []
    for operation, places, options in program:
        if operation == "input":
            values.append(given[options["name"]])
        elif operation == "constant":
            values.append(options["value"])
        else:
            values.append(MEANING[operation](*(values[i] for i in places), **options))
    return values[root]


def written_out(program, place, known):
    """A step as one text: equal texts are equal steps; a value in bytes where nothing but constants is below."""
    if place not in known:
        operation, places, options = program[place]
        below = [written_out(program, i, known) for i in places]
        if operation == "constant" or (below and all(b[0] == "constant" for b in below)):
            value = np.asarray(value_of(program[: place + 1], place, {"x": np.ones(2), "y": np.ones(2)}))
            known[place] = ("constant", f"{value.dtype.str}{value.shape}{value.tobytes()!r}")
        else:
            known[place] = (operation, f"{operation}{sorted(options.items())}({'; '.join(b[1] for b in below)})")
    return known[place]


def small(program, root):
    """How many steps of each operation are left at best."""
    known = {}
    written_out(program, root, known)
    needed, ahead = set(), [root]
    while ahead:
        place = ahead.pop()
        if place not in needed:
            needed.add(place)
            ahead += [] if known[place][0] == "constant" else program[place][1]
    return Counter(kind for kind, _ in {known[place] for place in needed})


@pytest.mark.question("q4b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_random_programs_become_as_small_as_can_be(student, rng):
    """Random programs full of constants and repetitions: the same value, the fewest steps, nothing computed twice"""
    for trial in range(10):
        program = [source("x"), source("y"), source("x"), constant(2.0), constant(0.5), constant(2.0)]
        if trial == 0:  # repetitions that only merging below brings to light, and constants on the way
            program += [("add", (0, 1), {}), ("add", (2, 1), {}), ("tanh", (6,), {}), ("tanh", (7,), {})]
            program += [("mul", (3, 5), {}), ("mul", (8, 10), {}), ("mul", (9, 10), {}), ("add", (11, 12), {})]
            program += [("add", (12, 11), {}), ("sum", (13,), {"axis": None}), ("maximum", (14, 13), {})]
            program += [("maximum", (16, 15), {})]
        while len(program) < 18:
            here, kind = len(program), str(rng.choice(["add", "mul", "maximum", "tanh", "sum"]))
            places = [int(p) for p in rng.integers(max(0, here - 8), here, 1 if kind in ("tanh", "sum") else 2)]
            program.append((kind, tuple(places), {"axis": None} if kind == "sum" else {}))
        root = 17 - trial % 3  # the first trial needs everything
        calls = Counter()

        def counting(name, calls=calls):
            def inner(*args, **options):
                calls[name] += 1
                return MEANING[name](*args, **options)

            return inner

        new, end = student.simplify(program, root, {name: counting(name) for name in MEANING})
        given = {"x": rng.normal(size=2), "y": rng.normal(size=2)}
        for place, step in enumerate(new):
            assert len(step) == 3
            assert all(0 <= i < place for i in step[1])
        close(np.asarray(value_of(new, end, given)), np.asarray(value_of(program, root, given)), rtol=1e-12)
        close(dict(Counter(step[0] for step in new)), dict(small(program, root)))
        known = {}
        written_out(program, root, known)
        close(sum(calls.values()) <= sum(k == "constant" and bool(program[p][1]) for p, (k, _) in known.items()), True)


@pytest.mark.question("q4b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_constants_that_only_look_equal(student):
    """0 and -0, 1 in two precisions, one number in two shapes stay apart; NaN and equal arrays are merged"""
    zero, minus = np.array(0.0), np.array(-0.0)
    program = [source("x"), constant(zero), constant(minus), ("div", (0, 1), {}), ("div", (0, 2), {})]
    program += [("maximum", (3, 4), {})]
    new, end = student.simplify(program, 5, MEANING)
    with np.errstate(divide="ignore"):
        close(value_of(new, end, {"x": np.array([1.0, -1.0])}), np.array([np.inf, np.inf]))
    close(dict(Counter(step[0] for step in new)), {"input": 1, "constant": 2, "div": 2, "maximum": 1})
    for left, right, left_over in [
        (np.float32([1.0]), np.array([1.0]), 2),
        (np.array([1.0, 1.0]), np.array([[1.0, 1.0]]), 2),
        (np.array([np.nan, 2.0]), np.array([np.nan, 2.0]), 1),
        (np.ones((2, 3)), np.ones((2, 3)), 1),
    ]:
        program = [source("x"), constant(left), constant(right), ("mul", (0, 1), {}), ("mul", (3, 2), {})]
        new, end = student.simplify(program, 4, MEANING)
        close(Counter(step[0] for step in new)["constant"], left_over)
        got = value_of(new, end, {"x": np.float32(3)})
        close(got, np.float32(3) * left * right)
        assert got.dtype == (left * right).dtype
    # An input alone, and a constant alone, are programs too.
    new, end = student.simplify([source("x"), constant(1.0)], 0, MEANING)
    close([list(map(str, (step[0], step[2]["name"]))) for step in new], [["input", "x"]])
    close(end, 0)


@pytest.mark.question("q4b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_steps_that_only_look_equal(student, rng):
    """Constants that print alike, also large ones that differ in the middle; a + b beside b + a"""
    large = rng.normal(size=2_000)
    other = large.copy()
    other[1_000] += 1e-3
    for left, right, left_over in [
        (np.array(1.0), np.array(1.0 + 1e-12), 2),
        (np.array([0.1, 3.0]), np.array([0.1, 3.0 - 1e-14]), 2),
        (large, other, 2),
        (large, large.copy(), 1),
    ]:
        program = [source("x"), constant(left), constant(right), ("sub", (0, 1), {}), ("sub", (0, 2), {})]
        program.append(("sub", (3, 4), {}))
        new, end = student.simplify(program, 5, MEANING)
        close(Counter(step[0] for step in new)["constant"], left_over)
        close(value_of(new, end, {"x": np.array(1.0)}), value_of(program, 5, {"x": np.array(1.0)}))
    for kind in ("add", "mul", "maximum"):
        program = [source("x"), source("y"), (kind, (0, 1), {}), (kind, (1, 0), {}), (kind, (0, 1), {})]
        program += [("sub", (2, 3), {}), ("div", (5, 4), {})]
        new, _ = student.simplify(program, 6, MEANING)
        close(dict(Counter(step[0] for step in new)), {"input": 2, kind: 2, "sub": 1, "div": 1})


@pytest.mark.question("q4c")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_live_bytes_by_definition(student, rng):
    """Random programs: each step's bytes counted value by value"""
    for _ in range(8):
        program = [source("x"), source("y")]
        while len(program) < 20:
            count = int(rng.integers(0, 4))
            places = tuple(int(p) for p in rng.integers(0, len(program), count))
            program.append(("step" if places else "input", places, {} if places else {"name": "z"}))
        sizes = [int(s) for s in rng.integers(0, 50, 20)]
        keep = [int(k) for k in rng.choice(20, 3, replace=False)]
        expected = []
        for now in range(20):
            live = 0
            for value in range(now + 1):
                late = any(value in program[user][1] for user in range(now, 20))
                live += sizes[value] if value == now or value in keep or late else 0
            expected.append(live)
        close(student.live_bytes(program, sizes, keep), expected)


@pytest.mark.question("q4c")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_live_bytes_of_sixty_thousand_steps(student):
    """60,000 steps, all of them kept; a long chain whose first value is used to the end; an empty program"""
    n = 60_000
    program = [source("x"), *(("add", (0, i), {}) for i in range(n - 1))]
    got = student.live_bytes(program, [10**12] * n, list(range(n)))
    close(np.array(got), np.arange(1, n + 1) * 10**12)
    got = student.live_bytes(program[:5_000], [3] * 5_000, [])
    close(np.array(got), np.array([3, 6, *([9] * 4_998)]))
    close(list(student.live_bytes([], [], [])), [])
