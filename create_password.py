"""Makes the bcrypt hash of a password, as jwt_create_token.py expects it in DynamoDB. Runs on a laptop.

    python create_password.py                               prints the hash
    python create_password.py --user-id ID                  prints the user's item, as DynamoDB JSON
    python create_password.py --user-id ID --table TABLE    writes it: a new user, or a new password

Asks for the password (8 characters or more, better 15, at most 72 bytes) twice, or reads one line of a pipe.

Options
    --user-id ID     whose item it is: 1 to 256 bytes
    --table TABLE    sets passwordHash and tokensValidFrom in this DynamoDB table, and keeps the other attributes.
                     tokensValidFrom is now: it ends the user's tokens, where the authorizers look it up
    --scope "a b"    sets the user's rights too (RFC 6749 §3.3), 1,024 bytes at most; "" removes them
    --keep-password  with --scope and --table: asks for no password, and keeps the hash and the tokens
    --log-out        with --table: ends the user's tokens, and changes nothing else
    --generate       makes a random password, and prints it on standard error

Needs        requirements_basic_auth.txt; for --table region, credentials and AWS_ENDPOINT_URL as the AWS CLI has them
Permissions  dynamodb:UpdateItem on the table
Exit status  0  done
             1  a package, a setting, DynamoDB or a full disk is in the way; there is no such user; Ctrl-C
             2  the password, the user_id, the scope, the table's name or an option cannot be used
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import argparse
import getpass
import json
import os
import re
import secrets
import sys
import time
from typing import Any

MISSING = "The package {} is missing: python -m pip install -r requirements_basic_auth.txt"

try:
    import bcrypt
except ImportError:
    raise SystemExit(MISSING.format("bcrypt")) from None

SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")  # RFC 6749 §3.3
CURES = {  # by DynamoDB's error code
    "AccessDeniedException": "the credentials need dynamodb:UpdateItem on this table",
    "ResourceNotFoundException": "there is no such table here; check its name, the region and the credentials",
    "ValidationException": "the table's key must be the string user_id alone",
}


def main(argv: list[str]) -> int:
    """Run the command line and return its exit status."""
    try:
        run(parsed(argv))
    except UnicodeError:  # its own message has a piece of the text
        print("The user_id and the password must be valid Unicode.", file=sys.stderr)
        return 2
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return 0


def parsed(argv: list[str]) -> argparse.Namespace:
    """Return the options, or end with status 2 where they do not exist or do not go together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--user-id", "--table", "--scope"):
        parser.add_argument(name)
    exclusive = parser.add_mutually_exclusive_group()
    for name in ("--keep-password", "--log-out", "--generate"):
        exclusive.add_argument(name, action="store_true")
    options, unknown = parser.parse_known_args(argv)
    if unknown:  # and not repeated, as it may be a password
        parser.error("there is no such option; a password is asked for, or read from a pipe")
    if options.user_id is None and (options.table is not None or options.scope is not None):
        parser.error("--table and --scope need --user-id")
    if options.keep_password and None in (options.table, options.scope):
        parser.error("--keep-password needs --table and --scope")
    if options.log_out and (options.table is None or options.scope is not None):
        parser.error("--log-out needs --table, and goes without --scope")
    return options


def run(options: argparse.Namespace) -> None:
    """Do what the options say; raise ValueError for bad input, RuntimeError for anything else in the way."""
    check(options)
    dynamodb = None if options.table is None else client()
    item: dict[str, Any] = {}
    if not options.keep_password and not options.log_out:
        item["passwordHash"] = {"S": new_hash(options)}
    if not options.keep_password:
        item["tokensValidFrom"] = {"N": str(int(time.time()))}
    if options.scope:
        item["scope"] = {"S": options.scope}
    if dynamodb:
        write(dynamodb, options, item)
    else:
        item = {"user_id": {"S": options.user_id}} | item
        show(item["passwordHash"]["S"] if options.user_id is None else json.dumps(item))


def check(options: argparse.Namespace) -> None:
    """Raise for what can be known to be wrong before anybody is asked for a password."""
    if options.user_id is not None and not 1 <= len(options.user_id.encode()) <= 256:
        raise ValueError("The user_id must have 1 to 256 bytes in UTF-8.")
    if options.scope and not (len(options.scope) <= 1024 and SCOPE.fullmatch(options.scope)):
        raise ValueError(
            'The scope must be words of ASCII, one blank apart, at most 1,024 bytes: "read admin".'
        )
    if options.table is not None and not re.fullmatch(
        r"(arn:[!-~]+/)?[A-Za-z0-9_.-]{3,255}", options.table
    ):
        raise ValueError(
            "The table's name must have 3 to 255 letters, digits, dots, dashes or underscores."
        )
    if None in (sys.stdin, sys.stdout, sys.stderr):
        raise RuntimeError("Standard input, output and error must be open.")


