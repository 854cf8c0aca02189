"""P1 to P4: the playground's page in a real browser under attacks and failures."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

from playground_server import VIEWS, hand_built, playing

from llm_scratch.interpretability.patching import ablate, head
from llm_scratch.serving.model_library import NamedModel

XSS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    '"><script>alert(1)</script>',
    "'><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "<iframe src=javascript:alert(1)>",
    "<body onload=alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "</textarea><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    "<math><mi//xlink:href=data:x,alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "${alert(1)}",
    "{{alert(1)}}",
    "<%= alert(1) %>",
    "`${alert(1)}`",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<link rel=stylesheet href=//evil.com/x>",
    "<meta http-equiv=refresh content=0;url=//evil.com>",
    "<base href=//evil.com>",
    "<form action=//evil.com><input name=x>",
    "<style>*{background:url(//evil.com)}</style>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\\u003cscript\\u003ealert(1)\\u003c/script\\u003e",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "\x00<script>alert(1)</script>",
    "<!--><script>alert(1)</script>-->",
    "]]><script>alert(1)</script>",
    "\u202e<script>alert(1)</script>",
    "＜script＞alert(1)＜/script＞",
    "constructor",
    "__proto__",
    "toString",
    "onerror=alert(1)",
]


class Words:
    """A tokenizer whose tokens are attack strings."""

    n_vocab = 11

    def encode(self, text, **options):
        return [
            int(word) for word in text.split() if word.isdigit() and int(word) < self.n_vocab
        ] or [0]

    def decode_bytes(self, ids):
        return "".join(self.texts[i] for i in ids).encode()


STRANGE = (
    "document.querySelectorAll('script, img, iframe, object, embed, video, form, link, meta, base,"
    " style, math, a').length"
)


def test_p1_tokens_names_and_hash_are_never_markup(chromium, tmp_path, measured):
    assert len(XSS) == 40
    with playing(tmp_path) as server:
        chromium.open(server.url)
        elements = chromium.run(STRANGE)
        chromium.leave()
    for number in range(0, 40, 10):
        words = Words()
        words.texts = [*XSS[number : number + 10], "."]
        name = XSS[number]
        with playing(
            tmp_path, {name: NamedModel(hand_built().model, words)}, texts=["1 2 3"]
        ) as server:
            chromium.open(server.url)
            chromium.run("globalThis.alert = () => { globalThis.attacked = true }")
            for view in VIEWS:
                attack = quote(XSS[(number + VIEWS.index(view)) % 40])
                fields = (
                    "text=1 2 3 4 5 6 7 8 9 1 2"
                    f" 3&without={attack}&other={attack}&lens={attack}&{attack}={attack}"
                )
                chromium.run(f"location.hash = '#view={view}&{fields}'")
                chromium.wait(f"document.querySelector('#view').dataset.view === '{view}'")
                chromium.settle()
                assert chromium.run(STRANGE) == elements, (view, name)
            assert not chromium.run("globalThis.attacked === true")
            assert chromium.text("#bar strong").replace("\ufffd", "\x00") == name
            assert chromium.problems() == []
            assert not [
                event
                for event in chromium.events
                if event.get("method") == "Page.javascriptDialogOpening"
            ]
            chromium.leave()
    measured(
        "P1",
        f"{len(XSS)} strings as tokens, names and hash in {len(VIEWS)} views: 0 scripts, 0 new"
        " elements",
        "40 strings, 0 script runs, 0 new elements",
    )


def test_p2_page_requests_nothing_from_elsewhere(chromium, tmp_path, measured):
    """Send every request of every view to the server; the security policy blocks none."""
    with playing(tmp_path) as server:
        chromium.events.clear()
        chromium.open(server.url)
        for view in VIEWS:
            chromium.run(
                f"location.hash = location.hash.replace(/&?view=\\w+/, '') + '&view={view}'"
            )
            chromium.wait(f"document.querySelector('#view').dataset.view === '{view}'")
            chromium.settle()
        requested = chromium.requested()
        assert len(requested) > 20
        own = (f"http://127.0.0.1:{server.server_port}/", "data:", "about:")
        assert [url for url in requested if not url.startswith(own)] == []
        assert not [
            event for event in chromium.events if event.get("method") == "Network.loadingFailed"
        ]
        assert chromium.problems() == []
        chromium.leave()
    measured(
        "P2",
        f"{len(requested)} requests, 0 foreign, 0 failed, 0 violations of the policy",
        "0 foreign, 0 failed",
    )


class Foreign(BaseHTTPRequestHandler):
    """A page of another origin."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(
            b"<!doctype html><html data-ready=true><body><p id=view></p></body></html>"
        )

    def log_message(self, *args):
        pass


