"""Creates and changes the users of jwt_create_token.py: passwords, scopes and revocation.

Run it on your laptop:

    python create_password.py                               prints a bcrypt hash
    python create_password.py --user-id ID                  prints the item of a new user, for
                                                            aws dynamodb put-item --item
    python create_password.py --user-id ID --table TABLE    creates a user, or sets a new password

You are asked for the password twice. Or pipe it in, as one line. It needs at least 8 characters
(better 15) and at most 72 bytes, and must not be the user_id.

Options
    --user-id ID      The user: 1 to 256 bytes. For a Google user, the "sub" claim of the ID token.
    --table TABLE     Writes to this DynamoDB table, and keeps the user's other attributes.
    --scope "a b"     Sets the user's scope too: words with single spaces between them, at most
                      1,024 characters. "" removes the scope.
    --generate        Generates a random password and prints it on standard error.
    --no-password     Creates a user without a password, for Google. Removes an existing password.
    --keep-password   With --scope and --table: changes only the scope. Issued JWTs keep the old
                      scope until they expire.
    --revoke-tokens   With --table: revokes the JWTs issued until now, and keeps the password.
                      It has no effect on Google's tokens.
    --delete          With --table: deletes the user. This also ends a Google user's access.

A new password, --no-password and --revoke-tokens set a new random tokenVersion. Authorizers that
check users then reject the JWTs issued until now. They check users if they have the setting
USER_CREDENTIALS_TABLE_NAME (in the templates: CheckUsers=true). Otherwise, issued JWTs stay valid
until they expire.

Needs        requirements_basic_auth.txt. For --table also a region and credentials, set up as for
             the AWS CLI.
Permissions  dynamodb:UpdateItem on the table. For --delete, dynamodb:DeleteItem.
Exit status  0  Done.
             1  A package or a setting is missing, DynamoDB failed, there is no such user, or you
                pressed Ctrl-C.
             2  The password, the user_id, the scope, the table name or an option is invalid.
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import argparse
import getpass
import json
import re
import secrets
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

INSTALL = "The package {} is missing. Run: python -m pip install -r requirements_basic_auth.txt"

try:
    import bcrypt
except ImportError:
    raise SystemExit(INSTALL.format("bcrypt")) from None

REVOKED = (
    "Authorizers that check users (CheckUsers) reject the tokens issued until now. "
    "Other authorizers accept them until they expire."
)
FIXES = {  # by the name of DynamoDB's or botocore's error
    "AccessDeniedException": (
        "Your credentials need the permission dynamodb:UpdateItem on this table (for --delete: "
        "dynamodb:DeleteItem)."
    ),
    "ExpiredTokenException": "The credentials have expired. Get new ones, for example: aws login",
    "MissingDependencyException": 'Run: python -m pip install "botocore[crt]"',
    "NoCredentialsError": "Set up credentials, for example: aws configure",
    "NoRegionError": "Set a region, for example: aws configure",
    "ProfileNotFound": "Correct AWS_PROFILE. To list the profiles: aws configure list-profiles",
    "ResourceNotFoundException": "Check the table's name, the region and the account.",
    "SSOTokenLoadError": "Run: aws sso login",
    "TokenRetrievalError": "Run: aws sso login",
    "UnauthorizedSSOTokenError": "Run: aws sso login",
    "UnrecognizedClientException": "Check the credentials and the region.",
    "ValidationException": "The table's only key must be user_id, a string.",
}
OTHER_FIX = "Check the network, the region, the credentials, and AWS_ENDPOINT_URL if you set it."


def main(arguments: list[str]) -> int:
    """Run the command line and return its exit status."""
    try:
        run(parsed_options(arguments))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, EOFError):
        print("\nStopped.", file=sys.stderr)
        return 1
    return 0


def parsed_options(arguments: list[str]) -> argparse.Namespace:
    """Return the options, or end with status 2 if they don't exist or don't fit together."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="python create_password.py [options]",
        allow_abbrev=False,
    )
    for name in ("--user-id", "--table", "--scope"):
        parser.add_argument(name, help=argparse.SUPPRESS)  # the docstring explains it
    modes = parser.add_mutually_exclusive_group()
    for mode in ("generate", "no-password", "keep-password", "revoke-tokens", "delete"):
        modes.add_argument(
            f"--{mode}", dest="mode", action="store_const", const=mode, help=argparse.SUPPRESS
        )
    parser.set_defaults(mode="type-password")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:  # not repeated in the message, because it may be a password
        parser.error(
            "unknown argument. Check the spelling of the options (--help). "
            "Never pass the password as an argument: enter it when asked, or pipe it in."
        )
    problem = option_conflict(options)
    if problem:
        parser.error(problem)
    return options