def client() -> Any:
    """Return a client of DynamoDB that has a region, credentials and an endpoint."""
    try:
        import boto3
        from botocore.config import Config

        session = boto3.Session()
        if session.get_credentials() is None:
            raise ValueError("There are no AWS credentials")
        patience = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard"})
        return session.client("dynamodb", config=patience)
    except ImportError:
        raise RuntimeError(MISSING.format("boto3")) from None
    except Exception as error:  # whose sentence goes to the user's own terminal
        cure = "set region and credentials with aws configure; AWS_ENDPOINT_URL is empty or like http://localhost:8000"
        raise RuntimeError(f"{str(error).rstrip('.')}: {cure}.") from None


def new_hash(options: argparse.Namespace) -> str:
    """Return the hash of a new password, or raise ValueError for one that is easy to guess (OWASP ASVS 5.0 §6.2.1)."""
    password = (
        secrets.token_urlsafe(18) if options.generate else read_password()
    )  # 18 bytes are 24 characters
    if 0 < len(password) < 8:
        raise ValueError(f"The password has {len(password)} characters, and 8 are the least.")
    if password == options.user_id:
        raise ValueError("The password must not be the user_id.")
    password_hash = hash_password(password)
    if options.generate:
        print(f"Password: {password}", file=sys.stderr)
    elif len(password) < 15:  # NIST SP 800-63B-4 §3.1.1.2
        print(
            f"Warning: the password has {len(password)} characters; 15 or more are good.",
            file=sys.stderr,
        )
    return password_hash


def read_password() -> str:
    """Return the password: typed twice at a terminal, else one line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    password = getpass.getpass("Password: ")
    if getpass.getpass("The same again: ") != password:
        raise ValueError("The two passwords differ.")
    return password


def hash_password(password: str) -> str:
    """Return the bcrypt hash of a password.

    Args:
        password: 1 to 72 bytes in UTF-8, without NUL: bcrypt reads no further, and repeats its key.

    Returns:
        60 characters in the Modular Crypt Format, "$2b$12$<22 of salt><31 of hash>".

    Raises:
        ValueError: the password is empty, over 72 bytes, not valid Unicode, or has a NUL.
    """
    size = len(password.encode())
    if not size:
        raise ValueError("The password is empty.")
    if size > 72:
        raise ValueError(
            f"The password has {size} bytes in UTF-8, and bcrypt takes 72 bytes at most."
        )
    if "\0" in password:
        raise ValueError("The password has a NUL character, which bcrypt cannot tell from its end.")
    return bcrypt.hashpw(
        password.encode(), bcrypt.gensalt(12)
    ).decode()  # the cost of login's dummy hash


def write(dynamodb: Any, options: argparse.Namespace, item: dict[str, Any]) -> None:
    """Set the attributes of an item in the table, and say whether it is new."""
    from botocore.exceptions import ClientError

    request: dict[str, Any] = {
        "TableName": options.table,
        "Key": {"user_id": {"S": options.user_id}},
    }
    request |= {"ReturnValues": "ALL_OLD", "ReturnConsumedCapacity": "TOTAL"}
    if options.keep_password or options.log_out:
        request["ConditionExpression"] = "attribute_exists(user_id)"
    try:
        answer = dynamodb.update_item(**request, **changes(options, item))
        answer.pop(
            "ConsumedCapacity"
        )  # or KeyError, where it was no DynamoDB: botocore takes a 200 in HTML for empty
    except Exception as error:
        code = (
            error.response["Error"]["Code"]
            if isinstance(error, ClientError)
            else type(error).__name__
        )
        if code == "ConditionalCheckFailedException":
            raise RuntimeError(
                f"There is no user {options.user_id!r} in {options.table}."
            ) from None
        cure = CURES.get(
            code, "check network, region, credentials and AWS_ENDPOINT_URL, and try again"
        )
        raise RuntimeError(f"DynamoDB failed ({code}): {cure}.") from None
    done = "was changed" if answer.get("Attributes") else "is new"
    print(f"The user {options.user_id!r} in {options.table} {done}.", file=sys.stderr)


def changes(options: argparse.Namespace, item: dict[str, Any]) -> dict[str, Any]:
    """Return an UpdateExpression with its names, in # since scope is a reserved word of DynamoDB, and its values."""
    expression = "SET " + ", ".join(f"#{name} = :{name}" for name in item) if item else ""
    if options.scope == "":
        expression += " REMOVE #scope"
    names = {f"#{name}": name for name in re.findall(r"#(\w+)", expression)}
    parts = {"UpdateExpression": expression, "ExpressionAttributeNames": names}
    return parts | (
        {"ExpressionAttributeValues": {f":{name}": item[name] for name in item}} if item else {}
    )


def show(text: str) -> None:
    """Print on standard output, or raise RuntimeError where it is full or its reader is gone."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # else Python tries again as it ends
        raise RuntimeError(f"Standard output cannot be written: {error.strerror}.") from None


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KeyboardInterrupt, EOFError):
        sys.exit("\nStopped.")
