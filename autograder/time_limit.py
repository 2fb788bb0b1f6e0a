"""A time limit on a call in this very process, for `check`: the learner's loop ends, the kernel lives.

An interval timer (POSIX, main thread) raises again and again until the call gives in: code that swallows the
first exception meets the next. Where there is no such timer there is no limit; Stop still works.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from autograder.errors import CallTimeout


class _OutOfTime(BaseException):
    """Not an Exception, so that a learner's `except Exception` does not keep it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End the body after so many seconds of wall time.

    Raises:
        CallTimeout: the time was up.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)
        yield
    except _OutOfTime:
        raise CallTimeout("Timeout", f"no answer within {seconds:g} s: does a loop never end?") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
