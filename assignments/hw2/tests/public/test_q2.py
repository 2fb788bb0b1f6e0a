"""Part 2, the engine: programs small enough to do by hand, and rules that count their calls."""

from collections import Counter

import numpy as np
import pytest

from autograder.compare import close


def inputs(*names):
    return [("input", (), {"name": name}) for name in names]


def counted(rules):
    """The same rules, and how often each was called."""
    calls = Counter()

    def wrapped(name):
        def rule(*args, **options):
            calls[name] += 1
            return rules[name](*args, **options)

        return rule

    return {name: wrapped(name) for name in rules}, calls


@pytest.mark.question("q2a")
@pytest.mark.points(2)
def test_a_value_used_twice_gets_both_gradients(student):
    """(x y) + x and tanh(x x), worked out by hand"""
    x, y, seed = np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([1.0, 10.0])
    program = [*inputs("x", "y"), ("mul", (0, 1), {}), ("add", (2, 0), {})]
    got = student.go_back(program, {"x": x, "y": y}, seed)
    expected = [np.array([4.0, 50.0]), np.array([1.0, 20.0]), seed, seed]
    close(got, expected, rtol=1e-12, input=(program, {"x": x, "y": y}, seed))
    program = [*inputs("x"), ("mul", (0, 0), {}), ("tanh", (1,), {})]
    got = student.go_back(program, {"x": np.array([0.5])}, np.array([1.0]))
    inner = 1 - np.tanh(0.25) ** 2
    close(got, [np.array([inner]), np.array([inner]), np.array([1.0])], rtol=1e-12)


@pytest.mark.question("q2a")
@pytest.mark.points(2)
def test_each_rule_is_called_once(student):
    """40 doublings: 2 to the 40 paths, and 40 calls"""
    program = [*inputs("x"), *(("add", (i, i), {}) for i in range(40))]
    values = [np.array(2.0**i) for i in range(41)]
    rules, calls = counted({"add": lambda g, value, a, b: (g, g)})
    got = student.gradients(program, values, 40, np.array(1.0), rules)
    assert got is not None, "gradients returned None (is there a return?)"
    assert calls["add"] == 40, f"40 steps ask for 40 calls of a rule, got {calls['add']}"
    close(got, [np.array(2.0 ** (40 - i)) for i in range(41)], input="40 times x = x + x")


@pytest.mark.question("q2a")
@pytest.mark.points(1)
def test_two_gradients_that_share_an_array_stay_apart(student):
    """The rule of add returns one array twice; adding to one gradient leaves the other alone"""
    program = [*inputs("x", "y"), ("tanh", (0,), {}), ("add", (0, 1), {}), ("add", (3, 2), {})]
    got = student.go_back(program, {"x": np.zeros(2), "y": np.ones(2)}, np.array([1.0, 3.0]))
    one = np.array([1.0, 3.0])
    close(got, [2 * one, one, one, one, one], input="(x + y) + tanh(x) at x = 0")


@pytest.mark.question("q2a")
@pytest.mark.points(1)
def test_dtypes_are_kept_and_other_branches_left_out(student):
    """A rule that gives float64 for float32; None where the root does not depend on a value"""
    program = [*inputs("x", "y"), ("neg", (0,), {}), ("neg", (1,), {}), ("half", (2,), {"by": 2})]
    values = [np.full(2, v, np.float32) for v in (1, 2, -1, -2, -0.5)]
    rules, calls = counted(
        {"neg": lambda g, value, x: (-np.float64(g),), "half": lambda g, value, x, by: (np.float64(g) / by,)}
    )
    got = student.gradients(program, values, 4, np.float32([2, 6]), rules)
    assert got is not None, "gradients returned None (is there a return?)"
    assert dict(calls) == {"neg": 1, "half": 1}, (
        f"the root needs one call of neg and one of half, got {dict(calls)}"
    )
    wanted = [np.array([-1.0, -3.0]), None, np.array([1.0, 3.0]), None, np.array([2.0, 6.0])]
    close(got, wanted, input=program)
    kinds = [str(part.dtype) for part in got if part is not None]
    assert kinds == ["float32"] * 3, f"gradients of float32 values are float32, got {kinds}"


def steps_of(got):
    """Step numbers as a list, whether they came as a list, a tuple or an array."""
    assert isinstance(got, list | tuple | np.ndarray), f"needed gives a list, got {type(got).__name__}"
    return [int(step) for step in got]