def option_conflict(options: argparse.Namespace) -> str:
    """Return why the options don't fit together, or ""."""
    if options.user_id is None:
        needs_user = options.mode not in ("type-password", "generate")
        if options.table is None and options.scope is None and not needs_user:
            return ""
        return "--user-id is missing."
    if options.mode in ("keep-password", "revoke-tokens", "delete") and options.table is None:
        return f"--{options.mode} needs --table."
    if options.mode == "keep-password" and options.scope is None:
        return "--keep-password changes only the scope, so it needs --scope."
    if options.mode == "delete" and options.scope is not None:
        return "--delete and --scope don't fit together."
    return ""


def run(options: argparse.Namespace) -> None:
    """Do what the options say; raise ValueError for bad input and RuntimeError for the rest."""
    normalize_and_check(options)
    if options.table is None:
        password = chosen_password(options)
        print(item_or_hash(options, password))
    else:
        dynamodb = dynamodb_client()  # first, so that nobody types a password in vain
        password = chosen_password(options)
        if options.mode == "delete":
            delete_user(dynamodb, options)
        else:
            update_user(dynamodb, options, password)
    if options.mode == "generate":
        print(f"Password: {password}", file=sys.stderr)


def normalize_and_check(options: argparse.Namespace) -> None:
    """Normalize the user_id as login does, and raise ValueError for options that can't be right."""
    if options.user_id is not None:
        options.user_id = unicodedata.normalize("NFC", options.user_id)
        check_user_id(options.user_id)
    if options.scope:
        check_scope(options.scope)
    table_name = r"(arn:\S+/)?[A-Za-z0-9_.-]{3,255}"
    if options.table is not None and not re.fullmatch(table_name, options.table):
        raise ValueError(
            "The table name is invalid. Use 3 to 255 letters, digits, dots, hyphens or "
            "underscores, or the table's ARN."
        )


def check_user_id(user_id: str) -> None:
    """Raise ValueError for a user_id that login or a backend could not handle."""
    if not user_id.isprintable() or user_id != user_id.strip():
        raise ValueError(
            "The user_id contains an invisible character, or begins or ends with a space. "
            "Remove it."
        )
    if not 1 <= len(user_id.encode()) <= 256:
        raise ValueError("The user_id must have 1 to 256 bytes.")
    if '"' in user_id or "\\" in user_id:
        raise ValueError(
            "The user_id contains a double quote or a backslash, which breaks access logs."
        )


def check_scope(scope: str) -> None:
    """Raise ValueError for a scope that ALLOWED_RESOURCE_ARNS can't name (RFC 6749 §3.3)."""
    if len(scope) > 1024:
        raise ValueError("The scope must have at most 1,024 characters.")
    for word in scope.split(" "):
        if not word:
            raise ValueError('Separate the words of the scope with single spaces: "read admin".')
        if not word.isascii() or not word.isprintable() or re.search(r"[,=\"'\\]", word):
            raise ValueError(
                "The scope contains a character that is not allowed. Separate words with spaces "
                'instead of commas, and use letters, digits, ":" or "-": "read admin".'
            )
        if word.startswith(("arn:", "*")):
            raise ValueError('A word of the scope must not begin with "arn:" or "*".')


