"""Ports and processes of this machine, as the embedded broker looks at them."""

import random
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lakehouse_spark.errors import LakehouseError

HOST = "127.0.0.1"
POLL_SECONDS = 0.05
# Below the ports systems give to outgoing connections: a client that keeps dialling a dead broker takes none of these.
_PORTS = range(20_000, 32_000)


def command_line(pid: int) -> str:
    """What the process was started with; "" when there is none, or when it is dead and only waits to be reaped."""
    if not Path("/proc/self/cmdline").exists():
        asked = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        return subprocess.run(asked, capture_output=True, text=True, errors="replace", check=False).stdout
    found = ""

    def is_known() -> bool:
        """For moments, while it becomes another program or dies, a process that lives has no command line."""
        nonlocal found
        found = _read(f"/proc/{pid}/cmdline")
        return bool(found) or _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1] in ([], ["Z"], ["X"])

    wait_for(is_known, 2)
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_bytes().decode(errors="replace")
    except OSError:
        return ""


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the JVM does: old connections linger
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(besides: int | None = None) -> int:
    ports = (port for port in random.sample(_PORTS, 200) if port != besides)
    for port in ports:
        if is_free(port):
            return port
    raise LakehouseError(f"broker: found no free port from {_PORTS.start} to {_PORTS.stop - 1} on {HOST}")
