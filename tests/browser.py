"""A headless Chromium that reaches this machine alone, driven over the DevTools protocol; it notes each address that a page tried to reach."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from websockets.sync.client import ClientConnection, connect

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
    "--window-size=1440,900",
)
PATIENCE = 60  # seconds until a page must show what is waited for


@dataclass
class Page:
    """One tab. `asked` are the URLs it tried to reach, `answered` their statuses, `refused` what the browser held against it."""

    socket: ClientConnection
    asked: list[str] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What a method of the protocol answers."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(PATIENCE))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message.get("method"), message.get("params", {}))

    def _note(self, event: str | None, told: dict[str, Any]) -> None:
        match event:
            case "Network.requestWillBeSent":
                self.asked.append(told["request"]["url"])
            case "Network.responseReceived":
                self.answered[told["response"]["url"]] = told["response"]["status"]
            case "Log.entryAdded" if told["entry"]["source"] in ("security", "javascript"):
                self.refused.append(told["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.refused.append(json.dumps(told["exceptionDetails"])[:2000])

    def open(self, url: str) -> None:
        """Goes to a page and waits until it is loaded."""
        for domain in ("Network", "Log", "Runtime", "Page"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        self.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        done = self._evaluate(script)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, script: str) -> Any:
        """The value of an expression, once it is true; until then what it speaks of may not be there."""
        deadline = time.monotonic() + PATIENCE
        while "exceptionDetails" in (done := self._evaluate(script)) or not done["result"].get("value"):
            assert time.monotonic() < deadline, (
                f"never true: {script}\n{self.refused}\n{self.run('document.body.innerText')[-3000:]}"
            )
            time.sleep(0.1)
        return done["result"]["value"]

    def _evaluate(self, script: str) -> dict[str, Any]:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)

    def type(self, element: str, text: str) -> None:
        """Puts text into the element of an expression as a keyboard would."""
        self.run(f"{element}.focus(), {element}.select?.()")
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int, *, control: bool = False) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, modifiers=2 * control)

    def hosts(self) -> set[str]:
        """The hosts that were asked, with their ports; what stands in the page itself asks nobody."""
        return {urlsplit(url).netloc for url in self.asked if urlsplit(url).scheme not in ("data", "blob")}

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browsing() -> Iterator[Page]:
    """A browser with a profile of its own, until the block ends."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(prefix="markonce-browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
        )
        try:
            with connect(_tab(process, Path(profile)), max_size=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait(20)


def _tab(process: "subprocess.Popen[bytes]", profile: Path) -> str:
    """The address of the first tab, once the browser has told its port."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, "the browser ended"
        with suppress(OSError, ValueError, IndexError, httpx2.TransportError, StopIteration):
            port = (profile / "DevToolsActivePort").read_text().splitlines()[0]
            tabs = httpx2.get(f"http://127.0.0.1:{port}/json/list", trust_env=False).json()
            address: str = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            return address
        time.sleep(0.1)
    raise AssertionError("the browser is not ready")
