"""The engine: depth, reuse, leaks, hooks, in-place changes, checkpoints, anomalies, override, providers."""

from __future__ import annotations

import gc
import inspect
import tracemalloc
import weakref

import ml_dtypes
import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab.autograd.tape import Node

FLOATS = [ag.float16, ag.bfloat16, ag.float32, ag.float64]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def leaf(*shape: int, seed: int = 0, dtype=np.float32) -> ag.Tensor:
    return ag.Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=True)


def live(kind: type) -> int:
    gc.collect()
    return sum(isinstance(o, kind) for o in gc.get_objects())


# Walking the tape.


def test_a_hundred_thousand_chained_operations_go_back_without_recursion():
    x = leaf(2)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward(np.float32([2, 3]))
    np.testing.assert_array_equal(x.grad.numpy(), [2, 3])


def test_a_long_graph_that_nobody_needs_is_freed_without_recursion():
    x = leaf(2)
    y = x
    for _ in range(100_000):
        y = y * 1.0
    last = weakref.ref(y)
    del y
    assert last() is None


def test_a_node_reused_64_deep_is_visited_once(rng):
    x = leaf(3)
    calls = []
    double = ag.primitive("double", lambda a, b: a + b, joint=lambda g: (calls.append(1) or g, g))
    y = x
    for _ in range(64):
        y = double(y, y)
    y.backward(np.ones(3, np.float32))
    assert len(calls) == 64
    np.testing.assert_array_equal(x.grad.numpy(), np.float32([2**64] * 3))


def test_two_leaves_of_one_sum_do_not_share_the_memory_of_their_gradients():
    a, b = leaf(4), leaf(4)
    up = np.ones(4, np.float32)
    (a + b).backward(up)
    a.grad.data += 1
    np.testing.assert_array_equal(b.grad.numpy(), 1)
    np.testing.assert_array_equal(up, 1)


def test_gradients_of_two_backwards_add_up():
    x = leaf(3)
    for _ in range(3):
        (x * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 6 * x.numpy(), rtol=1e-6)


def test_results_that_die_take_their_part_of_the_tape_along():
    x = leaf(3)
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(o, Node) for o in gc.get_objects())
        for _ in range(50):
            ag.softmax(ag.tanh(x * 2.0)).sum()
        assert sum(isinstance(o, Node) for o in gc.get_objects()) == before
    finally:
        gc.enable()


def test_the_tape_keeps_only_what_the_rules_read():
    x = leaf(1000)
    h = x + 1.0
    gone = weakref.ref(h.data)
    y = h + 2.0
    del h
    assert gone() is None
    y.backward(np.ones(1000, np.float32))


def test_step_10_and_step_1000_hold_the_same_memory_and_tensors():
    w, v = leaf(4, 3), leaf(3, 2, seed=1)
    x = np.ones((5, 4), np.float32)

    def step() -> None:
        w.grad = v.grad = None
        loss = ag.cross_entropy(ag.relu(x @ w) @ v, np.array([0, 1, 1, 0, 1]))
        loss.backward()
        with ag.no_grad():
            w.__isub__(0.01 * w.grad)
            v.__isub__(0.01 * v.grad)

    tracemalloc.start()
    try:
        for _ in range(10):
            step()
        tensors, held = live(ag.Tensor), tracemalloc.get_traced_memory()[0]
        for _ in range(990):
            step()
        assert live(ag.Tensor) == tensors
        # CPython keeps a few hundred freed tuples; a tensor kept per step would be over 100 KiB.
        assert tracemalloc.get_traced_memory()[0] - held < 60 * 1024
    finally:
        tracemalloc.stop()


