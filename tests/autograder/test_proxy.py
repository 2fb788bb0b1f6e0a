"""The conversation with a student's process: values, handles, reverse calls, limits, lies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from autograder.assignment import Limits
from autograder.errors import CallTimeout, MemoryExceeded, ProtocolError, StudentError, WorkerDied
from autograder.proxy import Worker
from autograder.sandbox import Sandbox, View
from autograder.usage import queued_s

CELL = """
import os, sys, signal, socket, time, threading
import numpy as np
answer = 42
def add(a, b=1): return a + b
def divide(a, b):
    return a / b
class Box:
    def __init__(self, data): self.data = np.asarray(data); self._hidden = 1
    def __matmul__(self, other): return Box(self.data @ other.data)
    def __radd__(self, other): return Box(other + self.data)
    def __neg__(self): return Box(-self.data)
    def __getitem__(self, key): return self.data[key]
    def sum(self): return float(self.data.sum())
def box(data): return Box(data)
def apply(function, *args): return function(*args)
def kind(value): return type(value).__name__
def talk(n): print("x" * n); sys.stderr.write("err"); return n
def loop():
    while True: pass
def swallow():
    while True:
        try: time.sleep(10)
        except BaseException: pass
def nap(seconds): time.sleep(seconds); return "awake"
def leave(code): os._exit(code)
def crash(): os.kill(os.getpid(), signal.SIGSEGV); import ctypes; ctypes.string_at(0)
def hungry(): return np.ones(1 << 30).sum()
def swallow_call(function):
    try: function()
    except BaseException as e: return type(e).__name__ + ": " + str(e)
def later(function):
    threading.Timer(0.05, swallow_call, [function]).start()
def wire(data):
    sock = socket.socket(fileno=os.dup(next(
        fd for fd in range(3, 64) if os.path.exists(f"/proc/self/fd/{fd}")
        and os.readlink(f"/proc/self/fd/{fd}").startswith("socket"))))
    sock.sendall(data)
    time.sleep(5)
def deep():
    found = []
    for _ in range(5000): found = [found]
    return found
class Liar:
    def __eq__(self, other): return True
    __class__ = property(lambda self: float)
    def __array__(self, *a): return np.zeros(3)
def lie(): return Liar()
def evil_error():
    class ValueError(Exception):
        __name__ = 3
        def __str__(self): return "x" * 10_000_000
    raise ValueError
