"""Part 4, what is known before anything runs: shapes, smaller programs, live bytes."""

import re
from collections import Counter

import numpy as np
import pytest

from autograder.compare import close
from autograder.errors import StudentError


def inputs(*names):
    return [("input", (), {"name": name}) for name in names]


def constant(value):
    return ("constant", (), {"value": np.asarray(value)})


@pytest.mark.question("q4a")
@pytest.mark.points(2)
def test_shapes_and_dtypes_of_a_layer(student):
    """A layer, a softmax's parts, and inputs far too large to be made"""
    program = [
        *inputs("x", "w", "b"),
        ("matmul", (0, 1), {}),
        ("add", (3, 2), {}),
        ("max", (4,), {"axis": -1, "keepdims": True}),
        ("sub", (4, 5), {}),
        ("exp", (6,), {}),
        ("sum", (7,), {"axis": (0, 1)}),
        ("mean", (7,), {}),
        ("sum", (7,), {"axis": 0}),
    ]
    for batch in (64, 10**9):
        given = {"x": ((batch, 784), "float32"), "w": ((784, 10), "float32"), "b": ((10,), "float32")}
        shapes = [(batch, 784), (784, 10), (10,), (batch, 10), (batch, 10), (batch, 1), (batch, 10), (batch, 10)]
        expected = [(shape, "float32") for shape in [*shapes, (), (), (10,)]]
        close(student.infer(program, given), expected, input=(program, given))
    mixed = [*inputs("x"), constant(np.ones((3, 1))), ("mul", (0, 1), {})]
    got = student.infer(mixed, {"x": ((2,), "float32")})
    close(got, [((2,), "float32"), ((3, 1), "float64"), ((3, 2), "float64")], input=mixed)


@pytest.mark.question("q4a")
@pytest.mark.points(1)
def test_shapes_that_do_not_fit_are_named(student):
    """A ValueError that says which step: "step 3" """
    wide = [*inputs("x", "y"), ("tanh", (0,), {}), ("matmul", (2, 1), {}), ("exp", (3,), {})]
    given = {"x": ((4, 5), "float64"), "y": ((5, 2), "float64")}
    close(student.infer(wide, given)[3], ((4, 2), "float64"), input=(wide, given))
    for operation, other in (("matmul", (4, 2)), ("add", (4,))):
        program = [*inputs("x", "y"), ("tanh", (0,), {}), (operation, (2, 1), {}), ("exp", (3,), {})]
        try:
            student.infer(program, {"x": ((4, 5), "float64"), "y": (other, "float64")})
            kind, message = "no error", ""
        except StudentError as error:
            kind, message = error.kind, error.message
        said = f"{operation} of shapes (4, 5) and {other} in step 3: expected a ValueError that says step 3"
        assert kind == "ValueError", f"{said}, got {kind}"
        assert re.search(r"\bstep 3\b", message), f"{said}, its message is: {message[:80]}"


def meaning(calls):
    """What operations compute, with a count of the calls."""
    functions = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "tanh": np.tanh, "neg": np.negative,
        "sum": np.sum, "random": lambda *parts, **options: np.zeros(()),
    }  # fmt: skip

    def counted(name):
        def inner(*args, **options):
            calls[name] += 1
            return functions[name](*args, **options)

        return inner

    return {name: counted(name) for name in functions}


def simplified(student, program, root, given):
    """The new program, held to what every result must be; its operations, and the calls that folding made."""
    folding, running = Counter(), Counter()
    got = student.simplify(program, root, meaning(folding))
    assert isinstance(got, list | tuple), f"simplify gives a program and a root, got {type(got).__name__}"
    assert len(got) == 2, f"simplify gives a program and a root, got {len(got)} things"
    new, end = got
    assert isinstance(new, list | tuple), f"the new program is a list of steps, got {type(new).__name__}"
    assert 0 <= end < len(new), f"the root {end} is no step of a program of {len(new)} steps"
    for place, step in enumerate(new):
        assert len(step) == 3, f"step {place} is no (operation, inputs, options): {step}"
        assert all(0 <= i < place for i in step[1]), f"step {place} uses a step that is not before it: {step}"

    def value_of(steps, last):
        values, functions = [], meaning(running)
        for operation, places, options in steps:
            if operation in ("input", "constant"):
                values.append(given[options["name"]] if operation == "input" else options["value"])
            else:
                values.append(functions[operation](*(values[i] for i in places), **options))
        return values[last]

    close(value_of(new, end), value_of(program, root), rtol=1e-12, input=(program, root))
    return Counter(step[0] for step in new), folding