# Dtypes.


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "fn",
    [
        lambda x: x * np.float64(1.5) + np.mean([1.0, 2.0]),
        lambda x: 2.0 / (x * x + 1) - 3,
        lambda x: ag.gelu(x) + ag.sigmoid(x) ** 2.5,
        lambda x: ag.mean(x, axis=0) * ag.softmax(x),
        lambda x: ag.where(x > 0, x, 0.0) + ag.maximum(x, 0.1),
        lambda x: ag.std(x @ x.T) + ag.logsumexp(x),
        lambda x: ag.cross_entropy(x, np.array([0, 2, 1])),
        lambda x: x * np.arange(3) + ag.max(x),
        lambda x: ag.prod(x) + ag.clip(x, -1, 1.0),
    ],
)
def test_no_scalar_changes_a_dtype_forward_or_back(dtype, fn):
    x = leaf(3, 3, dtype=dtype)
    y = fn(x)
    assert y.dtype == dtype
    y.backward(np.ones(y.shape))
    assert x.grad.dtype == dtype
    (g,) = ag.grad(ag.sum(fn(x)), x, create_graph=True)
    assert g.dtype == dtype


@pytest.mark.parametrize("dtype", [ag.float16, ag.bfloat16], ids=str)
def test_narrow_floats_are_added_in_float32(dtype):
    ones = np.ones((1, 5000), dtype)
    assert ag.sum(ag.Tensor(ones)).item() == dtype.type(5000)
    assert ag.matmul(ag.Tensor(ones), ag.Tensor(ones.T)).item() == dtype.type(5000)
    assert ag.mean(ag.Tensor(ones)).item() == 1
    np.testing.assert_allclose(np.float32(ag.softmax(ag.Tensor(ones)).data), 1 / 5000, rtol=1e-2)


def test_python_floats_become_float32_and_arrays_keep_their_dtype():
    assert ag.Tensor([1.0, 2.0]).dtype == ag.float32
    assert ag.asarray(2.5).dtype == ag.float32
    assert ag.Tensor(np.array([1.0])).dtype == ag.float64
    assert ag.zeros((2,), dtype=ag.bfloat16).dtype == np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize(
    "fn", [lambda x: x * 2.5, lambda x: x / 2, ag.exp, ag.mean, lambda x: x - np.float64(0.5)]
)
def test_integers_and_numbers_give_float32(fn):
    assert fn(ag.Tensor(np.arange(3))).dtype == ag.float32


# Wrong input: the exception and the words that help.


def backward_twice() -> None:
    y = (leaf(2) * leaf(2)).sum()
    y.backward()
    y.backward()


def freed_part() -> None:
    h = ag.exp(leaf(2))
    h.sum().backward()
    (h * 2.0).sum().backward()


def changed_leaf() -> None:
    x = leaf(2)
    x += 1.0


def changed_saved() -> None:
    h = leaf(3) * 1.0
    y = ag.exp(h)
    y *= 2.0
    y.sum().backward()


def changed_view() -> None:
    h = leaf(4) * 1.0
    y = h * h
    h[1:3][0] = 5.0
    y.sum().backward()


def nan_forward() -> None:
    with ag.detect_anomaly():
        ag.log(leaf(2) * 0.0 - 1.0)


def hooked(gradient) -> None:
    x = leaf(3)
    x.register_hook(lambda g: gradient)
    (x * 1.0).sum().backward()


def ruled(rule) -> None:
    with ag.override("tanh", rule):
        ag.tanh(leaf(3)).sum().backward()


