"""The files of the kit: where they are, which layer each has, and which environment variables each reads."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LAYERS: dict[str, str | None] = {
    "jwt_auth_token": "basic_auth",
    "jwt_auth_token_websocket": "basic_auth",
    "jwt_auth_token_google": "google_auth",
    "jwt_create_token": "basic_auth",
    "restricted_access_lambda": None,
}
HANDLERS = list(LAYERS)


def environment(script: str) -> set[str]:
    """Return the environment variables that a script reads, as its source says."""
    source = (ROOT / f"{script}.py").read_text()
    reads = re.findall(r'os\.environ(?:\.get\(|\[)"?(\w+)', source)
    assert len(reads) == source.count("os.environ"), (
        f"{script}.py reads the environment in a way not followed here"
    )
    return {*reads, *re.findall(r'signing_secret\("(\w+)"\)', source)} - {"name"}