"""
NAMES = [
    "answer", "add", "divide", "Box", "box", "apply", "kind", "talk", "loop", "swallow", "nap", "leave",
    "crash", "hungry",
    "swallow_call", "later", "wire", "deep", "lie", "evil_error",
]  # fmt: skip


@pytest.fixture(scope="module")
def sandbox(sandboxed: str) -> Iterator[Sandbox]:
    limits = Limits(call_s=5.0, question_s=5.0, memory_mb=256, output_mb=0.01)
    with Sandbox(sandboxed, View(), limits) as made:
        yield made


@pytest.fixture
def worker(sandbox: Sandbox) -> Iterator[Worker]:
    with sandbox.worker() as made:
        report = made.load([CELL], NAMES)
        assert (report.errors, report.missing) == ([], [])
        yield made


@pytest.fixture(scope="module")
def shared(sandbox: Sandbox) -> Iterator[Worker]:
    """For tests that leave the worker as it was."""
    with sandbox.worker() as made:
        made.load([CELL], NAMES)
        yield made


def test_values_come_and_go_by_value(shared: Worker) -> None:
    array = np.arange(6.0).reshape(2, 3)
    doubled = shared.student.add(array, array)
    np.testing.assert_array_equal(doubled, 2 * array)
    assert shared.student.answer == 42
    assert shared.student.add("a", b="b") == "ab"
    assert type(shared.student.add(np.float32(1), 0)) is np.float32


def test_a_missing_name_is_told_when_loading_and_when_used(sandbox: Sandbox) -> None:
    with sandbox.worker() as worker:
        assert worker.load(["x = 1"], ["f", "x"]).missing == ["f"]
        with pytest.raises(StudentError, match="f is not defined"):
            worker.student.f(1)
        assert worker.student.x == 1


def test_objects_stay_there_and_forward_operators_calls_and_attributes(shared: Worker) -> None:
    box = shared.student.Box([[1.0, 2.0], [3.0, 4.0]])
    product = box @ shared.student.box(np.eye(2))
    np.testing.assert_array_equal((-product).data, [[-1.0, -2.0], [-3.0, -4.0]])
    assert product.sum() == 10.0
    np.testing.assert_array_equal(box[0], [1.0, 2.0])
    np.testing.assert_array_equal((1.0 + box).data, [[2.0, 3.0], [4.0, 5.0]])
    assert shared.student.kind(box) == "Box"
    assert repr(box) == "<the student's Box object>"


@pytest.mark.parametrize(
    "use",
    [
        lambda h: h == h, lambda h: h != 1, lambda h: h < 1, bool, len, list, float, int, np.asarray,
        lambda h: 1 in h, lambda h: [1, 2][h], lambda h: setattr(h, "data", 1),
        lambda h: np.testing.assert_allclose(h, 0),
    ],
)  # fmt: skip
def test_a_handle_is_never_compared_or_converted(shared: Worker, use: Any) -> None:
    with pytest.raises(TypeError):
        use(shared.student.lie())


def test_a_handle_shows_no_private_name(shared: Worker) -> None:
    box = shared.student.box([1.0])
    with pytest.raises(AttributeError):
        box._hidden  # noqa: B018
    assert not hasattr(box, "__iter_hidden__")


def test_a_dropped_handle_is_forgotten_on_the_other_side(shared: Worker) -> None:
    cell = "import gc\nclass T: pass\ndef make(): return T()\n"
    cell += "def alive(): return sum(type(o) is T for o in gc.get_objects())"
    worker = shared
    worker.load([cell], ["make", "alive"])
    held = [worker.student.make() for _ in range(3)]
    assert worker.student.alive() == 3
    del held
    assert worker.student.alive() == 0


def test_the_students_code_calls_the_tests_functions(shared: Worker) -> None:
    assert shared.student.apply(lambda a, b: a * b, 6, 7) == 42
    calls: list[int] = []
    assert shared.student.apply(calls.append, 3) is None
    assert calls == [3]


def test_a_function_of_the_test_may_use_a_handle_while_it_is_called(shared: Worker) -> None:
    box = shared.student.box([1.0, 2.0])
    assert shared.student.apply(lambda b: b.sum() + box.sum(), box) == 6.0


def test_an_error_in_a_function_of_the_test_shows_the_student_its_kind_alone(shared: Worker) -> None:
    def fail() -> None:
        raise ValueError("the expected value is 17")

    assert shared.student.swallow_call(fail) == "ValueError: the test's function raised ValueError"


def test_an_assertion_in_a_function_of_the_test_cannot_be_swallowed(shared: Worker) -> None:
    def judge() -> None:
        raise AssertionError("wrong")

    with pytest.raises(AssertionError, match="wrong"):
        shared.student.swallow_call(judge)
    assert shared.student.add(1) == 2


def test_a_function_of_the_test_is_not_called_between_requests(worker: Worker) -> None:
    calls: list[int] = []
    worker.student.later(lambda: calls.append(1))
    time.sleep(0.2)
    assert worker.student.add(1) == 2
    assert calls == []


def test_calling_the_tests_functions_without_end_ends(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autograder.proxy.MAX_CALLBACKS", 50)
    worker.load(["def often(f):\n    while True: f()"], ["often"])
    with pytest.raises(ProtocolError, match="more than 50"):
        worker.student.often(lambda: None)


def test_slow_functions_of_the_test_are_free_for_the_time_of_one_call(worker: Worker) -> None:
    worker.load(["def repeat(f, n):\n    for _ in range(n): f()\n    return n"], ["repeat"])
    worker.call_s, began = 0.5, time.monotonic()
    assert worker.student.repeat(lambda: time.sleep(0.1), 7) == 7  # 0.5 s free, 0.2 s of the 0.5 s
    with pytest.raises(CallTimeout):
        worker.student.repeat(lambda: time.sleep(0.1), 100)
    assert time.monotonic() - began < 8.0  # 10 s of naps, were they free


def test_slow_functions_of_the_test_are_charged_through_nested_calls(worker: Worker) -> None:
    def nest() -> Any:
        time.sleep(0.1)
        return worker.student.apply(nest)

    worker.call_s, began = 0.3, time.monotonic()
    with pytest.raises(CallTimeout):
        worker.student.apply(nest)
    assert time.monotonic() - began < 10.0  # it would be for ever


def test_a_submission_is_the_main_module_with_all_that_looks_it_up(worker: Worker) -> None:
    cell = """from __future__ import annotations
