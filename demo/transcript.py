"""Prints requests and responses, and counts which ones are as expected."""

import sys
from typing import NamedTuple

import requests

BOLD, GREEN, RED, PLAIN = "\033[1m", "\033[32m", "\033[31m", "\033[0m"
WIDTH = 76


class Variable(NamedTuple):
    """A shell variable, which commands name in place of a long value."""

    name: str
    value: str


class Transcript:
    """What is printed, and whether every response so far was as expected."""

    def __init__(self) -> None:
        self.session = requests.Session()
        self.verdicts: list[bool] = []

    def say(self, text: str, style: str = "") -> None:
        """Print a text, in a style if this is a terminal."""
        if style and sys.stdout.isatty():
            text = f"{style}{text}{PLAIN}"
        print(text, flush=True)

    def chapter(self, title: str) -> None:
        """Print the title of a chapter."""
        self.say(f"\n── {title} ".ljust(WIDTH + 4, "─"), BOLD)

    def define(self, name: str, value: str) -> Variable:
        """Print the value of a shell variable. From here on, commands name the variable."""
        self.say(f"{name}={value}")
        return Variable(name, value)

    def step(self, title: str, expected: object, found: object, *lines: str) -> None:
        """Print what a step shows, a few lines about it, and whether it is as expected."""
        self.say(f"\n{title}", BOLD)
        for line in lines:
            self.say(line)
        self.verdicts.append(found == expected)
        if found == expected:
            self.say(f"✓ {found}, as expected", GREEN)
        else:
            self.say(f"✗ {found}, expected {expected}", RED)

    def get(
        self, title: str, expected: int, api: Variable, path: str, token: Variable | None = None
    ) -> None:
        """Call a route with a token or without one, and show what happens."""
        options, headers = [], {}
        if token:
            options = [f'-H "Authorization: Bearer ${token.name}"']
            headers = {"Authorization": f"Bearer {token.value}"}
        response = self.session.get(api.value + path, headers=headers)
        command = curl(*options, f"${api.name}{path}")
        self.step(title, expected, response.status_code, command, response.text)

    def log_in(
        self, title: str, expected: int, api: Variable, body: str, name: str = "TOKEN"
    ) -> Variable:
        """Log in, show what happens, and return the token as a variable with this name."""
        response = self.session.post(f"{api.value}/auth", data=body)
        token = str(response.json().get("token", ""))
        shown = response.text
        if token:
            shown = shown.replace(token, f"${name}")
        command = curl(f"-d '{body}'", f"${api.name}/auth")
        self.step(title, expected, response.status_code, command, shown)
        return Variable(name, token)

    def preflight(self, title: str, expected: int, api: Variable, path: str, origin: str) -> None:
        """Ask what a browser asks before a page of another origin may call a route."""
        asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        response = self.session.options(api.value + path, headers=asked)
        options = [f'-H "{name}: {value}"' for name, value in asked.items()]
        command = curl("-i -X OPTIONS", *options, f"${api.name}{path}")
        allowed = [f"{key}: {value}" for key, value in response.headers.items() if "Allow" in key]
        self.step(title, expected, response.status_code, command, *allowed)

    def counts(self) -> str:
        """Return how many responses were as expected."""
        return f"{sum(self.verdicts)} of {len(self.verdicts)} responses were as expected"


def curl(*words: str) -> str:
    """Return a curl command as it is typed, over several lines if it is long."""
    command = " ".join(["$ curl", *words])
    if len(command) <= WIDTH:
        return command
    return "$ curl " + " \\\n    ".join(words)
