"""A standard input that comes from a pipe."""

import io


def pipe(text: str) -> io.TextIOWrapper:
    """Return a text in UTF-8, as a program in a shell with another encoding gets it."""
    return io.TextIOWrapper(io.BytesIO(text.encode(errors="surrogatepass")), "latin-1")