@pytest.mark.question("q4b")
@pytest.mark.points(1)
def test_constants_are_folded(student):
    """x times (2 * 3 + 4) is x times 10; each folded step is computed once"""
    program = [*inputs("x"), constant(2.0), constant(3.0), ("mul", (1, 2), {}), constant(4.0)]
    program += [("add", (3, 4), {}), ("mul", (0, 5), {})]
    kinds, folding = simplified(student, program, 6, {"x": np.array([1.0, 2.0])})
    close(dict(kinds), {"input": 1, "constant": 1, "mul": 1}, input=program)
    close(dict(folding), {"mul": 1, "add": 1}, input=program)


@pytest.mark.question("q4b")
@pytest.mark.points(1)
def test_equal_steps_are_merged(student):
    """tanh(x + y) twice, by way of x + y twice; another option makes another step"""
    program = [*inputs("x", "y"), ("add", (0, 1), {}), ("add", (0, 1), {}), ("tanh", (2,), {}), ("tanh", (3,), {})]
    program += [("mul", (4, 5), {}), ("sum", (6,), {"axis": 0}), ("sum", (6,), {"axis": 1}), ("sub", (7, 8), {})]
    given = {"x": np.array([[1.0, 2.0], [0.0, 4.0]]), "y": np.array([[0.5, 0.0], [1.0, -4.0]])}
    kinds, _ = simplified(student, program, 9, given)
    close(dict(kinds), {"input": 2, "add": 1, "tanh": 1, "mul": 1, "sum": 2, "sub": 1}, input=program)


@pytest.mark.question("q4b")
@pytest.mark.points(1)
def test_what_the_root_does_not_need_is_dropped(student):
    """Steps after the root, beside it, and constants that folding has used up"""
    program = [*inputs("x", "unused"), ("neg", (0,), {}), ("tanh", (1,), {}), constant(1.0), ("neg", (4,), {})]
    program += [("add", (2, 5), {}), ("mul", (6, 6), {})]
    kinds, folding = simplified(student, program, 6, {"x": np.array([3.0]), "unused": np.array([1.0])})
    close(dict(kinds), {"input": 1, "neg": 1, "constant": 1, "add": 1}, input=(program, 6))
    close(dict(folding), {"neg": 1}, input=(program, 6))


@pytest.mark.question("q4b")
@pytest.mark.points(1)
def test_random_numbers_stay_random(student):
    """Two "random" steps are two steps, also with constants as inputs, and are never computed now"""
    program = [constant(1.0), ("random", (), {}), ("random", (), {}), ("random", (0,), {}), ("random", (0,), {})]
    program += [("sub", (1, 2), {}), ("sub", (3, 4), {}), ("add", (5, 6), {})]
    kinds, folding = simplified(student, program, 7, {})
    close(dict(kinds), {"constant": 1, "random": 4, "sub": 2, "add": 1}, input=program)
    assert not folding, f"nothing here can be folded, but {dict(folding)} was computed"


@pytest.mark.question("q4c")
@pytest.mark.points(2)
def test_live_bytes_of_a_chain_and_a_branch(student):
    """A chain lets go at once; a value that is used late stays"""
    chain = [*inputs("x"), ("tanh", (0,), {}), ("tanh", (1,), {}), ("tanh", (2,), {})]
    close(student.live_bytes(chain, [1, 2, 4, 8], [3]), [1, 3, 6, 12], input=(chain, [1, 2, 4, 8], [3]))
    close(student.live_bytes(chain, [1, 2, 4, 8], [0, 3]), [1, 3, 7, 13], input=(chain, [1, 2, 4, 8], [0, 3]))
    branch = [*inputs("x", "y"), ("add", (0, 1), {}), ("tanh", (2,), {}), ("mul", (0, 3), {}), ("neg", (4,), {})]
    sizes = [1, 2, 4, 8, 16, 32]
    close(student.live_bytes(branch, sizes, [5]), [1, 3, 7, 13, 25, 48], input=(branch, sizes, [5]))


@pytest.mark.question("q4c")
@pytest.mark.points(1)
def test_a_value_nobody_uses_is_gone_after_its_step(student):
    """Unused values, unless they are kept"""
    program = [*inputs("x", "y"), ("neg", (0,), {}), ("neg", (0,), {}), ("neg", (3,), {})]
    sizes = [1, 2, 4, 8, 16]
    close(student.live_bytes(program, sizes, []), [1, 3, 5, 9, 24], input=(program, sizes, []))
    close(student.live_bytes(program, sizes, [1, 2]), [1, 3, 7, 15, 30], input=(program, sizes, [1, 2]))
