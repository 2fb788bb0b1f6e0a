"""The codec: exact for what it carries, and nothing but WireError for what it does not."""

from __future__ import annotations

import math
import socket
import struct
from collections import Counter, OrderedDict, defaultdict, namedtuple
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autograder import wire
from autograder.wire import Callback, Frames, Remote, WireError, decode, encode

EXACT = [
    None, True, False, ..., 0, -1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 7**4000, 0.1, -0.0, math.inf,
    5e-324, 1 + 2j, "", "a\x00b", "\ud800 lone", b"", b"\x00\xff", [], (), set(), frozenset(), {},
    [1, [2, (3, {4})]],
    {"a": [1], 2: (None,), (1, 2): b"k"}, [1.5] * 20, tuple(range(30)), [True] * 10, [1, True] * 10,
    slice(1, None, -2), int, str, object, np.float32, np.dtype(">i4"), frozenset({1, "a"}),
]  # fmt: skip
ARRAYS = [
    np.arange(6, dtype=">i2").reshape(2, 3), np.zeros((0, 3)), np.zeros((2, 0, 2), "u1"), np.array(3.0),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(20)[::3], np.array([True, False]),
    np.array([math.nan, -0.0]), np.array(["", "é", "abc"]), np.array([b"a", b"bc"]), np.array([1j], "c8"),
    np.float16([1, 2]), np.array([np.longdouble(1) / 3]), np.arange(100_000.0),
]  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Equal in type and bits, through containers."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return bool(a == b)


@pytest.mark.parametrize("value", EXACT, ids=lambda v: type(v).__name__)
def test_plain_values_arrive_exactly(value: Any) -> None:
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_arrive_with_dtype_shape_and_bits_and_can_be_written(array: np.ndarray) -> None:
    arrived = decode(encode(array))
    assert same(arrived, np.array(array, order="C"))
    assert arrived.flags.writeable


@pytest.mark.parametrize(
    "scalar",
    [np.float32(1.1), np.bool_(True), np.int8(-3), np.str_("a\x00"), np.bytes_(b"a\x00"), np.str_("")],
)
def test_numpy_scalars_stay_numpy_scalars(scalar: np.generic) -> None:
    assert same(decode(encode(scalar)), scalar)


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
)
values = st.recursive(
    scalars
    | hnp.arrays(hnp.scalar_dtypes().filter(lambda d: d.kind in "biufc"), hnp.array_shapes(min_side=0)),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(values)
def test_any_nested_value_arrives_with_the_bytes_that_it_would_be_sent_back_with(value: Any) -> None:
    sent = encode(value)
    assert encode(decode(sent)) == sent


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_value_or_a_wire_error(data: bytes) -> None:
    with suppress(WireError):
        decode(data, lambda reference: None)


@settings(deadline=None)
@given(values, st.data())
def test_a_damaged_message_gives_a_value_or_a_wire_error(value: Any, data: st.DataObject) -> None:
    message = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with suppress(WireError):
        decode(message[: data.draw(st.integers(0, len(message)))], lambda reference: None)


def test_subclasses_are_written_as_their_base_without_their_methods() -> None:
    class Liar(int):
        def __index__(self) -> int:
            raise AssertionError

        __eq__ = __int__ = __hash__ = __index__  # type: ignore[assignment]

    class Text(str):
        def __str__(self) -> str:
            raise AssertionError

        encode = __str__  # type: ignore[assignment]

    point = namedtuple("point", "x y")
    mapping = defaultdict(int, a=1)
    assert same(decode(encode([Liar(5), Text("t"), point(1, 2)])), [5, "t", (1, 2)])
    assert [decode(encode(m)) for m in (mapping, OrderedDict(a=1), Counter("a"))] == [{"a": 1}] * 3


def test_objects_stay_behind_under_a_reference() -> None:
    kept: list[Any] = []

    def keep(value: Any) -> Remote:
        kept.append(value)
        return Remote(len(kept), type(value).__name__)

    sent = encode([object(), 3, lambda: 0], keep)
    assert decode(sent, lambda r: (r.id, r.name)) == [(1, "object"), 3, (2, "function")]
    assert decode(encode(len, lambda v: Callback(9, "len")), lambda r: r) == Callback(9, "len")
    with pytest.raises(WireError):
        decode(sent)


def circle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "value",
    [
        circle(), 1 << 20_000, [None] * (wire.MAX_ITEMS + 1), np.array([object()]), np.zeros(2, "M8[s]"),
        np.zeros(2, [("a", "i4")]), object(), np.lib.stride_tricks.as_strided(np.zeros(1), (1 << 40,), (0,)),
    ],
    ids=["circle", "huge int", "too many", "objects", "dates", "records", "object", "huge array"],
)  # fmt: skip
def test_what_cannot_be_sent_is_refused(value: Any) -> None:
    with pytest.raises(WireError):
        encode(value)


