"""try.html in a real Chromium: with the emulator, and with a gateway that returns subprotocols."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright
from support.deploy import SECRET, Deploy
from support.events import token_event
from support.files import ROOT
from support.gateway import Gateway, websocket_api
from support.http_server import QuietHandler, listening
from support.tokens import aimed_at, google_token, make_jwt

from demo.emulator import Stack, create_user, deploy, emulator, publish_page

SOURCE = (ROOT / "try.html").read_text()
PASSWORD = "password123"
SCRIPT = "<img src=x onerror='document.body.remove()'>"
ALLOWED = (
    "arn:aws:execute-api:*:*:*/prod/GET/api,admin=arn:aws:execute-api:*:*:*/prod/GET/api/admin"
)
FLAGS = [
    "--no-sandbox",
    "--disable-lcd-text",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
# Google's script, as far as the page uses it: a press on the button gives a credential.
GOOGLE = """
window.google = { accounts: { id: {
  initialize(options) { this.options = options; },
  renderButton(parent) {
    parent.append(this.options.client_id);
    parent.onclick = () => this.options.callback({ credential: "%s" });
  },
} } };
"""
expect.set_options(timeout=30_000)  # milliseconds, for a busy machine


@pytest.fixture(scope="module")
def stacks() -> Iterator[dict[str, Stack]]:
    """Both templates on an emulator that has the page in its S3."""
    with emulator() as endpoint:
        throttle = {"AuthRateLimit": "1000", "AuthBurstLimit": "1000"}
        rest = deploy(endpoint, AllowedResourceArns=ALLOWED, **throttle)
        http = deploy(endpoint, "template_http.yaml", "access-control-http")
        create_user(endpoint, "testuser", PASSWORD)
        create_user(endpoint, SCRIPT, PASSWORD)
        create_user(endpoint, "testuser", PASSWORD, table="user_credentials_http")
        publish_page(endpoint)
        for stack in (rest, http):  # A function's first run is slow, more so on a busy machine.
            requests.post(f"{stack.api}/auth", "{}", timeout=60)
        yield {"rest": rest, "http": http}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if not program:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("Chromium is missing (on Debian: apt install chromium)")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program, args=FLAGS)


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab of a browser from 2023, in which the page's policy holds and its script never fails."""
    size: Any = {"width": 1280, "height": 1120}
    with browser.new_context(viewport=size, device_scale_factor=0.8) as context:
        tab = context.new_page()
        complaints: list[str] = []
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("console", lambda message: complaints.append(message.text))
        tab.add_init_script("delete URL.parse; delete Promise.try; delete Uint8Array.fromBase64")
        yield tab
    # The console also has a line for each failed request, which is no fault of the page.
    faults = [text for text in complaints if not text.startswith(("Failed to", "WebSocket", "Acc"))]
    assert faults == []


@pytest.fixture
def page(tab: Page, stacks: dict[str, Stack]) -> Page:
    """The page with the REST and the WebSocket API, at the address that `make serve` prints."""
    tab.goto(link(stacks["rest"]))
    return tab


@pytest.fixture
def site() -> Iterator[str]:
    """The page as `python3 -m http.server` serves it."""

    class Site(QuietHandler):
        def do_GET(self) -> None:
            self.reply(200, SOURCE.encode(), Content_Type="text/html")

    with listening(Site) as address:
        yield f"http://{address}"


@pytest.fixture
def gateway(deploy: Deploy) -> Iterator[Gateway]:
    """A WebSocket API with the kit's authorizer and the kit's integration of $connect."""
    authorizer = deploy("jwt_auth_token_websocket", JWT_SECRET=SECRET)
    with websocket_api(authorizer, deploy("restricted_access_lambda")) as gateway:
        yield gateway


def link(stack: Stack, page: str = "http://127.0.0.1:{port}/page/try.html") -> str:
    """Return the address of the page with the APIs of a stack, as `make serve` prints it."""
    port = stack.endpoint.split(":")[2]
    parameters = {"api": stack.api, "ws": stack.websocket, "ws_token": "query"}
    return f"{page.format(port=port)}?{urlencode(parameters)}"