def test_p3_another_page_reaches_no_route(chromium, tmp_path, measured):
    """Send what a browser with the cookie allows a page of another port to send."""
    foreign = ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
    threading.Thread(
        target=foreign.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    ).start()
    with playing(tmp_path) as server:
        bodies: list[object] = []  # the page's own requests may arrive late
        for name in list(server.routes):
            server.routes[name] = lambda body: bodies.append(body) or {}
        chromium.call("Page.navigate", url=server.url)
        chromium.wait("location.pathname === '/' && document.readyState === 'complete'")
        chromium.open(f"http://127.0.0.1:{foreign.server_port}/")
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
            for mode in ("no-cors", "cors"):
                target = json.dumps(f"http://127.0.0.1:{server.server_port}/api/start")
                options = json.dumps(
                    {
                        "method": "POST",
                        "mode": mode,
                        "credentials": "include",
                        "body": '{"from": "another page"}',
                        "headers": {"Content-Type": kind},
                    }
                )
                outcome = chromium.run(
                    f"fetch({target}, {options}).then((answer) => answer.type + answer.status,"
                    " () => 'failed')"
                )
                assert outcome in ("failed", "opaque0")
        assert {"from": "another page"} not in bodies
    foreign.shutdown()
    foreign.server_close()
    chromium.leave()
    measured("P3", "6 of 6 posts from another page refused", "0 accepted")


def test_p4_page_reports_a_stopped_server_and_reconnects(chromium, tmp_path, measured):
    with playing(tmp_path) as server:
        port = server.server_port
        chromium.open(server.url)
        chromium.run("document.querySelector('#text textarea').focus()")
        chromium.type(" typed")
    chromium.wait("!document.querySelector('#banner').hidden")
    assert "does not answer" in chromium.text("#banner")
    assert chromium.run("document.querySelector('#text textarea').value").endswith(" typed")
    with playing(tmp_path, port=port):
        chromium.wait("document.querySelector('#banner').hidden")
        assert chromium.run("document.querySelector('#text textarea').value").endswith(" typed")
    chromium.leave()
    measured("P4", "banner shown, reconnected, typed text kept", "banner, reconnect, text kept")


def test_p1_check_detects_inserted_markup(chromium, tmp_path):
    """Check the test itself: an element inserted as markup changes the count."""
    with playing(tmp_path) as server:
        chromium.open(server.url)
        before = chromium.run(STRANGE)
        chromium.run("document.querySelector('#view').innerHTML += '<img src=x>'")
        assert chromium.run(STRANGE) == before + 1
    chromium.leave()


def test_p_ablation_in_the_page_ends_with_the_request(tmp_path):
    """Requests share one model; an ablation must not outlive its own."""
    import torch

    named = hand_built()
    with playing(tmp_path, {"m": named}) as server:
        ids = torch.tensor([[0, 1, 2, 0]])
        with torch.no_grad():
            before = named.model(ids)
            server.routes["/api/inspect"]({"text": "abc", "without": ["1.0"]})
            assert torch.equal(named.model(ids), before)
            with ablate(named.model, head(1, 0)):
                assert not torch.equal(named.model(ids), before)
