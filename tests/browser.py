"""A headless Chromium for the tests, driven over the pipe of its DevTools: no driver, no port, no library of others.

Messages are JSON with a NUL behind each: commands go to the browser's descriptor 3, answers and events come from 4.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.waiting import eventually

PROGRAM = "chromium"
_ANSWER_S = 120
_FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-sync"),
    # As root it would refuse to start with one. It sees pages of the tests only.
    *("--no-sandbox", "--hide-scrollbars", "--force-color-profile=srgb", "--lang=en"),
)
# What a page must not do goes into a list of its own, before any of its scripts runs.
_WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.effectiveDirective}: ${event.blockedURI} ${event.sample}`), true);
window.dialogs = [];
window.alert = window.confirm = window.prompt = (text) => { dialogs.push(String(text)); };
"""
_KEYS = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    "Space": (32, " "),
    "Escape": (27, ""),
    "ArrowDown": (40, ""),
    "ArrowUp": (38, ""),
}


class Browser:
    """The browser, with one profile of its own that goes with it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cdt-browser-", dir="/var/tmp"))
        self._listeners: dict[str, Callable[[str, dict[str, Any]], None]] = {}
        self._number = 0
        self._pending = b""
        self._answers: dict[int, dict[str, Any]] = {}

    @classmethod
    def missing(cls) -> str:
        """Say what this machine lacks to run it; empty if nothing."""
        return "" if shutil.which(PROGRAM) else f"{PROGRAM} is not installed"

    def __enter__(self) -> Self:
        ends, self._out = os.pipe()
        self._in, other_ends = os.pipe()
        # Out of the way: one may have the number of another's place, where the shell puts them.
        theirs_in, theirs_out = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 100) for end in (ends, other_ends))
        os.close(ends)
        os.close(other_ends)
        script = f'exec 3<&{theirs_in} 4>&{theirs_out} {theirs_in}<&- {theirs_out}>&-; exec "$@"'
        command = [PROGRAM, *_FLAGS, f"--user-data-dir={self.folder}/profile", "about:blank"]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "bash", "-c", script, "bash", *command],
                pass_fds=(theirs_in, theirs_out),
                env={**os.environ, "HOME": str(self.folder), "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(30)
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            os.close(self._in)
            os.close(self._out)
            shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer. Raises `RuntimeError` with the browser's refusal."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _ANSWER_S
        while number not in self._answers:
            self.listen(deadline - time.monotonic())
            if time.monotonic() > deadline:
                raise RuntimeError(f"{method} had no answer in {_ANSWER_S} s")
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def listen(self, timeout_s: float = 0) -> None:
        """Take what the browser has said, and wait for it if need be."""
        if not select.select([self._in], [], [], max(timeout_s, 0))[0]:
            return
        said = os.read(self._in, 2**20)
        if not said:
            raise RuntimeError(f"{PROGRAM} has ended: {(self.folder / 'log').read_text(errors='replace')[-1000:]}")
        *whole, self._pending = (self._pending + said).split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            elif (listener := self._listeners.get(message.get("sessionId", ""))) is not None:
                listener(message["method"], message["params"])

    @contextmanager
    def page(self) -> Iterator[Page]:
        """Open a page in front of the others, with cookies of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, context, target, session)
        self._listeners[session] = page.hear
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
        page.resize(1280, 800)
        try:
            yield page
        finally:
            del self._listeners[session]
            self.call("Target.disposeBrowserContext", browserContextId=context)


class Page:
    """A page. `problems` are the errors that its console and its security policy have told."""

    def __init__(self, browser: Browser, context: str, target: str, session: str) -> None:
        self._browser, self._context, self._target, self._session = browser, context, target, session
        self.console: list[str] = []
        # Each request in order: method, path with query, and the bytes of its answer once they are there.
        self.requests: list[dict[str, Any]] = []
        self._by_id: dict[str, dict[str, Any]] = {}

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of DevTools."""
        return self._browser.call(method, self._session, **parameters)

    def hear(self, event: str, said: dict[str, Any]) -> None:
        """Note what happens in the page."""
        if event == "Network.requestWillBeSent":
            asked = {"method": said["request"]["method"], "url": said["request"]["url"], "bytes": 0, "status": 0}
            self.requests.append(asked)
            self._by_id[said["requestId"]] = asked
        elif event == "Network.responseReceived":
            self._by_id[said["requestId"]]["status"] = said["response"]["status"]
        elif event == "Network.loadingFinished":
            self._by_id[said["requestId"]]["bytes"] = int(said["encodedDataLength"])
        elif event == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.console.append(f"{said['entry']['source']}: {said['entry']['text']} {said['entry'].get('url', '')}")
        elif event == "Runtime.exceptionThrown":
            self.console.append(f"exception: {json.dumps(said['exceptionDetails'].get('exception', {}))}")
        elif event == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.console.append(f"console: {json.dumps(said['args'])}")

    @property
    def problems(self) -> list[str]:
        """What must not happen: errors of scripts, reports of the security policy, scripts of jobs that have run."""
        return [*self.console, *self.value("[...window.violations, ...window.dialogs]")]

    def open(self, url: str) -> None:
        """Load an address; returns at once where only what follows its # is another."""
        self.call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """Return what an expression is in the page; awaited, if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression[:200]}: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    def wait(self, expression: str, message: str = "") -> Any:
        """Return what an expression is once that counts as true."""

        def state() -> str:
            return f"{message or expression}; the page says: {self.text[:1500]!r}; {self.console}"

        try:
            return eventually(lambda: self.value(f"((seen) => seen instanceof Node || seen)({expression})"))
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {state()}") from None

    def see(self, *texts: str) -> None:
        """Wait until the page shows these texts."""
        for text in texts:
            self.wait(f"document.body?.innerText.includes({json.dumps(text)})", f"to see {text!r}")

    @property
    def text(self) -> str:
        """All that it shows."""
        return str(self.value("document.body?.innerText ?? ''"))

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key and let it go."""
        code, text = _KEYS[key]
        common = {"key": " " if key == "Space" else key, "code": key, "windowsVirtualKeyCode": code}
        common["modifiers"] = 8 if shift else 0
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Type a text into what has the focus."""
        self.call("Input.insertText", text=text)

    def resize(self, width: int, height: int) -> None:
        """Give the page a size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def theme(self, name: str) -> None:
        """Have the user prefer `light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def hide(self) -> None:
        """Lay another page of the same window over this one, until it comes to the front again."""
        self._browser.call("Target.createTarget", url="about:blank", browserContextId=self._context)
        self.wait("document.hidden", "the page to be hidden")

    def front(self) -> None:
        """Bring the page to the front: others are hidden then."""
        self._browser.call("Target.activateTarget", targetId=self._target)

    def screenshot(self, path: Path) -> None:
        """Write all of the page into a file."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        picture = self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True, clip={**size, "scale": 1}
        )
        path.write_bytes(base64.b64decode(picture["data"]))