def press(page: Page, button: str) -> Locator:
    """Press a button, and return the line that this adds to the list."""
    lines = page.locator("#list > li")
    before = lines.count()
    page.get_by_role("button", name=button, exact=True).click()
    expect(lines).not_to_have_count(before)
    return lines.first


def status_after(page: Page, button: str) -> Locator:
    """Press a button, and return the status bar."""
    page.get_by_role("button", name=button, exact=True).click()
    return page.get_by_role("status")


def log_in(page: Page, user_id: str = "testuser") -> str:
    """Log in, and return the token."""
    page.get_by_label("user_id").fill(user_id)
    page.get_by_label("Password").fill(PASSWORD)
    press(page, "Log in")
    return str(page.locator("#shell").text_content()).split("'")[1]


def respond(page: Page, path: str, body: str, status: int = 200) -> None:
    """Let a path of every API return this response."""
    page.route(f"**/prod{path}", lambda route: route.fulfill(status=status, body=body))


def in_order(*texts: str) -> re.Pattern[str]:
    """Return a pattern for texts that follow one another."""
    return re.compile(".*".join(map(re.escape, texts)), re.DOTALL)


# The page with the emulator


def test_newcomer_presses_every_button_and_reads_what_it_means(page: Page) -> None:
    steps = {  # the user of make serve is filled in
        "Log in": ("POST", "200", "/auth", "Logged in.", '"token": "$TOKEN"'),
        "Connect": ("WS", "open", "?access_token=$TOKEN", "Access granted."),
        "Send": ("WS", "message", "Message received.", "hello"),
        "Close": ("WS", "1000", "Connection closed."),
        "Connect without token": ("WS", "1006", "Connection failed."),
        "Send without token": ("GET", "401", "/api", "Not authenticated:", "Unauthorized"),
        "GET /api/admin": ("GET", "403", "/api/admin", "Not authorized:", "not authorized"),
        "Send with forged token": ("GET", "401", "/api", "Not authenticated:", "Unauthorized"),
        "Send with token": ("GET", "200", "/api", "Access granted.", '"caller": "testuser"'),
    }
    for button, texts in steps.items():
        expect(press(page, button)).to_contain_text(in_order(*texts))
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=os.environ.get("PICTURE"))  # make picture


def test_token_is_decoded(page: Page) -> None:
    token = log_in(page, SCRIPT)
    header, claims = page.locator("#decoded").inner_text().split("\n", 1)
    expected = [json.loads(base64.urlsafe_b64decode(f"{part}==")) for part in token.split(".")[:2]]
    assert [json.loads(header), json.loads(claims)] == expected
    expect(page.locator("#who")).to_have_text(SCRIPT)
    expect(page.locator("#scope")).to_have_text("none")


def test_time_until_the_token_expires_counts_down(page: Page) -> None:
    page.clock.install()
    log_in(page)
    for passed, left in {"00:00": "in 59 min", "30:00": "in 29 min", "30:01": "expired"}.items():
        page.clock.fast_forward(passed)
        expect(page.get_by_role("timer")).to_contain_text(left)


@pytest.mark.parametrize("password", [PASSWORD, "it's wrong"])
def test_command_of_a_line_does_what_its_button_did(page: Page, password: str) -> None:
    environment = os.environ | {"TOKEN": log_in(page)}
    page.get_by_label("Password").fill(password)
    page.get_by_label("Path").fill("/api/it's $HOME")
    options = f"-s -o {os.devnull} -w '%{{http_code}}' --noproxy '*'"
    buttons = ["Send with token", "Send without token", "Send with forged token", "GET /api/admin"]
    for button in [*buttons, "Log in"]:
        line = press(page, button)
        command = f"{line.locator('.command').text_content()} {options}"
        assert password not in command
        status = subprocess.check_output(
            ["bash", "-c", command], env=environment, input=password, text=True
        )
        assert status == line.locator(".outcome").text_content()


def test_failed_login_keeps_the_previous_token(page: Page) -> None:
    token = log_in(page)
    page.get_by_label("Password").fill("wrong")
    expect(press(page, "Log in")).to_contain_text("Wrong user_id or password.")
    expect(page.get_by_role("status")).to_contain_text("keeps your previous token")
    expect(page.locator("#shell")).to_contain_text(token)


