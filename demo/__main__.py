"""Walks through what the kit does, or keeps it running: `make demo`, `make serve`.

Exit status: 0 if every response was as expected, 1 if one wasn't or a sentence says what stopped
the demo, 130 if Ctrl-C did.
"""

import argparse
import io
import os
import signal
import sys

try:
    from demo import DemoError, story
    from demo.emulator import emulator
    from demo.serve import serve
except ImportError as error:
    sys.exit(f"demo: {error.name} isn't installed. Run make demo, which installs what it needs.")


def main() -> int:
    """Run the command line and return its exit status."""
    options = parsed()
    print_utf_8()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    for name in list(os.environ):
        if name.startswith("AWS_"):
            del os.environ[name]
    try:
        with emulator(options.port) as endpoint:
            if options.serve:
                return serve(endpoint, options.parameters)
            return story.tell(endpoint)
    except (DemoError, OSError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        return 0 if options.serve else 130


def parsed() -> argparse.Namespace:
    """Return the options, or end with status 2 if they make no sense."""
    parser = argparse.ArgumentParser(
        prog="demo", description="Walk through what the kit does, on this machine."
    )
    parser.add_argument("--serve", action="store_true", help="keep it running until Ctrl-C")
    parser.add_argument(
        "--port", type=int, default=0, help="the port on 127.0.0.1 (default: a free one)"
    )
    parser.add_argument(
        "parameters", nargs="*", metavar="NAME=VALUE", help="with --serve: of template.yaml"
    )
    return parser.parse_args()


def print_utf_8() -> None:
    """Print UTF-8, whatever the locale is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