import dataclasses, pickle, typing
if __name__ == "__main__":
    start = 4
@dataclasses.dataclass
class Point:
    x: int
    count: typing.ClassVar[int] = 3
def fields(): return [f.name for f in dataclasses.fields(Point)]
def again(): return pickle.loads(pickle.dumps(Point(start))).x
def hint(): return typing.get_type_hints(Point)["x"] is int
def base(): return Point.__module__
"""
    worker.load([cell], ["fields", "again", "hint", "base"])
    student = worker.student
    assert (student.fields(), student.again(), student.hint()) == (["x"], 4, True)
    assert student.base() == "__main__"


def test_a_test_and_a_student_calling_each_other_for_ever_ends(worker: Worker) -> None:
    def bounce(n: int) -> Any:
        return worker.student.apply(bounce, n + 1)

    with pytest.raises(StudentError):
        worker.student.apply(bounce, 0)


def test_an_error_carries_kind_text_cell_and_line_and_no_frame_of_ours(shared: Worker) -> None:
    with pytest.raises(StudentError) as caught:
        shared.student.divide(1, 0)
    error = caught.value
    assert (error.kind, error.message, error.cell, error.line) == (
        "ZeroDivisionError",
        "division by zero",
        1,
        7,
    )


def test_an_endless_error_text_is_cut(shared: Worker) -> None:
    with pytest.raises(StudentError) as caught:
        shared.student.evil_error()
    assert len(caught.value.message) <= 2_000


def test_a_result_that_cannot_be_sent_is_the_students_error(shared: Worker) -> None:
    with pytest.raises(StudentError, match="nested deeper"):
        shared.student.deep()
    assert shared.student.add(1) == 2


@pytest.mark.parametrize("name", ["loop", "swallow"])
def test_a_call_that_does_not_end_is_ended_and_its_process_is_gone(worker: Worker, name: str) -> None:
    worker.call_s, began = 0.3, time.monotonic()
    with pytest.raises(CallTimeout, match=r"0\.3 s"):
        getattr(worker.student, name)()
    assert time.monotonic() - began < 10.0  # it would be for ever
    assert worker.gone(2.0)
    assert isinstance(worker.failed, CallTimeout)
    with pytest.raises(CallTimeout):
        worker.student.add(1)


def test_a_loop_while_loading_names_the_statement(sandbox: Sandbox) -> None:
    with sandbox.worker() as worker:
        worker.load_s = 0.5
        with pytest.raises(CallTimeout) as caught:
            worker.load(["x = 1", "y = x\n\nwhile True:\n    x += 1"], ["x"])
    assert (caught.value.cell, caught.value.line) == (2, 3)


def test_the_deadline_of_a_question_bounds_every_call(worker: Worker) -> None:
    worker.deadline = time.monotonic() + 0.2
    with pytest.raises(CallTimeout, match="used up"):
        worker.student.loop()


def test_time_in_the_queue_for_a_processor_is_given_back_up_to_the_limit_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel counts is played: it is not the submission's doing that others held the processors."""
    worker.call_s = 0.3
    began = time.monotonic()
    monkeypatch.setattr(worker._life, "queued_s", lambda: 100.0 if time.monotonic() > began + 0.2 else 0.0)
    assert worker.student.nap(0.45) == "awake"
    monkeypatch.setattr(worker._life, "queued_s", lambda: 7.0)  # of earlier calls: none in this one
    with pytest.raises(CallTimeout):
        worker.student.nap(0.45)


