"""Drive Debian's Chromium through a pipe with the DevTools protocol.

This needs neither a driver nor a package.

Source: https://chromedevtools.github.io/devtools-protocol/, `--remote-debugging-pipe`.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections import deque
from pathlib import Path

from effort import PATIENCE_SECONDS

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--disable-dev-shm-usage",
]
FLAGS += [
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--force-color-profile=srgb",
]


class BrowserError(Exception):
    """The page or the protocol reports an error."""


class Browser:
    """A headless Chromium with one page."""

    def __init__(self, width=1440, height=900):
        self.profile = tempfile.mkdtemp(prefix="browser-")
        to_read, self.write_end = os.pipe()
        self.read_end, to_write = os.pipe()

        def connect():  # Chromium reads commands from descriptor 3 and writes to 4
            os.dup2(to_read, 3)
            os.dup2(to_write, 4)

        os.set_inheritable(to_read, True)
        os.set_inheritable(to_write, True)
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = subprocess.Popen(
            command,
            preexec_fn=connect,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self.number, self.rest, self.messages, self.events = 0, b"", deque(), []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)
        os.close(self.write_end)
        os.close(self.read_end)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method, **params):
        """Call a method of the protocol and return its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if getattr(self, "session", None):
            message["sessionId"] = self.session
        os.write(self.write_end, json.dumps(message).encode() + b"\0")
        number = self.number
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _receive(self):
        end = time.monotonic() + PATIENCE_SECONDS
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.read_end], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise BrowserError("Chromium does not answer")
            data = os.read(self.read_end, 1 << 16)
            if not data:
                raise BrowserError("Chromium ended")
            self.rest += data
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def resize(self, width, height, scale=1):
        """Set the size of the window in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )

    def media(self, **features):
        """Emulate media features, such as prefers_color_scheme="dark"."""
        chosen = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.call("Emulation.setEmulatedMedia", features=chosen)

    def open(self, url):
        """Open a URL, and wait until the page reports that it is ready."""
        self.call("Page.navigate", url=url)
        self.wait("document.documentElement.dataset.ready === 'true'")
        self.settle()

    def leave(self):
        """Leave the page and forget its events."""
        self.call("Page.navigate", url="about:blank")
        self.run("1")
        self.events.clear()

    def run(self, script):
        """The value of an expression in the page; a promise is awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait(self, condition, seconds=PATIENCE_SECONDS):
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if value := self.run(condition):
                    return value
            except BrowserError:
                pass  # the page is loading
            time.sleep(0.03)
        shown = self.run("document.body.innerText")[:300]
        raise BrowserError(f"still false: {condition}; the page says: {shown}")

    def settle(self):
        """Wait until the view is drawn."""
        self.wait(
            "document.querySelector('#view') &&"
            " !document.querySelector('#view').hasAttribute('aria-busy')"
        )

    def press(self, key, shift=False):
        """Press a key, such as "ArrowRight" or "a"."""
        text = key if len(key) == 1 else "\r" if key == "Enter" else None
        codes = {
            "Enter": 13,
            "Tab": 9,
            "Escape": 27,
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowRight": 39,
            "ArrowDown": 40,
            "Home": 36,
            "End": 35,
        }
        code = codes.get(key, ord(key.upper()) if len(key) == 1 else 0)
        event = {
            "key": key,
            "code": key if len(key) > 1 else "",
            "windowsVirtualKeyCode": code,
            "modifiers": 8 if shift else 0,
        }
        self.call(
            "Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text else {})
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text):
        """Type a text into the focused field."""
        self.call("Input.insertText", text=text)

    def click(self, selector):
        """Click on the middle of the first element of a CSS selector."""
        box = self.run(
            f"(() => {{ const el = document.querySelector({json.dumps(selector)});"
            " el.scrollIntoView({block: 'center'}); const b = el.getBoundingClientRect(); return"
            " [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="left",
                clickCount=1,
            )
        self.settle()

    def text(self, selector):
        """The text of the first element of a CSS selector."""
        return self.run(f"document.querySelector({json.dumps(selector)}).textContent")

    def screenshot(self, path, full=False):
        """Save a picture of the window, or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def problems(self):
        """Errors of the console and the log, such as violations of the content security policy."""
        self.run("1")
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(
                    params["exceptionDetails"]
                    .get("exception", {})
                    .get("description", params["exceptionDetails"]["text"])
                )
            elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return found

    def requested(self):
        """The URLs that the page has requested."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
