"""A real Chromium for tests, without a window: driven over its DevTools protocol through two pipes.

https://chromedevtools.github.io/devtools-protocol/. Pointer and keys are the browser's own, not events that a script
makes up: they go through hit testing and focus as a user's do.
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PATIENCE = 120
"""Seconds for an answer: the machine may be busy with other things."""

# Chromium reads commands from descriptor 3 and answers on 4
_LAUNCH = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
          "--disable-background-networking", "--force-device-scale-factor=1", "--hide-scrollbars")  # fmt: skip


class Browser:
    """A browser and its one page."""

    def __init__(self, folder: Path) -> None:
        command, self.commands = os.pipe()
        self.answers, answer = os.pipe()
        argv = [sys.executable, "-c", _LAUNCH, str(command), str(answer), CHROMIUM, *_FLAGS]
        argv += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(
            argv,
            pass_fds=(command, answer),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(command)
        os.close(answer)
        self.buffer, self.count, self.session = b"", 0, None
        self.events = []
        """What the browser said by itself, as (method, parameters)."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters):
        """Send a command and return its result."""
        self.count += 1
        session = {"sessionId": self.session} if self.session else {}
        message = json.dumps({"id": self.count, "method": method, "params": parameters} | session)
        os.write(self.commands, message.encode() + b"\0")
        while (answer := self._next(method)).get("id") != self.count:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self, what: str):
        until = time.monotonic() + PATIENCE
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, until - time.monotonic()))
            part = os.read(self.answers, 1 << 20) if ready else b""
            assert part, f"{what}: {'the browser has ended' if ready else f'no answer in {PATIENCE} s'}"
            self.buffer += part
        text, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(text)
        if "id" not in message:
            self.events.append((message["method"], message["params"]))
        return message

    def open(self, path: Path) -> None:
        """Open a page and wait until it says that it is ready."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.documentElement?.dataset.ready === 'true'")

    def run(self, script: str):
        """Return the value of an expression in the page; a promise is waited for."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression in the page is true."""
        until = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < until, f"not so in {PATIENCE} s: {condition}"
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until what was done is on the screen."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def screen(self, width: int, height: int, dark: bool = False, touch: bool = False) -> None:
        """Be a screen of this size, in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def mouse(self, kind: str, x: float, y: float, down: bool = False) -> None:
        """Move, press or release the mouse: ``kind`` is mouseMoved, mousePressed or mouseReleased."""
        button = "none" if kind == "mouseMoved" and not down else "left"
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=int(down), clickCount=1)
        self.settle()

    def click(self, x: float, y: float) -> None:
        """Click."""
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, down=True)
        self.mouse("mouseReleased", x, y)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """Touch: ``kind`` is touchStart, touchMove or touchEnd."""
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])
        self.settle()

    def key(self, key: str, shift: bool = False) -> None:
        """Press and release a key, by its name in the DOM."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        common = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": 8 * shift}
        self.call("Input.dispatchKeyEvent", type="rawKeyDown", **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)
        self.settle()

    def screenshot(self, path: Path) -> None:
        """Write what the screen shows as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def complaints(self) -> list:
        """Return exceptions, errors and warnings of the page since it was opened."""
        self.settle()
        found = [parameters for method, parameters in self.events if method == "Runtime.exceptionThrown"]
        entries = [parameters["entry"] for method, parameters in self.events if method == "Log.entryAdded"]
        said = [parameters for method, parameters in self.events if method == "Runtime.consoleAPICalled"]
        return found + entries + said

    def requests(self) -> list[str]:
        """Return the addresses that the page asked for since it was opened, its own and its data URLs left out."""
        sent = [parameters for method, parameters in self.events if method == "Network.requestWillBeSent"]
        return [
            p["request"]["url"] for p in sent if p["type"] != "Document" and not p["request"]["url"].startswith("data:")
        ]

    def close(self) -> None:
        """End the browser and what it started."""
        os.close(self.commands)
        os.close(self.answers)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def browser(folder: Path):
    """Give a browser whose profile lies in ``folder``."""
    chromium = Browser(folder)
    try:
        yield chromium
    finally:
        chromium.close()