def array_head(dtype: bytes, *shape: int) -> bytes:
    return b"A" + bytes([len(dtype)]) + dtype + bytes([len(shape)]) + struct.pack(f"<{len(shape)}Q", *shape)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"l\xff\xff\xff\xff", b"l\x01\x00\x00\x00" * 100 + b"N", b"Ppq\xff\xff\xff\x0f",
        array_head(b"<f8", 1 << 62), array_head(b"<f8", 1 << 32, 1 << 32), array_head(b"<U0", 1 << 30),
        array_head(b"<f8", 0, 1 << 63), array_head(b"|O8", 1) + bytes(8), array_head(b"|V8", 1) + bytes(8),
        array_head(b"f8,f8", 1) + bytes(16), array_head(b"<U999999", 1), array_head(b"<M8", 1) + bytes(8),
        array_head(b"<U1", 1) + struct.pack("<I", 0x110000), b"d\x01\x00\x00\x00l\x00\x00\x00\x00N",
        b"e\x01\x00\x00\x00d\x00\x00\x00\x00", b"I\xff\xff\xff\x7f", b"s\x01\x00\x00\x00\xff", b"uN", b"NN",
        b"\xff", b"p\x04eval", b"R" + bytes(8) + b"\x00",
    ],
    ids=repr,
)  # fmt: skip
def test_malformed_messages_are_wire_errors(data: bytes) -> None:
    with pytest.raises(WireError):
        decode(data)


def test_keys_that_were_made_to_collide_are_refused() -> None:
    same_hash = [k * (2**61 - 1) for k in range(1, 5_000)]
    with pytest.raises(WireError):
        decode(b"e" + struct.pack("<I", len(same_hash)) + b"".join(encode(k) for k in same_hash))


def test_a_truth_that_is_neither_true_nor_false_becomes_true() -> None:
    assert decode(array_head(b"|b1", 2) + b"\x02\x00").tobytes() == b"\x01\x00"


def test_an_announced_length_takes_no_memory_before_its_bytes_come() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("<I", wire.MAX_FRAME) + b"x" * 10)
        frames = Frames()
        frames.receive(ours)
        frames.receive(ours)
        assert frames.next() is None
        assert len(frames._buffer) < wire.MAX_FRAME // 16
        theirs.sendall(struct.pack("<I", wire.MAX_FRAME + 1))
        with pytest.raises(WireError):
            Frames().receive(ours)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 50))
def test_frames_are_cut_the_same_however_the_bytes_arrive(messages: list[bytes], step: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = b"".join(struct.pack("<I", len(m)) + m for m in messages)
        frames, seen = Frames(), []
        for start in range(0, len(stream), step):
            theirs.sendall(stream[start : start + step])
            while _readable(ours):
                frames.receive(ours)
                if (message := frames.next()) is not None:
                    seen.append(bytes(message))
        assert seen == messages


def _readable(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        sock.setblocking(True)