def test_forgetting_the_token_leaves_nothing_of_it(page: Page) -> None:
    token = log_in(page)
    expect(status_after(page, "Forget token")).to_contain_text("still valid until it expires")
    expect(page.get_by_label("user_id")).to_be_focused()
    expect(page.get_by_label("Password")).to_be_empty()
    assert token.split(".")[1] not in page.content()
    stored = page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
    assert stored == [0, 0, ""]


def test_every_button_that_needs_a_token_says_so(page: Page) -> None:
    for button in ["Send with token", "GET /api/admin", "GET /google", "Connect"]:
        status = status_after(page, button)
        expect(status).to_have_text("You don't have a token yet. Log in first.")


# What responses mean

NO_ROUTE = "No such route."
JUDGED = "the token is valid"
OLD_403 = (
    "'x.y.z' not a valid key=value pair (missing equal-sign) in Authorization header: 'Bearer x'."
)
NEW_403 = (
    "Invalid key=value pair (missing equal-sign) in Authorization header "
    "(hashed with SHA-256 and encoded with Base64): 'c4c5o9/mNVBmKK65loEj+T+z+Apc7uaFjxfgzRycghs='."
)
SIGNATURE_403 = "Authorization header requires 'Credential' parameter."
POLICY_403 = "User: anonymous is not authorized to perform: execute-api:Invoke on resource: arn"


def test_missing_route_of_a_rest_api_is_not_blamed_on_the_token(page: Page) -> None:
    log_in(page)
    for message in ["Missing Authentication Token", OLD_403, NEW_403, SIGNATURE_403]:
        respond(page, "/api", json.dumps({"message": message}), 403)
        line = press(page, "Send with token")
        expect(line).to_contain_text(in_order(NO_ROUTE, message))
        expect(line).not_to_contain_text(JUDGED)


def test_missing_route_of_the_emulator_is_not_blamed_on_the_token(page: Page) -> None:
    log_in(page)
    page.get_by_label("Path").fill("/apii")
    expect(press(page, "Send with token")).to_contain_text(NO_ROUTE)


def test_every_status_is_explained_and_the_response_shown_as_text(page: Page) -> None:
    for status, message, meaning in [
        (403, "User is not authorized to access this resource", "Not authorized: " + JUDGED),
        (403, "Forbidden", "AWS WAF blocked the request"),
        (403, POLICY_403, "by a resource policy"),
        (404, "Not Found", NO_ROUTE),
        (400, SCRIPT, "Invalid request."),
        (413, SCRIPT, "too large"),
        (414, SCRIPT, "URL is too long"),
        (415, SCRIPT, "Content-Type"),
        (418, SCRIPT, "See the response"),
        (429, SCRIPT, "Too many requests"),
        (504, SCRIPT, "Server error: check the function's log."),
    ]:
        body = json.dumps({"message": message})
        respond(page, "/api", body, status)
        line = press(page, "Send without token")
        expect(line).to_contain_text(in_order(str(status), meaning, body))


def test_every_status_of_a_login_is_explained(page: Page) -> None:
    for status, message, meaning in [
        (401, "Unauthorized", "Wrong user_id or password."),
        (403, "Missing Authentication Token", NO_ROUTE),
        (403, "Forbidden", "AWS WAF blocked the request"),
        (404, "Not Found", NO_ROUTE),
    ]:
        respond(page, "/auth", json.dumps({"message": message}), status)
        expect(press(page, "Log in")).to_contain_text(in_order(str(status), meaning))


# A hostile API

