"""A Jupyter kernel in a child of the fork server, on sockets that the trusted side opened.

The child shares no folder with anyone: the five listening sockets come as descriptors, and ZeroMQ is told to
use them (ZMQ_USE_FD) where the kernel binds the addresses of its connection file.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any

from autograder.colab import install_nothing, stand_in

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


def serve_kernel(
    connection: dict[str, Any], listening: list[int], *, loopback: bool, colab: bool = False
) -> None:
    """Be a kernel until the other side ends it.

    Args:
        connection: what a connection file says; transport `ipc`.
        listening: a listening unix socket for each of `CHANNELS`.
        loopback: may this process make TCP sockets? Where not, ZeroMQ would abort it instead of raising.
        colab: does the notebook need a stand-in for `google.colab`?
    """
    import zmq
    from ipykernel.kernelapp import IPKernelApp

    addresses = [f"ipc://{connection['ip']}-{connection[f'{channel}_port']}" for channel in CHANNELS]
    waiting = dict(zip(addresses, listening, strict=True))
    bind = zmq.Socket.bind

    def bind_given(sock: Any, address: str) -> Any:
        if address.startswith("tcp:") and not loopback:
            raise zmq.ZMQError(errno.EACCES)
        if address in waiting:
            sock.setsockopt(zmq.USE_FD, waiting.pop(address))
        return bind(sock, address)

    zmq.Socket.bind = bind_given  # type: ignore[assignment, method-assign]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    path = os.path.join(os.environ["HOME"], ".connection.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(connection, file)
    if colab:
        stand_in()
    sys.argv = ["notebook"]
    application = IPKernelApp.instance()
    application.initialize(["-f", path, "--HistoryManager.enabled=False", "--IPKernelApp.log_level=50"])
    install_nothing(application.shell)
    send_any_text(application.session)
    application.start()


def send_any_text(session: Any) -> None:
    """Let lone surrogates through as question marks: Jupyter drops a message that holds one, and with it the
    error that it tells of."""
    pack = session.pack

    def packed(message: Any) -> bytes:
        try:
            return bytes(pack(message))
        except UnicodeEncodeError:
            return json.dumps(message, default=str, ensure_ascii=False).encode("utf-8", "replace")

    session.pack = packed