def checkpointed_twice() -> None:
    x = leaf(3)
    ag.grad(ag.checkpoint(lambda x: x * x, x).sum(), x, create_graph=True)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (
            lambda: leaf(2, 3) @ leaf(2, 3),
            ag.ShapeError,
            ["last axis of the left one is as"],
        ),
        (lambda: hooked(np.ones(7, np.float32)), ag.GraphError, [r"float32 \(3,\), or None", r"\(7,\)"]),
        (lambda: hooked(np.ones(3)), ag.GraphError, ["hook returns", "float64"]),
        (lambda: hooked(2.0), ag.GraphError, ["hook returns", "got float"]),
        (
            lambda: setattr(leaf(3), "grad", np.ones(3)),
            ag.GraphError,
            ["expects a Tensor", "float64"],
        ),
        (lambda: ruled(lambda g, x: 1.0), ag.ShapeError, [r"gradient of shape \(\)", r"\(3,\)"]),
        (lambda: ruled(lambda g, x: np.ones((5, 5))), ag.ShapeError, [r"shape \(5, 5\)", r"\(3,\)"]),
        (lambda: ruled(lambda g, x, y, z: g), ag.GraphError, [r"takes g and \['x'\]", "'z'"]),
        (checkpointed_twice, ag.GraphError, ["checkpoint is differentiated once"]),
        (lambda: ag.checkpoint(lambda x: (x, x), leaf(3)), TypeError, ["one tensor, got tuple"]),
        (lambda: ag.grad(leaf(3).sum(), np.ones(3)), TypeError, ["ag.grad expects tensors, got ndarray"]),
        (
            lambda: ag.grad([leaf(1)], [leaf(1)], [1.0, 2.0]),
            ag.GraphError,
            ["per output, 1, got 2"],
        ),
        (lambda: ag.gradcheck(ag.exp, [np.ones(3)]), TypeError, ["gradcheck expects tensors, got ndarray"]),
        (lambda: ag.Tensor("a"), ag.DtypeError, ["holds numbers, got str"]),
        (lambda: ag.Tensor(None), ag.DtypeError, ["holds numbers, got NoneType"]),
        (
            lambda: ag.cross_entropy(leaf(1, 4), np.array([1.9])),
            ag.DtypeError,
            ["integer", "float64"],
        ),
        (lambda: leaf(2, 3) + leaf(4), ag.ShapeError, [r"add", r"\(2, 3\)", r"\(4,\)", "reshape"]),
        (lambda: leaf(2, 3) @ leaf(2, 3), ag.ShapeError, ["matmul", r"\(2, 3\) and \(2, 3\)"]),
        (lambda: ag.concat([leaf(2, 3), leaf(2, 4)]), ag.ShapeError, ["concat", r"\(2, 3\)", r"\(2, 4\)"]),
        (
            lambda: leaf(2) * leaf(2, dtype=np.float64),
            ag.DtypeError,
            ["multiply", "float32", "float64", "astype"],
        ),
        (lambda: leaf(2) * np.zeros(2), ag.DtypeError, ["float32 and float64", "astype"]),
        (backward_twice, ag.GraphError, ["freed", "retain_graph=True"]),
        (freed_part, ag.GraphError, ["'exp'", "freed"]),
        (lambda: leaf(2).backward(), ag.GraphError, [r"\(2,\)", "gradient="]),
        (lambda: leaf(2).backward(np.zeros(3)), ag.ShapeError, [r"\(2,\)", r"\(3,\)"]),
        (lambda: ag.Tensor([1.0]).backward(), ag.GraphError, ["requires_grad=True"]),
        (lambda: ag.Tensor([1, 2], requires_grad=True), ag.DtypeError, ["int64", "astype"]),
        (lambda: leaf(2).astype("int64").sum().backward(), ag.GraphError, ["int64", "no gradient"]),
        (changed_leaf, ag.InplaceError, ["leaf", "no_grad"]),
        (changed_saved, ag.InplaceError, ["'exp'", "in place", "copy"]),
        (changed_view, ag.InplaceError, ["'multiply'", "in place"]),
        (lambda: leaf(2).__getitem__(0).__setattr__("requires_grad", False), ag.GraphError, ["detach"]),
        (nan_forward, ag.NonFiniteError, ["'log'", "test_engine.py:"]),
        (lambda: ag.gemm_provider("cublas"), ValueError, ["cublas", "numpy"]),
        (lambda: ag.override("matmult", None), ag.GraphError, ["matmult", "matmul"]),
        (lambda: ag.grad(leaf(1) * 2.0, leaf(1)), ag.GraphError, ["do not depend", "allow_unused"]),
        (lambda: ag.einsum("ii->i", leaf(2, 2)), ag.ShapeError, ["distinct letters"]),
        (lambda: ag.zeros(2, device="tpu"), ValueError, ["tpu", "cuda"]),
        (lambda: ag.conv2d(leaf(1, 3, 4, 4), leaf(2, 2, 3, 3)), ag.ShapeError, ["conv2d", r"\(2, 2, 3, 3\)"]),
        (lambda: leaf(3)[5], IndexError, ["getitem"]),
    ],
)
def test_wrong_input_is_told_with_its_remedy(act, error, words):
    with pytest.raises(error) as caught:
        act()
    for word in words:
        caught.match(word)