def chosen_password(options: argparse.Namespace) -> str:
    """Return the new password, typed or generated, or "" if the options don't need one."""
    if options.mode == "generate":
        return secrets.token_urlsafe(18)  # 24 characters
    if options.mode != "type-password":
        return ""
    password = unicodedata.normalize("NFC", read_password())
    check_password(password, options.user_id)
    return password


def read_password() -> str:
    """Return the password: typed twice at a terminal, otherwise one line of standard input."""
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Password again: ") != password:
            raise ValueError("The two passwords differ.")
        return password
    print("Reading the password from standard input.", file=sys.stderr)
    try:
        line = sys.stdin.buffer.readline().decode()  # UTF-8, also if the terminal is set otherwise
    except UnicodeDecodeError:
        raise ValueError("The password is not valid UTF-8.") from None
    return line.removesuffix("\n").removesuffix("\r")


def check_password(password: str, user_id: str | None) -> None:
    """Raise ValueError for a weak password, and warn about a short one (OWASP ASVS 5.0 §6.2.1)."""
    if not password.isprintable():
        raise ValueError(
            "The password contains an invisible character, such as a byte order mark. Remove it."
        )
    if not password:
        raise ValueError("The password is empty.")
    if len(password) < 8:
        raise ValueError(f"The password has {len(password)} characters. Use at least 8.")
    if password == user_id:
        raise ValueError("The password must not be the user_id.")
    if len(password) < 15:  # NIST SP 800-63B-4 §3.1.1.2
        print(
            f"Warning: the password has {len(password)} characters. At least 15 are better.",
            file=sys.stderr,
        )


def item_or_hash(options: argparse.Namespace, password: str) -> str:
    """Return what is printed without a table: the user's item as JSON, or only the hash."""
    attributes = changed_attributes(options, password)
    if options.user_id is None:
        return str(attributes["passwordHash"])
    item = {"user_id": options.user_id} | attributes
    return json.dumps({name: {"S": value} for name, value in item.items() if value is not None})


def changed_attributes(options: argparse.Namespace, password: str) -> dict[str, str | None]:
    """Return the attributes that change, with their new values; None removes an attribute."""
    attributes: dict[str, str | None] = {}
    if password:
        attributes["passwordHash"] = hash_password(password)
    if options.mode == "no-password":
        attributes["passwordHash"] = None
    if options.mode != "keep-password":
        attributes["tokenVersion"] = secrets.token_hex(8)
    if options.scope is not None:
        attributes["scope"] = options.scope or None
    return attributes


def hash_password(password: str) -> str:
    """Return the bcrypt hash of a password.

    Args:
        password: 1 to 72 bytes in UTF-8, without a NUL character. bcrypt ignores what follows
            72 bytes, and can't tell "abc" from "abc\\0abc". The password is normalized to
            Unicode NFC (RFC 8265), as login does.

    Returns:
        60 characters in the Modular Crypt Format, "$2b$12$<22 of salt><31 of hash>". 12 is the
        cost: bcrypt computes 2^12 rounds. Login's dummy hash has the same cost.

    Raises:
        ValueError: The password is empty, has more than 72 bytes, is not valid Unicode, or
            contains a NUL character.
    """
    try:
        encoded = unicodedata.normalize("NFC", password).encode()
    except UnicodeEncodeError:
        raise ValueError("The password is not valid Unicode.") from None
    if not encoded:
        raise ValueError("The password is empty.")
    if len(encoded) > 72:
        raise ValueError(f"The password has {len(encoded)} bytes in UTF-8. Use at most 72.")
    if b"\0" in encoded:
        raise ValueError("The password contains a NUL character. Remove it.")
    return bcrypt.hashpw(encoded, bcrypt.gensalt(12)).decode()