GOOD_PARTS = ".".join(make_jwt().split(".")[:2])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"token": f"{GOOD_PARTS}.x\x03\ntouch PASTED\n"}, id="control characters"),
        pytest.param({"token": f"{GOOD_PARTS}.x\n"}, id="new line at the end"),
        pytest.param({"token": f"{GOOD_PARTS}.x'; id; '"}, id="quotes"),
        pytest.param({"token": GOOD_PARTS}, id="two parts"),
        pytest.param({"token": f"{GOOD_PARTS}.x.y"}, id="four parts"),
        pytest.param({"token": [make_jwt()]}, id="no text"),
        pytest.param({"token": "eHg.eHg.eHg"}, id="no JSON"),
        pytest.param({"token": "bnVsbA.bnVsbA.x"}, id="no claims"),
        pytest.param({}, id="no token"),
        pytest.param(None, id="no object"),
    ],
)
def test_token_that_is_no_jwt_is_neither_shown_nor_offered_for_a_shell(
    page: Page, body: object
) -> None:
    respond(page, "/auth", json.dumps(body))
    press(page, "Log in")
    expect(page.get_by_role("status")).to_contain_text("The response contains no JWT")
    expect(page.locator("#token")).to_be_hidden()
    expect(page.locator("#shell")).to_be_empty()
    expect(page.locator("#decoded")).to_be_empty()
    expect(status_after(page, "Send with token")).to_contain_text("don't have a token yet")


def test_token_that_is_no_jwt_does_not_replace_a_good_one(page: Page) -> None:
    token = log_in(page)
    respond(page, "/auth", '{"token": "x"}')
    press(page, "Log in")
    expect(page.locator("#shell")).to_have_text(f"TOKEN='{token}'")