@pytest.mark.parametrize(
    "act",
    [
        lambda: ag.concat([leaf(2, 3), leaf(2, 4)]),
        lambda: ag.cross_entropy(leaf(3, 4), np.array([0, 1])),
        lambda: ag.layer_norm(leaf(3, 4), leaf(5), leaf(5)),
        lambda: leaf(2, 3) @ leaf(2, 3),
    ],
)
def test_a_new_axis_is_advised_only_where_shapes_broadcast(act):
    with pytest.raises(ag.ShapeError) as caught:
        act()
    assert "x[None]" not in str(caught.value)


def test_lists_beside_a_tensor_are_arrays_of_its_dtype():
    x = leaf(3, 2)
    y = x @ [[1.0, 2.0], [3.0, 4.0]] + [5.0, 6.0]
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), x.numpy() @ np.array([[1, 2], [3, 4]]) + [5, 6], rtol=1e-5)


def test_a_jacobian_at_a_float64_array_is_float64():
    a = ag.jacobian(lambda x: x / 3.0, np.ones(2))
    assert a.dtype == np.float64
    np.testing.assert_array_equal(a.numpy(), np.eye(2) / 3)


def test_numpy_gives_a_view_that_cannot_be_written():
    x = leaf(2)
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 1


# In place.


def test_an_in_place_change_carries_its_gradient(rng):
    x, v = leaf(4), leaf(2, seed=1)
    h = x * 2.0
    h += 1.0
    h[1:3] = v
    h *= 3.0
    h.backward(np.float32([1, 2, 3, 4]))
    np.testing.assert_array_equal(x.grad.numpy(), [6, 0, 0, 24])
    np.testing.assert_array_equal(v.grad.numpy(), [6, 9])


def test_a_change_counts_where_it_overlaps_a_saved_value_and_not_beside_it():
    buffer = np.ones(8, np.float32)  # as an optimiser's flat buffer, of which parameters are views
    saved, beside, across = (ag.Tensor(buffer[part]) for part in (slice(0, 4), slice(4, 8), slice(3, 5)))
    saved.requires_grad = True
    y = saved * saved
    beside += 1.0
    y.sum().backward()
    np.testing.assert_array_equal(saved.grad.numpy(), 2)
    y = saved * saved
    across += 1.0
    with pytest.raises(ag.InplaceError, match="multiply"):
        y.sum().backward()


# Hooks.


def test_a_hook_sees_the_whole_gradient_and_may_change_it():
    x = leaf(2)
    h = x * 2.0
    y = h * h + h
    seen = []
    h.register_hook(lambda g: seen.append(np.array(g)))
    off = x.register_hook(lambda g: g * 10)
    y.backward(np.float32([1, 1]))
    np.testing.assert_allclose(seen, [4 * x.numpy() + 1], rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), 20 * seen[0], rtol=1e-6)
    off()
    x.grad = None
    (x * 1.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 1)


def test_a_leaf_is_reported_complete_as_soon_as_its_last_use_was_walked():
    first, second = leaf(2), leaf(2)
    order = []
    first.register_post_accumulate_grad_hook(lambda p: order.append(("first", p.grad.shape)))
    second.register_post_accumulate_grad_hook(lambda p: order.append(("second", p.grad.shape)))
    h = first * 2.0
    h.register_hook(lambda g: order.append("before first"))
    (h * second).sum().backward()
    assert order == [("second", (2,)), "before first", ("first", (2,))]


