"""Deploys the whole kit to the emulator: both templates, and two users."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from demo import DemoError
from demo.emulator import Stack, aws, create_user, deploy, physical_ids

PASSWORD = "password123"
METHODS = "arn:aws:execute-api:us-east-1:000000000000:*/prod/GET"
# Every user may call the first three. The last one is for users with the scope admin.
ALLOWED = [
    f"{METHODS}/api",
    f"{METHODS}/api/other",
    f"{METHODS}/google",
    f"admin={METHODS}/api/admin",
]


def deploy_kit(endpoint: str, parameters: dict[str, str]) -> tuple[Stack, Stack]:
    """Deploy both templates, each with testuser and with ada, who has the scope admin."""
    table = parameters.get("UserTableName", "user_credentials")
    with ThreadPoolExecutor() as pool:
        rest = deploy(endpoint, **with_list(parameters))
        jobs = [pool.submit(require_start, rest), *create_users(pool, endpoint, table)]
        http = deploy(endpoint, "template_http.yaml", "access-control-http", McpServer="true")
        jobs.append(pool.submit(require_start, http))
        jobs += create_users(pool, endpoint, "user_credentials_http")
    for job in jobs:
        job.result()
    return rest, http


def create_users(pool: ThreadPoolExecutor, endpoint: str, table: str) -> list[Future[None]]:
    """Start to create the users of a table."""
    return [
        pool.submit(create_user, endpoint, "testuser", PASSWORD, table=table),
        pool.submit(create_user, endpoint, "ada", PASSWORD, "--scope", "admin", table=table),
    ]


def with_list(parameters: dict[str, str]) -> dict[str, str]:
    """Return parameters with the list of what users may call, unless it is among them."""
    return {"AllowedResourceArns": ",".join(ALLOWED)} | parameters


def require_start(stack: Stack) -> None:
    """Invoke the functions of a stack once, and raise DemoError if one of them doesn't start."""
    functions = function_names(stack.endpoint)
    for name, physical_id in physical_ids(stack.endpoint, stack.name).items():
        if physical_id in functions:
            message = str(invoke(stack.endpoint, physical_id, {}).get("errorMessage"))
            _, failed, reason = message.partition("init failed: ")
            if failed:
                raise DemoError(f"The function {name} doesn't start: {reason}")


def function_names(endpoint: str) -> set[str]:
    """Return the names of all functions in the emulator."""
    pages = aws(endpoint, "lambda").get_paginator("list_functions").paginate()
    return {function["FunctionName"] for page in pages for function in page["Functions"]}


def invoke(endpoint: str, function: str, event: dict[str, str]) -> dict[str, Any]:
    """Invoke a function, and return its response or its error."""
    response = aws(endpoint, "lambda").invoke(FunctionName=function, Payload=json.dumps(event))
    return dict(json.load(response["Payload"]))
