"""try.html in a real Chromium, on the emulator: what it shows of the kit, and that nothing of an answer runs in it."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from support.files import ROOT
from support.tokens import google_token

from demo.emulator import Stack, aws, create_user, deploy, emulator

SOURCE = (ROOT / "try.html").read_text()
PASSWORD = "password123"
SCRIPT = "<img src=x onerror='document.body.remove()'>"
ALLOWED = (
    "arn:aws:execute-api:*:*:*/prod/GET/api, admin=arn:aws:execute-api:*:*:*/prod/GET/api/admin"
)
ELSEWHERE = "http://localhost:{port}/page/try.html"
FLAGS = "--no-sandbox --disable-lcd-text --disable-gpu --disable-quic --no-first-run --disable-background-networking"
GOOGLE = """window.google = { accounts: { id: { initialize(given) { Object.assign(this, given); },
  renderButton(parent) { parent.append(this.client_id); parent.onclick = () => this.callback({ credential: "%s" }); },
} } };"""
expect.set_options(timeout=30_000)  # a function's first call on a busy machine


@pytest.fixture(scope="module")
def stacks() -> Iterator[dict[str, Stack]]:
    """Both templates on an emulator that has the page in its S3."""
    with emulator() as endpoint:
        rest = deploy(
            endpoint, AllowedResourceArns=ALLOWED, AuthRateLimit="1000", AuthBurstLimit="1000"
        )
        http = deploy(endpoint, "template_http.yaml", "access-control-http")
        create_user(endpoint, "testuser", PASSWORD)
        create_user(endpoint, SCRIPT, PASSWORD)
        create_user(endpoint, "testuser", PASSWORD, table="user_credentials_http")
        s3 = aws(endpoint, "s3")
        s3.create_bucket(Bucket="page")
        s3.put_object(Bucket="page", Key="try.html", Body=SOURCE.encode(), ContentType="text/html")
        yield {"rest": rest, "http": http}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if not program:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "Chromium is missing (on Debian: apt install chromium)"
        )
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program, args=FLAGS.split())


@pytest.fixture
def page(browser: Browser, stacks: dict[str, Stack]) -> Iterator[Page]:
    """The page as `make serve` opens it; in the end, its policy was kept and its script has not failed."""
    with browser.new_context(
        viewport={"width": 1280, "height": 1040}, device_scale_factor=0.8
    ) as context:
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(f"{error}"))
        page.on(
            "console",
            lambda said: complaints.extend([said.text] if "Security Policy" in said.text else []),
        )
        page.add_init_script(
            "delete URL.parse; delete Promise.try; delete Uint8Array.fromBase64"
        )  # as in 2023
        page.goto(link(stacks["rest"]))
        yield page
    assert complaints == []


def link(stack: Stack, page: str = "http://127.0.0.1:{port}/page/try.html") -> str:
    return f"{page.format(port=stack.endpoint.split(':')[2])}?{urlencode({'api': stack.api, 'ws': stack.websocket})}"


def press(page: Page, button: str) -> Locator:
    """Press a button, and return the newest line of the list once it is another."""
    lines = page.locator("#list > li")
    before = lines.count()
    page.get_by_role("button", name=button, exact=True).click()
    expect(lines).not_to_have_count(before)
    return lines.first


def log_in(page: Page, user_id: str = "testuser") -> str:
    page.get_by_label("user_id").fill(user_id)
    page.get_by_label("Password").fill(PASSWORD)
    press(page, "Log in")
    return str(page.locator("#shell").text_content()).split("'")[1]


def test_newcomer_presses_buttons_and_sees_who_is_let_in_and_why(page: Page) -> None:
    for button, line in {
        "Log in": r'POST 200 \d+ ms.*/auth\s.*This is you.*"token": "\$TOKEN"',  # the user of make serve is filled in
        "Connect": r"WS open \d+ ms.*\?access_token=\$TOKEN\s.*let in",
        "Send": r"WS message \d+ ms.*hello",
        "Close": r"WS 1000.*Closed, as asked",
        "Connect without a token": r"WS 1006.*Refused",
        "Without one": r"GET 401 \d+ ms.*/api\s.*Who are you\?.*Unauthorized",
        "Try /api/admin": r"GET 403 \d+ ms.*/api/admin\s.*Not you: .*not authorized",
        "With a forged one": r"GET 401 \d+ ms.*/api\s.*Who are you\?.*Unauthorized",
        "With the token": r"GET 200 \d+ ms.*/api\s.*let in.*testuser",
    }.items():
        expect(press(page, button)).to_contain_text(re.compile(line, re.DOTALL))
    page.screenshot(path=os.environ.get("PICTURE"))  # make picture


def test_token_is_decoded_and_its_time_counts_down(page: Page) -> None:
    page.clock.install()
    token = log_in(page, SCRIPT)
    expect(page.locator("#who")).to_have_text(SCRIPT)
    parts = [json.loads(base64.urlsafe_b64decode(f"{part}==")) for part in token.split(".")[:2]]
    assert [
        json.loads(part) for part in page.locator("#inside").inner_text().split("\n", 1)
    ] == parts
    for passed, left in {"00:00": "for 59 min", "30:00": "for 29 min", "30:01": "expired"}.items():
        page.clock.fast_forward(passed)
        expect(page.get_by_role("timer")).to_contain_text(left)


@pytest.mark.parametrize("password", [PASSWORD, "it's wrong"])
def test_command_of_a_line_does_what_its_button_did(page: Page, password: str) -> None:
    environment = os.environ | {"TOKEN": log_in(page)}
    page.get_by_label("Password").fill(password)
    page.get_by_label("Path").fill("/api/it's $HOME")
    for button in (
        "With the token",
        "Without one",
        "With a forged one",
        "Try /api/admin",
        "Log in",
    ):
        line = press(page, button)
        command = f"{line.locator('.command').text_content()} -s -o {os.devnull} -w '%{{http_code}}' --noproxy '*'"
        assert password not in command
        status = subprocess.check_output(
            ["bash", "-c", command], env=environment, input=password, text=True
        )
        assert status == line.locator(".outcome").text_content()
    expect(page.get_by_role("status")).to_contain_text(
        "This is you" if password == PASSWORD else "before is kept"
    )


@pytest.mark.parametrize(
    ("button", "status", "body", "meaning"),
    [
        ("Without one", 429, SCRIPT, "throttle"),
        ("Without one", 504, SCRIPT, "We are broken"),
        ("Without one", 400, SCRIPT, "See the answer in the list"),
        ("Without one", 404, SCRIPT, "no such route"),
        ("Without one", 403, '{"message":"Missing Authentication Token"}', "no such route"),
        ("Without one", 403, '{"message":"Forbidden"}', "A wrong stage in the address; or"),
        ("Log in", 403, '{"message":"Forbidden"}', "no such route"),
        ("Log in", 401, SCRIPT, "or not with this password"),
    ],
)
def test_status_is_explained_as_text(
    page: Page, button: str, status: int, body: str, meaning: str
) -> None:
    page.route(
        "**/prod/*", lambda route: route.fulfill(status=status, body=body, content_type="text/html")
    )
    expect(press(page, button)).to_contain_text(
        re.compile(f"{meaning}.*{re.escape(body)}", re.DOTALL)
    )


def test_bar_says_what_goes_on(page: Page) -> None:
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("status")).to_contain_text("Nothing is open")
    assert (
        page.evaluate("connect[1].click(), said.textContent")
        == "Connect without a token: waiting …"
    )
    page.evaluate(
        "connect[1].click(), send[2].click()"
    )  # the first is given up for another, which is closed at once
    expect(page.locator("#list .outcome")).to_have_text(["1000", "1000"])


def test_logging_out_forgets_the_token(page: Page) -> None:
    token = log_in(page)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("status")).to_contain_text("An open WebSocket stays open")
    expect(page.get_by_label("user_id")).to_be_focused()
    expect(page.get_by_label("Password")).to_be_empty()
    assert token.split(".")[1] not in page.content()
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [
        0,
        0,
        "",
    ]
    page.get_by_role("button", name="With the token").click()
    expect(page.get_by_role("status")).to_have_text("No token yet: log in first.")


def test_google_is_asked_for_a_token_when_its_button_is_wanted(page: Page) -> None:
    credential = google_token()
    page.route(
        "https://accounts.google.com/gsi/client",
        lambda route: route.fulfill(body=GOOGLE % credential),
    )
    expect(page.get_by_role("button", name="Try /google")).to_be_hidden()
    page.get_by_label("client id").fill("client-of-mine")
    expect(page.locator("script[src]")).to_have_count(0)
    page.get_by_role("button", name="Show Google's button").click()
    page.get_by_text("client-of-mine").click()
    expect(page.locator("#who")).to_have_text("testuser@example.com")
    with page.expect_request("**/google") as request:
        press(page, "Try /google")
    assert request.value.headers["authorization"] == f"Bearer {credential}"


def test_keyboard_alone_is_enough(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 500})
    page.get_by_label("WebSocket URL").focus()
    steps = [
        (2, "Enter", "POST 200"),
        (4, "Enter", "GET 200"),
        (3, "Space", 'expired one. {"message":'),
    ]
    for tabs, key, said in steps:
        for each in ["Tab"] * tabs + [key]:
            page.keyboard.press(each)
        expect(page.get_by_role("status")).to_contain_text(said)
        assert page.evaluate(
            "said.getBoundingClientRect().top > document.activeElement.getBoundingClientRect().bottom"
        )


@pytest.mark.parametrize(
    "opened_from", [ELSEWHERE, f"file://{ROOT}/try.html"], ids=["another host", "a file"]
)
def test_http_api_is_called_from_another_origin(
    page: Page, stacks: dict[str, Stack], opened_from: str
) -> None:
    page.goto(link(stacks["http"], opened_from))
    press(page, "Log in")  # whose fields are filled in: a link within this machine is no stranger
    expect(press(page, "With the token")).to_contain_text("200")


def test_answer_that_the_browser_hides_is_told_from_none(
    page: Page, stacks: dict[str, Stack]
) -> None:
    page.goto(link(stacks["rest"], ELSEWHERE))  # the emulator's REST APIs send no CORS headers
    expect(press(page, "Without one")).to_contain_text(
        re.compile(r"CORS: .*/localhost:\d+[^!]*CORS_ALLOW_ORIGIN")
    )
    page.get_by_label("Invoke URL").fill("http://127.0.0.1:1")
    expect(press(page, "Without one")).to_contain_text("Nobody answers there")


@pytest.mark.parametrize("address", ["http://example.com/prod", "ftp://127.0.0.1/prod", "prod", ""])
def test_address_that_is_not_safe_is_not_called(page: Page, address: str) -> None:
    for field, button, safe in [
        ("Invoke URL", "Log in", "https"),
        ("WebSocket URL", "Connect without a token", "wss"),
    ]:
        page.get_by_label(field).fill(address)
        page.get_by_role("button", name=button).click()
        expect(page.get_by_role("status")).to_contain_text(
            f"{field}: enter an address with {safe}://"
        )
        expect(page.get_by_label(field)).to_be_focused()
    expect(page.locator("#list > li")).to_have_count(0)


@pytest.mark.parametrize(
    "api", ["https://a.example", "https://mine@thief.example", "http://127.0.0.1.thief.example"]
)
def test_no_link_fills_in_no_password_and_a_stranger_is_warned_of_before_anything_is_sent(
    page: Page, api: str
) -> None:
    page.goto(page.url.partition("?")[0])
    expect(page.get_by_label("Password")).to_be_empty()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{page.url}?api={api}/prod")
    expect(page.locator("#warning")).to_contain_text(
        f"names {api.replace('mine@', '')}: enter a password only if"
    )
    expect(page.get_by_label("Password")).to_be_empty()
    assert len(asked) == 1


def test_hashes_of_the_policy_are_those_of_style_and_script() -> None:
    for tag, content in re.findall(r"<(style|script)\b[^>]*>(.*?)</\1>", SOURCE, re.DOTALL):
        hashed = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{hashed}'" in SOURCE, (
            f"the policy of try.html needs {tag}-src 'sha256-{hashed}'"
        )


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    log_in(page)
    press(page, "With a forged one").locator("summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
