"""The watch over secrets: none may be in what a handler logs, returns or raises."""

import logging


class SecretsWatch(logging.Handler):
    """Collects what handlers say during a test, and the secrets that must not be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, str]] = []  # who, and what
        self.secrets: set[str] = set()

    def guards(self, *secrets: str) -> None:
        """Note secrets. Of a token, payload and signature are secret: anybody knows the header."""
        for secret in secrets:
            parts = secret.removeprefix("Bearer ").split(".")
            secret_parts = parts[1:] if len(parts) == 3 else [secret]
            self.secrets.update(part for part in secret_parts if len(set(part)) >= 10)

    def hears(self, who: str, text: str) -> None:
        """Note what somebody said."""
        self.said.append((who, text))

    def emit(self, record: logging.LogRecord) -> None:
        """Note a log line, with the traceback that would be printed below it."""
        self.hears(record.name, self.format(record))

    def leaks(self) -> list[str]:
        """Return what was said with a secret in it."""
        everything = "\n".join(text for _, text in self.said)
        leaked = [secret for secret in self.secrets if secret in everything]
        return [
            f"{who} said: {text}"
            for who, text in self.said
            if any(secret in text for secret in leaked)
        ]


WATCH = SecretsWatch()
