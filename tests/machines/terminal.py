"""A terminal of a booted machine: tmux on this host, with a shell of somebody in the machine inside of it."""

from __future__ import annotations

import subprocess
import uuid
from types import TracebackType
from typing import Self

from tests.machines.machine import Machine
from tests.waiting import eventually

# Wider than any line of the transcript: nothing is wrapped.
_WIDTH, _HEIGHT = 130, 50


class Terminal:
    """Keys go in, and what stands on the screen comes out. The shell's prompt is `prompt` and a blank."""

    def __init__(self, debian: Machine, user: str, prompt: str) -> None:
        self._prompt = prompt
        self._socket = f"cdt-{uuid.uuid4().hex[:8]}"
        login = f"script -qec 'su - {user}' /dev/null"
        shell = ["env", "-i", "TERM=screen", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        shell += ["nsenter", f"--target={debian.init_pid}", "--all", "--", "sh", "-c", login]
        size = ["-x", str(_WIDTH), "-y", str(_HEIGHT)]
        self._tmux("-f", "/dev/null", "new-session", "-d", *size, *shell)
        self._tmux("set-option", "-g", "history-limit", "10000")
        self._type(f"export LANG=C.UTF-8 PS1='{prompt} '")
        eventually(lambda: self._lines()[-1:] == [prompt], 20, f"the prompt of {user}: {self._lines()}")

    def run(self, line: str, timeout_s: float = 60) -> list[str]:
        """Type a line and return those that are on the screen between it and the next prompt."""
        before = len(self._lines())
        self._type(line)

        def answered() -> list[str] | None:
            now = self._lines()
            return now if len(now) > before and now[-1] == self._prompt else None

        lines = eventually(answered, timeout_s, f"the prompt after {line!r}")
        assert lines is not None
        assert lines[before - 1] == f"{self._prompt} {line}"
        return lines[before:-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        if value is not None:
            value.add_note("\n".join(self._lines()))
        self._tmux("kill-server")

    def _type(self, line: str) -> None:
        self._tmux("send-keys", "-l", "--", line)
        self._tmux("send-keys", "Enter")

    def _lines(self) -> list[str]:
        """Return all lines from the first to the cursor's, without blanks at their ends."""
        screen = self._tmux("capture-pane", "-p", "-J", "-S", "-").rstrip()
        return [line.rstrip() for line in screen.splitlines()]

    def _tmux(self, *argv: str) -> str:
        command = ["tmux", "-L", self._socket, *argv]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
