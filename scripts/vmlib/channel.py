# SPDX-License-Identifier: GPL-2.0
"""The machine's second serial port: what the scenario says comes out of it, answers go in."""

import select
import socket
from pathlib import Path


class Channel:
    """Keeps everything in `log` and gives it out in whole lines. QEMU connects when it starts."""

    def __init__(self, path: Path, log: Path):
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._machine: socket.socket | None = None
        self._log = log.open("wb")
        self._rest = b""

    def qemu(self) -> list[str]:
        """QEMU's arguments for the port."""
        return ["-chardev", f"socket,id=channel,path={self.path}", "-serial", "chardev:channel"]

    def lines(self, seconds: float) -> list[str]:
        """The whole lines that have come; waits up to `seconds` for the first byte."""
        out = []
        while select.select([self._machine or self._listener], [], [], seconds)[0]:
            seconds = 0
            if self._machine is None:
                self._machine, _ = self._listener.accept()
                continue
            try:
                data = self._machine.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                break
            self._log.write(data)
            self._log.flush()
            whole, newline, rest = (self._rest + data).rpartition(b"\n")
            self._rest = rest
            out += whole.decode(errors="replace").splitlines() if newline else []
        return out

    def answer(self, line: str) -> None:
        try:
            self._machine.sendall(line.encode() + b"\n")
        except BrokenPipeError:
            pass  # The machine is going away; the runner will notice.

    def close(self) -> None:
        for file in (self._machine, self._listener, self._log):
            if file:
                file.close()