# Functions of functions.


def test_jacobian_and_hessian_vector_product_equal_the_closed_form(rng):
    a = rng.normal(size=(3, 3))
    x = ag.Tensor(rng.normal(size=3))
    np.testing.assert_allclose(ag.jacobian(lambda x: ag.matmul(a, x), x).numpy(), a)
    v = rng.normal(size=3)
    product = ag.hessian_vector_product(lambda x: (x * ag.matmul(a, x)).sum(), x, v)
    np.testing.assert_allclose(product.numpy(), (a + a.T) @ v)
    assert not ag.hessian_vector_product(lambda x: x.sum(), x, v).numpy().any()


def test_grad_leaves_grad_alone_and_reaches_inner_tensors():
    x = leaf(3)
    h = x * 2.0
    g_h, g_x = ag.grad((h * h).sum(), [h, x])
    np.testing.assert_allclose(g_h.numpy(), 2 * h.numpy())
    np.testing.assert_allclose(g_x.numpy(), 4 * h.numpy())
    assert x.grad is None


def test_a_checkpoint_gives_the_same_gradients_with_fewer_live_bytes(rng):
    w = leaf(200, 200, dtype=np.float64)
    x = leaf(50, 200, seed=2, dtype=np.float64)

    def block(h: ag.Tensor, noise: np.random.Generator) -> ag.Tensor:
        for _ in range(4):
            h = ag.tanh(h @ w) * noise.uniform(size=h.shape)
        return h

    results = []
    for keep in (True, False):
        noise = np.random.default_rng(1)
        x.grad = w.grad = None
        gc.collect()
        tracemalloc.start()
        h = x
        for _ in range(3):
            h = block(h, noise) if keep else ag.checkpoint(block, h, noise, generators=[noise])
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        h.backward(np.ones_like(h.data))
        results.append((held, x.grad.numpy(), w.grad.numpy(), noise.uniform()))
    (held, *plain), (less, *again) = results
    assert less < held / 3
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_gradcheck_accepts_a_right_rule_and_rejects_a_wrong_one():
    right = ag.primitive("cube", lambda x: x * x * x, lambda g, x: 3 * g * x * x)
    wrong = ag.primitive("cube", lambda x: x * x * x, lambda g, x: 3 * g * x)
    assert ag.gradcheck(right, leaf(4))
    with pytest.raises(AssertionError, match="input 0, element"):
        ag.gradcheck(wrong, leaf(4))


def test_anomaly_mode_names_the_forward_line_of_a_backward_that_breaks():
    x = ag.Tensor([0.0, 1.0], requires_grad=True)
    with ag.detect_anomaly():
        line = inspect.currentframe().f_lineno + 1
        y = ag.sqrt(x)
        with (
            pytest.raises(ag.NonFiniteError, match=rf"'sqrt'.*test_engine.py:{line}:"),
            np.errstate(all="ignore"),
        ):
            y.sum().backward()


def test_anomaly_mode_sees_the_backward_of_a_forward_outside_of_it():
    x = ag.Tensor([0.0, 1.0], requires_grad=True)
    y = ag.sqrt(x)
    for _ in range(2):
        with (
            ag.detect_anomaly(),
            pytest.raises(ag.NonFiniteError, match=r"'sqrt'.*outside of detect_anomaly"),
            np.errstate(all="ignore"),
        ):
            y.sum().backward(retain_graph=True)
    with np.errstate(all="ignore"):
        ag.sqrt(x).sum().backward()