def dynamodb_client() -> Any:
    """Return a DynamoDB client that has a region and credentials, or raise RuntimeError."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, NoCredentialsError
    except ImportError:
        raise RuntimeError(INSTALL.format("boto3")) from None
    timeouts = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard"})
    try:
        session = boto3.Session()
        if session.get_credentials() is None:
            raise NoCredentialsError
        return session.client("dynamodb", config=timeouts)
    except (BotoCoreError, ValueError) as error:  # ValueError: AWS_ENDPOINT_URL isn't a URL
        problem = str(error).removesuffix(".")
        raise RuntimeError(f"{problem}. {fix_for(type(error).__name__)}") from None


def fix_for(error_name: str) -> str:
    """Return what the user can do about an error of DynamoDB or botocore."""
    return FIXES.get(error_name, OTHER_FIX)


def update_user(dynamodb: Any, options: argparse.Namespace, password: str) -> None:
    """Write the changes to the user's item, and say what that means."""
    attributes = changed_attributes(options, password)
    names = {f"#{name}": name for name in attributes}
    values = {f":{name}": {"S": value} for name, value in attributes.items() if value is not None}
    request = {
        "UpdateExpression": update_expression(attributes),
        "ExpressionAttributeNames": names,
        "ReturnValues": "ALL_OLD",
    }
    if values:
        request["ExpressionAttributeValues"] = values
    if options.mode in ("keep-password", "revoke-tokens"):
        request["ConditionExpression"] = "attribute_exists(user_id)"
    answer = call_dynamodb(dynamodb.update_item, options, request)
    is_new = "Attributes" not in answer
    print(success_message(options, is_new), file=sys.stderr)


def update_expression(attributes: dict[str, str | None]) -> str:
    """Return the UpdateExpression that sets or removes attributes, with # before each name.

    The placeholders are needed because "scope" is a reserved word of DynamoDB.
    """
    settings = [f"#{name} = :{name}" for name, value in attributes.items() if value is not None]
    removals = [f"#{name}" for name, value in attributes.items() if value is None]
    clauses = []
    if settings:
        clauses.append("SET " + ", ".join(settings))
    if removals:
        clauses.append("REMOVE " + ", ".join(removals))
    return " ".join(clauses)


def delete_user(dynamodb: Any, options: argparse.Namespace) -> None:
    """Delete the user's item, and say what that means."""
    call_dynamodb(
        dynamodb.delete_item, options, {"ConditionExpression": "attribute_exists(user_id)"}
    )
    print(f"Deleted {options.user_id!r} from {options.table}. {REVOKED}", file=sys.stderr)


def call_dynamodb(
    operation: Callable[..., Any], options: argparse.Namespace, request: dict[str, Any]
) -> dict[str, Any]:
    """Call DynamoDB for the user's item, or raise RuntimeError with a fix."""
    from botocore.exceptions import BotoCoreError, ClientError  # only --table needs it

    key = {"user_id": {"S": options.user_id}}
    try:
        answer: dict[str, Any] = operation(TableName=options.table, Key=key, **request)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "ConditionalCheckFailedException":
            raise RuntimeError(
                f"There is no user {options.user_id!r} in {options.table}."
            ) from None
        raise RuntimeError(f"DynamoDB failed ({code}). {fix_for(code)}") from None
    except BotoCoreError as error:
        name = type(error).__name__
        raise RuntimeError(f"DynamoDB failed ({name}). {fix_for(name)}") from None
    return answer


def success_message(options: argparse.Namespace, is_new: bool) -> str:
    """Return the sentences that say what was done, and what it means for issued tokens."""
    user = f"{options.user_id!r} in {options.table}"
    if options.mode == "keep-password":
        return f"Changed the scope of {user}. Issued JWTs keep the old scope until they expire."
    if is_new:
        return f"Created {user}."
    if options.mode == "revoke-tokens":
        return f"Revoked the tokens of {user}. {REVOKED}"
    if options.mode == "no-password":
        return f"Removed the password of {user}. {REVOKED}"
    return f"Set a new password for {user}. {REVOKED}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