@pytest.mark.question("q2b")
@pytest.mark.points(2)
def test_the_steps_on_a_path(student):
    """Two layers of which only the last is trained; a wanted value that the root does not need"""
    program = [
        *inputs("x", "w1", "w2", "unused"),
        ("matmul", (0, 1), {}),
        ("tanh", (4,), {}),
        ("matmul", (5, 2), {}),
        ("mul", (3, 3), {}),
    ]
    for wanted, root, steps in [
        ([2], 6, [2, 6]),
        ([1, 2], 6, [1, 2, 4, 5, 6]),
        ([0], 6, [0, 4, 5, 6]),
        ([3], 6, []),
        ([1], 5, [1, 4, 5]),
        ([6], 6, [6]),
        ([], 6, []),
    ]:
        close(steps_of(student.needed(program, wanted, root)), steps, input=(program, wanted, root))


@pytest.mark.question("q2b")
@pytest.mark.points(1)
def test_many_paths_are_not_walked_one_by_one(student):
    """A ladder of 200 rungs has 2 to the 200 paths"""
    program = inputs("x")
    for rung in range(200):
        program += [("tanh", (2 * rung,), {}), ("add", (2 * rung, 2 * rung + 1), {})]
    close(steps_of(student.needed(program, [0], 400)), list(range(401)), input="a ladder of 200 rungs")


def evaluated(program, given):
    """A program's values by the meaning of its steps."""
    meaning = {
        "constant": lambda value: value, "add": np.add, "sub": np.subtract, "mul": np.multiply,
        "div": np.divide, "maximum": np.maximum, "matmul": np.matmul, "tanh": np.tanh, "sum": np.sum,
    }  # fmt: skip
    values = []
    for operation, places, options in program:
        if operation == "input":
            values.append(given[options["name"]])
        else:
            assert operation in meaning, f"a step has the operation {operation!r}"
            values.append(meaning[operation](*(values[i] for i in places), **options))
    return values


#: An expression, and what its value is by NumPy alone.
EXPRESSIONS = {
    "x + y": lambda x, y: x + y,
    "2 - x": lambda x, y: 2 - x,
    "x - 2": lambda x, y: x - 2,
    "1 / y": lambda x, y: 1 / y,
    "y / 4": lambda x, y: y / 4,
    "3 * x * y": lambda x, y: 3 * x * y,
    "(x @ y) * x": lambda x, y: (x @ y) * x,
}


def traced(student, function, *arrays):
    """What a function of Tensors writes on a tape: (program, values, root)."""
    tape = student.Tape()
    tensors = [tape.write(("input", (), {"name": f"x{i}"}), array) for i, array in enumerate(arrays)]
    root = function(*tensors).place
    return tape.program, tape.values, root


@pytest.mark.question("q2c")
@pytest.mark.points(2)
def test_operators_record_what_numpy_computes(student):
    """Seven expressions: the right value, and a tape that leads to it"""
    x, y = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[2.0, 0.5], [4.0, 8.0]])
    for text, function in EXPRESSIONS.items():
        program, values, root = traced(student, function, x, y)
        close(values[root], function(x, y), rtol=1e-12, input=text)
        close(evaluated(program, {"x0": x, "x1": y})[root], function(x, y), rtol=1e-12, input=text)


@pytest.mark.question("q2c")
@pytest.mark.points(1)
def test_a_number_takes_the_dtype_of_the_tensor(student):
    """float32 stays float32 beside Python's numbers and beside np.float64(3)"""
    x = np.ones(3, np.float32)
    for text, function in {
        "2 * x": lambda x: 2 * x,
        "x / 3.0": lambda x: x / 3.0,
        "x - np.float64(3)": lambda x: x - np.float64(3),
        "x + np.array(0.5)": lambda x: x + np.array(0.5),
    }.items():
        program, values, _ = traced(student, function, x)
        kinds = [str(np.asarray(v).dtype) for v in values]
        assert kinds == ["float32"] * 3, f"{text}: the values have the dtypes {kinds}, x has float32"
        constant = next((step for step in program if step[0] == "constant"), None)
        assert constant is not None, f'{text}: the number is a step "constant" on the tape'


@pytest.mark.question("q2c")
@pytest.mark.points(1)
def test_two_tapes_do_not_mix(student):
    """A Tensor of another tape is refused with a ValueError"""
    x, y = (student.Tape().write(("input", (), {"name": "x0"}), np.ones(2)) for _ in range(2))
    close((x + x).place, 1, input="x + x, the second step of its tape")
    try:
        _, kind = y + x, "no error"
    except Exception as error:  # in a notebook the error itself, in grading one that tells its kind
        kind = getattr(error, "kind", type(error).__name__)
    assert kind == "ValueError", f"x and y of two tapes: y + x raises a ValueError, got {kind}"