def test_a_learners_rule_takes_over_and_is_gone_afterwards():
    a, b = leaf(2, 3), leaf(3, 4, seed=1)
    calls = []

    def matmul_vjp(g, a, b):
        calls.append(g.shape)
        return g @ b.T, a.T @ g

    with ag.override("matmul", matmul_vjp):
        y = a @ b
    y.backward(np.ones((2, 4), np.float32))
    ours = a.grad.numpy(), b.grad.numpy()
    a.grad = b.grad = None
    (a @ b).backward(np.ones((2, 4), np.float32))
    assert calls == [(2, 4)]
    np.testing.assert_allclose(ours[0], a.grad.numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours[1], b.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (lambda g, x, y: g * y, "got 1 of 2"),
        (lambda g, x, y: None, "got 1 of 2"),
        (lambda g, x, y: (g * y, None), "got None among them"),
    ],
)
def test_a_learners_rule_that_lacks_a_gradient_is_an_error(rule, said):
    x = ag.Tensor(np.ones((2, 3), "f4"), requires_grad=True)
    with ag.override("multiply", rule), pytest.raises(ag.GraphError, match=f"'multiply'.*{said}"):
        ag.sum(x * x).backward()


@pytest.mark.parametrize(
    ("act", "kind", "said"),
    [
        (lambda x: x[5], IndexError, r"getitem of shape \(2, 3\): index 5 is out of bounds"),
        (lambda x: x.reshape(5), ag.ShapeError, r"reshape of shape \(2, 3\): cannot reshape"),
        (lambda x: x + "a", TypeError, r"add of shape \(2, 3\)"),
    ],
)
def test_what_one_tensor_cannot_do_is_not_called_a_combination(act, kind, said):
    with pytest.raises(kind, match=said):
        act(ag.Tensor(np.ones((2, 3), "f4")))


def test_override_reaches_elementwise_operators_and_sums_over_broadcast_axes():
    a, b = leaf(2, 3), leaf(3, seed=1)
    with ag.override("multiply", lambda g, x, y: (g * y * 2, g * x * 2)):
        y = a * b
    y.backward(np.ones((2, 3), np.float32))
    np.testing.assert_allclose(a.grad.numpy(), np.tile(2 * b.numpy(), (2, 1)), rtol=1e-6)
    np.testing.assert_allclose(b.grad.numpy(), 2 * a.numpy().sum(0), rtol=1e-6)


def test_an_observer_hears_each_operation_with_its_arguments_and_result():
    x, heard = leaf(2), []
    with ag.observe(lambda op, arguments, result: heard.append((op.name, arguments, result))):
        h = x * 2.0
        y = ag.sum(h, axis=0)
    ag.exp(x)
    assert [name for name, _, _ in heard] == ["multiply", "sum"]
    assert heard[1][1][0] is h
    assert heard[1][2] is y


def test_no_grad_records_nothing_in_its_own_thread_only():
    import threading

    x, found = leaf(2), []
    with ag.no_grad():
        thread = threading.Thread(target=lambda: found.append((x * 2.0).requires_grad))
        thread.start()
        thread.join()
        found.append((x * 2.0).requires_grad)
    assert found == [True, False]


@pytest.mark.parametrize("name", ["native", "torch", "mkl", "auto"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_provider_multiplies_alike(name, dtype, rng):
    try:
        with ag.gemm_provider(name):
            pass
    except ImportError as error:
        pytest.skip(str(error))
    tolerance = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 1e-5, "float64": 1e-12}[str(dtype)]
    wide = rng.normal(size=(2, 6, 8)).astype(dtype)
    pairs = [
        (wide[0, ::2], wide[1].T),
        (wide, wide.swapaxes(-1, -2)),
        (wide[0][::-1], wide[1].T),
        (wide, wide[0].T),
    ]
    for a, b in [*pairs, (wide[:, :0], wide.swapaxes(-1, -2)), (wide[0, 0], wide[0].T)]:
        with ag.gemm_provider(name):
            got = ag.matmul(ag.Tensor(a), ag.Tensor(b)).data
        want = np.matmul(a.astype(np.float64), b.astype(np.float64))
        assert got.dtype == dtype
        np.testing.assert_allclose(got.astype(np.float64), want, rtol=tolerance, atol=tolerance * 4)