@pytest.mark.parametrize(
    "api", ["https://a.example", "https://mine@thief.example", "http://127.0.0.1.thief.example"]
)
def test_link_to_a_foreign_address_warns_before_anything_is_sent(page: Page, api: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{page.url.partition('?')[0]}?api={api}/prod&google=a-client")
    warning = page.get_by_role("alert")
    expect(warning).to_contain_text(f"this link points to {api.replace('mine@', '')}.")
    expect(warning).to_contain_text(in_order("password", "signing in with Google", "trust"))
    expect(page.get_by_label("Password")).to_be_empty()
    assert len(asked) == 1  # the page itself


def test_page_without_a_link_fills_in_no_password(page: Page) -> None:
    page.goto(page.url.partition("?")[0])
    expect(page.get_by_label("Password")).to_be_empty()


@pytest.mark.parametrize(
    ("field", "button", "scheme"),
    [
        ("Invoke URL", "Log in", "https"),
        ("WebSocket URL", "Connect without token", "wss"),
    ],
)
def test_address_that_is_not_safe_is_not_called(
    page: Page, field: str, button: str, scheme: str
) -> None:
    for address in ["http://example.com/prod", "ftp://127.0.0.1/prod", "prod", ""]:
        page.get_by_label(field).fill(address)
        expected = f"{field}: enter a URL that starts with {scheme}://"
        expect(status_after(page, button)).to_contain_text(expected)
        expect(page.get_by_label(field)).to_be_focused()
    expect(page.locator("#list > li")).to_have_count(0)


# The page on another origin than the API's


def test_http_api_is_called_from_another_origin(page: Page, stacks: dict[str, Stack]) -> None:
    page.goto(link(stacks["http"], "http://localhost:{port}/page/try.html"))
    press(page, "Log in")  # a link within this machine is not foreign: the user is filled in
    expect(press(page, "Send with token")).to_contain_text("200")


def test_blocked_by_cors_names_the_setting(page: Page, stacks: dict[str, Stack]) -> None:
    page.goto(link(stacks["rest"], "http://localhost:{port}/page/try.html"))
    line = press(page, "Send without token")  # the emulator's REST APIs send no CORS headers
    expect(line).to_contain_text(
        in_order("Blocked by CORS", "CORS_ALLOW_ORIGIN", "http://localhost")
    )


def test_api_that_does_not_respond_is_told_from_one_that_cors_hides(page: Page) -> None:
    page.get_by_label("Invoke URL").fill("http://127.0.0.1:1")
    expect(press(page, "Send without token")).to_contain_text("No response.")


SERVE = "python3 -m http.server 8000 --bind 127.0.0.1"


def test_page_opened_as_a_file_says_how_to_serve_it(tab: Page, stacks: dict[str, Stack]) -> None:
    tab.goto(link(stacks["http"], f"file://{ROOT}/try.html"))
    expect(tab.locator("#opened-as-file")).to_contain_text(SERVE)
    expect(tab.locator("#opened-as-file")).to_contain_text("http://localhost:8000/try.html?api=")
    press(tab, "Log in")
    expect(press(tab, "Send with token")).to_contain_text("200")  # CorsAllowOrigin is * here


def test_page_opened_as_a_file_is_not_advised_to_allow_null(
    tab: Page, stacks: dict[str, Stack]
) -> None:
    tab.goto(link(stacks["rest"], f"file://{ROOT}/try.html"))
    line = press(tab, "Send without token")
    expect(line).to_contain_text(in_order("Blocked by CORS", "no origin", SERVE))
    expect(line).not_to_contain_text("null")


def test_served_page_does_not_say_how_to_serve_it(page: Page) -> None:
    expect(page.locator("#opened-as-file")).to_be_hidden()


# WebSocket: the token in the subprotocol, or in the URL


@pytest.fixture
def with_gateway(tab: Page, site: str, gateway: Gateway) -> Page:
    """The page with a WebSocket API that returns subprotocols, after logging in."""
    tab.goto(f"{site}/try.html?{urlencode({'api': f'{site}/prod', 'ws': gateway.url})}")
    respond(tab, "/auth", json.dumps({"token": make_jwt()}))
    press(tab, "Log in")
    return tab


def test_websocket_opens_with_the_token_in_the_subprotocol(
    with_gateway: Page, gateway: Gateway
) -> None:
    line = press(with_gateway, "Connect")
    expect(line).to_contain_text(in_order("open", "Access granted.", "in the subprotocol"))
    expect(press(with_gateway, "Send")).to_contain_text(in_order("message", "hello"))
    expect(press(with_gateway, "Close")).to_contain_text("1000")
    assert gateway.callers == ["testuser"]


def test_token_in_the_subprotocol_is_in_no_url(with_gateway: Page, gateway: Gateway) -> None:
    opened: list[str] = []
    with_gateway.on("websocket", lambda websocket: opened.append(websocket.url))
    line = press(with_gateway, "Connect")
    expect(line.locator(".url")).to_have_text(gateway.url)
    assert opened == [gateway.url]
    assert gateway.paths == ["/prod"]


def test_websocket_without_a_token_is_rejected(with_gateway: Page, gateway: Gateway) -> None:
    expect(press(with_gateway, "Connect without token")).to_contain_text("Connection failed.")
    assert gateway.callers == []


def test_websocket_with_an_expired_token_is_rejected(with_gateway: Page, gateway: Gateway) -> None:
    respond(with_gateway, "/auth", json.dumps({"token": make_jwt(exp=1)}))
    press(with_gateway, "Log in")
    expect(press(with_gateway, "Connect")).to_contain_text("Connection failed.")
    assert gateway.callers == []


def test_websocket_sends_the_token_in_the_url_if_asked_to(
    with_gateway: Page, gateway: Gateway
) -> None:
    with_gateway.get_by_label("Send the token in the URL").check()
    line = press(with_gateway, "Connect")
    expect(line).to_contain_text(in_order("open", "?access_token=$TOKEN", "logs can contain it"))
    assert gateway.paths[0].startswith("/prod?access_token=eyJ")


def test_api_that_returns_no_subprotocol_is_explained(page: Page) -> None:
    log_in(page)
    page.get_by_label("Send the token in the URL").uncheck()
    line = press(page, "Connect")  # to the emulator, which returns none
    expect(line).to_contain_text(in_order("1006", "returns no subprotocol", "in the URL"))


@pytest.mark.parametrize(
    ("in_url", "command"),
    [
        (False, "wscat -c '{url}' -s access_token -s \"$TOKEN\""),
        (True, "wscat -c '{url}'\"?access_token=$TOKEN\""),
    ],
)
def test_command_of_a_websocket_sends_the_token_in_its_place(
    with_gateway: Page, gateway: Gateway, in_url: bool, command: str
) -> None:
    with_gateway.get_by_label("Send the token in the URL").set_checked(in_url)
    shown = press(with_gateway, "Connect").locator(".command")
    expect(shown).to_have_text(command.format(url=gateway.url))


@pytest.mark.parametrize("button", ["Send", "Close"])
def test_websocket_that_is_not_connected_says_so(page: Page, button: str) -> None:
    expected = "Not connected. Press Connect first."
    expect(status_after(page, button)).to_have_text(expected)
    press(page, "Connect without token")
    expect(status_after(page, button)).to_have_text(expected)


def test_connection_that_is_given_up_is_closed(page: Page) -> None:
    again = "document.querySelector('#connect [value=none]').click();"
    close = "document.querySelector('#message [value=close]').click();"
    page.evaluate(again + again + close)
    expect(page.locator("#list .outcome")).to_have_text(["1000", "1000"])


# Google


def sign_in(page: Page, credential: str) -> None:
    """Sign in with a stand-in for Google's button."""
    script = GOOGLE % credential
    page.route("https://accounts.google.com/gsi/client", lambda route: route.fulfill(body=script))
    page.get_by_text("Or sign in with Google").click()
    page.get_by_label("OAuth client ID").fill("client-of-mine")
    page.get_by_role("button", name="Show Google sign-in").click()
    page.get_by_text("client-of-mine").click()


def test_google_user_is_shown_and_calls_the_api(page: Page, deploy: Deploy) -> None:
    endpoint = deploy("restricted_access_lambda")
    with aimed_at("jwt_auth_token_google", deploy) as google:

        def protected(route: Route) -> None:
            answer = google.function(token_event(route.request.headers["authorization"]))
            authorizer = answer["context"] | {"principalId": answer["principalId"]}
            route.fulfill(body=endpoint({"requestContext": {"authorizer": authorizer}})["body"])

        page.route("**/prod/google", protected)
        sign_in(page, google.token())
        expect(page.locator("#who")).to_have_text(
            "testuser@example.com (sub 110169484474386276334)"
        )
        expect(page.locator("#scope")).to_contain_text("not in Google's token")
        expect(page.get_by_role("status")).to_contain_text("Press GET /google")
        expect(press(page, "GET /google")).to_contain_text(in_order("200", "Access granted."))


def test_google_user_who_is_not_in_the_table_reads_what_to_add(page: Page) -> None:
    sign_in(page, google_token())
    respond(page, "/google", '{"message":"Unauthorized"}', 401)
    expect(press(page, "GET /google")).to_contain_text('an item with the "sub" of the token')


def test_google_is_not_contacted_before_its_button_is_wanted(page: Page) -> None:
    page.goto(f"{page.url}&google=client-of-mine")
    expect(page.get_by_label("OAuth client ID")).to_have_value("client-of-mine")
    expect(page.get_by_role("button", name="Show Google sign-in")).to_be_visible()
    expect(page.locator("script[src]")).to_have_count(0)


def test_google_is_folded_away_where_the_link_has_no_client_id(page: Page) -> None:
    page.goto(f"{page.url}&google=")
    expect(page.get_by_role("button", name="Show Google sign-in")).to_be_hidden()


# Looks


def test_keyboard_is_enough(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 500})
    page.get_by_label("WebSocket URL").focus()
    steps = [
        (2, "Enter", "POST 200"),  # in the field of the password
        (3, "Enter", "GET 200"),  # in the field of the path
        (2, "Space", "GET 401"),  # on the button Send without token
    ]
    for tabs, key, expected in steps:
        for each in [*["Tab"] * tabs, key]:
            page.keyboard.press(each)
        expect(page.get_by_role("status")).to_contain_text(expected)
        focus_end = page.evaluate("document.activeElement.getBoundingClientRect().bottom")
        assert focus_end < page.evaluate("document.all.status.getBoundingClientRect().top")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    log_in(page)
    press(page, "Send with forged token").locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("tag", ["style", "script"])
def test_policy_has_the_hash_of_style_and_script(tag: str) -> None:
    content = SOURCE.split(f"<{tag}", 1)[1].split(">", 1)[1].split(f"</{tag}>")[0]
    sha256 = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    needed = f"{tag}-src 'sha256-{sha256}'"
    assert needed in SOURCE, f"The Content-Security-Policy of try.html needs {needed}"