def test_a_loop_gets_no_more_than_the_limit_twice_however_long_it_queued(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.call_s = 0.3
    began = time.monotonic()
    monkeypatch.setattr(worker._life, "queued_s", lambda: 1e3 * (time.monotonic() - began))
    with pytest.raises(CallTimeout):
        worker.student.loop()
    assert 0.5 < time.monotonic() - began < 10.0  # it would be for ever


def test_the_kernel_tells_how_long_a_process_queued_behind_another() -> None:
    """Two busy processes on one processor: each waits about as long as it runs."""
    processor = sorted(os.sched_getaffinity(0))[:1]
    code = f"import os; os.sched_setaffinity(0, {processor})\nwhile True: pass"
    pair = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    pidfd = os.pidfd_open(pair[0].pid)
    try:
        time.sleep(1.0)
        queued = queued_s(pidfd)
    finally:
        for process in pair:
            process.kill()
            process.wait()
    gone = queued_s(pidfd)
    os.close(pidfd)
    assert queued > 0.15
    assert gone == 0.0


@pytest.mark.parametrize(("code", "said"), [(0, "exit 0"), (3, "exit 3")])
def test_a_process_that_ends_itself_is_told_with_its_exit_code(worker: Worker, code: int, said: str) -> None:
    with pytest.raises(WorkerDied, match=said):
        worker.student.leave(code)


def test_a_crash_is_told_by_its_name(worker: Worker) -> None:
    with pytest.raises(WorkerDied, match="segmentation fault"):
        worker.student.crash()


def test_too_much_memory_is_an_error_and_the_process_lives_on(shared: Worker) -> None:
    with pytest.raises(MemoryExceeded):
        shared.student.hungry()
    assert shared.student.add(1) == 2


def test_much_output_is_cut_with_a_note_and_holds_nobody_up(worker: Worker) -> None:
    assert worker.student.talk(5_000_000) == 5_000_000
    assert len(worker.output) < 12_000
    assert "more bytes of output dropped" in worker.output


def test_output_survives_the_end_of_the_process_and_strange_bytes(sandbox: Sandbox) -> None:
    with sandbox.worker() as worker:
        worker.load(
            ["import os\ndef f(): os.write(1, b'\\xff\\xfe'); print('\\ud800 \\x1b[31m'); os._exit(1)"],
            ["f"],
        )
        with pytest.raises(WorkerDied):
            worker.student.f()
    assert "\ufffd\ufffd" in worker.output
    assert "\\ud800" in worker.output


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 40, b"\x00\x00\x00\x00", b"\x01\x00\x00\x00N", b"\x05\x00\x00\x00t\x00\x00\x00\x00",
        bytes([12, 0, 0, 0]) + b"t\x01\x00\x00\x00s\x02\x00\x00\x00ok",
        bytes([5, 0, 0, 0]) + b"s\xff\xff\xff\xff",
    ],
    ids=["long", "empty", "none", "empty tuple", "bare ok", "short"],
)  # fmt: skip
def test_bytes_that_are_no_answer_are_a_protocol_error(worker: Worker, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        worker.student.wire(data)
    assert worker.gone(2.0)


def test_handles_of_one_submission_do_not_go_to_another(shared: Worker, worker: Worker) -> None:
    with pytest.raises(TypeError, match="another submission"):
        worker.student.kind(shared.student.box([1.0]))


def test_a_call_is_one_message_there_and_one_back(shared: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that calls 300 times is cheap by that: 0.1 ms a call where nothing else runs."""
    sent, received = [], []
    send, receive = shared._send, shared._receive
    monkeypatch.setattr(shared, "_send", lambda *a: (sent.append(1), send(*a))[1])
    monkeypatch.setattr(shared, "_receive", lambda *a: (received.append(1), receive(*a))[1])
    add = shared.student.add  # looked up once, as a test does: that is a message of its own
    sent.clear(), received.clear()
    assert [add(n) for n in range(300)] == list(range(1, 301))
    assert (len(sent), len(received)) == (300, 300)
