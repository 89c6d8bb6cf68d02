"""Makes the bcrypt hash of a password, as jwt_create_token.py expects it in DynamoDB. Runs on a laptop.

    python create_password.py                                      prints the hash
    python create_password.py --user-id ID                         prints the item, as DynamoDB JSON
    python create_password.py --user-id ID --table TABLE           writes it to the table

Asks for the password twice, without echo; where standard input is not a terminal, reads one line of it.
Needs requirements_basic_auth.txt. --table takes credentials, region and AWS_ENDPOINT_URL from where the AWS CLI
takes them, needs dynamodb:UpdateItem, and keeps the other attributes of a user who is there already.
Exit status: 0 done, 1 DynamoDB failed or Ctrl-C, 2 the password, the user_id or an option cannot be used.
"""

import argparse
import getpass
import json
import sys

import bcrypt

ROUNDS = 12  # bcrypt's cost: 2 to this power; the dummy hash of jwt_create_token.py has the same
MAX_PASSWORD = 72  # bytes, bcrypt's limit
MAX_USER_ID = 256  # bytes, the limit of jwt_create_token.py


def main(argv: list[str]) -> int:
    """Run the command line.

    Args:
        argv: the arguments without the program's name.

    Returns:
        The exit status: 0, or 1 where DynamoDB failed, or 2 where the input cannot be used.

    Raises:
        SystemExit: status 0 after --help, 2 for options that do not exist or do not go together.
    """
    arguments = parsed(argv)
    try:
        if arguments.user_id is not None:
            check_user_id(arguments.user_id)
        password_hash = hash_password(read_password())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.table:
        return write_item(arguments.table, arguments.user_id, password_hash)
    item = {"user_id": {"S": arguments.user_id}, "passwordHash": {"S": password_hash}}
    print(password_hash if arguments.user_id is None else json.dumps(item))
    return 0


def parsed(argv: list[str]) -> argparse.Namespace:
    """Return the options user_id and table, each None where it is not given.

    Raises:
        SystemExit: status 0 after --help, 2 for options that do not exist or do not go together.
    """
    parser = argparse.ArgumentParser(description="Make the bcrypt hash of a password for jwt_create_token.py.")
    parser.add_argument("--user-id", metavar="ID", help="print the item of this user, as DynamoDB JSON")
    parser.add_argument("--table", help="write the item to this DynamoDB table instead")
    arguments = parser.parse_args(argv)
    if arguments.table is not None and not (arguments.table and arguments.user_id is not None):
        parser.error("--table needs a name, and --user-id beside it")
    return arguments


def check_user_id(user_id: str) -> None:
    """Raise ValueError for a user_id that jwt_create_token.py would refuse: empty, over 256 bytes, not Unicode."""
    size = size_in_bytes("user_id", user_id)
    if not 1 <= size <= MAX_USER_ID:
        raise ValueError(f"The user_id must have 1 to {MAX_USER_ID} bytes in UTF-8, and this one has {size}.")


def size_in_bytes(name: str, text: str) -> int:
    """Return the length of a text in UTF-8, or raise ValueError if it has none: half a surrogate pair."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"The {name} must be valid Unicode.") from None


def read_password() -> str:
    """Return the password: typed twice at a terminal, else one line of standard input.

    Raises:
        ValueError: the two that were typed differ, or the line is not valid Unicode.
    """
    if not sys.stdin.isatty():
        try:
            return sys.stdin.readline().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise ValueError("The password must be valid Unicode.") from None
    password = getpass.getpass("Password: ")
    if getpass.getpass("The same again: ") != password:
        raise ValueError("The two passwords differ.")
    return password


def hash_password(password: str, rounds: int = ROUNDS) -> str:
    """Return the bcrypt hash of a password.

    Args:
        password: 1 to 72 bytes in UTF-8, without NUL: bcrypt reads no further, and repeats its key.
        rounds: the cost, 4 to 31; each step doubles the time.

    Returns:
        60 characters in the Modular Crypt Format, "$2b$<rounds>$<22 of salt><31 of hash>".

    Raises:
        ValueError: the password is empty, over 72 bytes, not valid Unicode, or has a NUL; or rounds is out of range.
    """
    size = size_in_bytes("password", password)
    if not size:
        raise ValueError("The password is empty.")
    if size > MAX_PASSWORD:
        raise ValueError(f"The password has {size} bytes in UTF-8, and bcrypt takes {MAX_PASSWORD} bytes at most.")
    if "\0" in password:
        raise ValueError("The password has a NUL character, which bcrypt cannot tell from its end.")
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()


def write_item(table: str, user_id: str, password_hash: str) -> int:
    """Set passwordHash of the item user_id, say so on standard error, and return the exit status.

    Args:
        table: the name of a DynamoDB table whose partition key is the string user_id.
        user_id: 1 to 256 bytes in UTF-8.
        password_hash: what hash_password returned.

    Returns:
        0, or 1 where DynamoDB or the settings of the AWS SDK did not allow it.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        boto3.client("dynamodb").update_item(
            TableName=table,
            Key={"user_id": {"S": user_id}},
            UpdateExpression="SET passwordHash = :hash",
            ExpressionAttributeValues={":hash": {"S": password_hash}},
        )
    except (BotoCoreError, ClientError, ValueError) as error:
        reason = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        print(f"The item was not written: {reason}.", file=sys.stderr)
        return 1
    print(f"The passwordHash of {user_id!r} is in {table}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KeyboardInterrupt, EOFError):
        sys.exit("\nNothing was written.")
