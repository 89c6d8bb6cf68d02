"""JWT authorizer for REST and HTTP APIs: each sentence of its docstring, then tables of cases.

Settings and policies that other authorizers share are tested here for all of them. Attacks are in
test_attacks.py, events and caching in test_events.py, revocation in test_revoking_tokens.py.
"""

import json
import logging
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deploy import API, ARN, PREVIOUS, REQUIRED, SECRET, Deploy, Function, outcome
from support.events import KINDS, token_event
from support.fake_dynamodb import AWS
from support.fake_google import certificate
from support.files import environment
from support.iam import decision
from support.tokens import AUTHORIZERS, HS256, SYMMETRIC, Target, claims, hs, jws, make_jwt

WITH_POLICIES = ["jwt_auth_token", "jwt_auth_token_google"]
OTHER_ARN = f"{API}/prod/POST/other/thing"
Log = pytest.LogCaptureFixture


@pytest.fixture
def authorize(deploy: Deploy) -> Function:
    return deploy("jwt_auth_token", JWT_SECRET=SECRET)


def accepts(authorize: Function, token: str) -> bool:
    return outcome(authorize, token_event(token)) is not None


# Which tokens are accepted.


def test_valid_token_is_accepted(authorize: Function) -> None:
    assert accepts(authorize, make_jwt())


def test_missing_token_is_rejected(authorize: Function) -> None:
    assert not accepts(authorize, "")


def test_expired_token_is_rejected(authorize: Function) -> None:
    assert not accepts(authorize, make_jwt(exp=int(time.time()) - 60))


def test_clock_skew_of_ten_seconds_is_allowed(authorize: Function) -> None:
    assert accepts(authorize, make_jwt(exp=time.time() - 9))
    assert not accepts(authorize, make_jwt(exp=time.time() - 10))


def test_token_that_is_not_valid_yet_is_rejected(authorize: Function) -> None:
    now = int(time.time())
    assert accepts(authorize, make_jwt(nbf=now + 9, iat=now + 9))
    assert not accepts(authorize, make_jwt(nbf=now + 20))
    assert not accepts(authorize, make_jwt(iat=now + 20))


def test_token_without_expiry_is_rejected(authorize: Function) -> None:
    assert not accepts(authorize, make_jwt(exp=...))


def test_token_with_another_signature_is_rejected(authorize: Function) -> None:
    assert not accepts(authorize, make_jwt("another-secret-of-32-bytes-or-more!"))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_token_of_another_algorithm_is_rejected(authorize: Function, algorithm: str) -> None:
    sign = hs(SECRET, algorithm.replace("HS", "sha"))
    token = jws(HS256 | {"alg": algorithm}, json.dumps(claims()).encode(), sign)
    assert not accepts(authorize, token)


@pytest.mark.parametrize("user_id", [..., None, "", 7, ["testuser"]])
def test_token_without_user_id_is_rejected(authorize: Function, user_id: Any) -> None:
    assert not accepts(authorize, make_jwt(user_id=user_id))


@pytest.mark.parametrize("scope", [None, 7, ["read"]])
def test_scope_that_is_no_string_is_rejected(authorize: Function, scope: Any) -> None:
    assert not accepts(authorize, make_jwt(scope=scope))


def test_previous_secret_is_accepted_too(deploy: Deploy) -> None:
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, JWT_SECRET_PREVIOUS=PREVIOUS)
    assert accepts(authorize, make_jwt(SECRET))
    assert accepts(authorize, make_jwt(PREVIOUS))
    assert not accepts(authorize, make_jwt(PREVIOUS, exp=1))
    assert not accepts(authorize, make_jwt("another-secret-of-32-bytes-or-more!"))


def test_rotation_in_the_documented_order_rejects_nobody(deploy: Deploy) -> None:
    old, new = make_jwt(PREVIOUS), make_jwt(SECRET)
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, JWT_SECRET_PREVIOUS=PREVIOUS)
    assert accepts(authorize, old)  # step 1: login still signs with the old secret
    assert accepts(authorize, new)  # step 2
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET)  # step 3
    assert accepts(authorize, new)
    assert not accepts(authorize, old)


def test_issuer_is_required_if_set(deploy: Deploy) -> None:
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, JWT_ISSUER="login")
    assert accepts(authorize, make_jwt(iss="login"))
    for issuer in (..., None, "", "other", "login/", ["login"]):
        assert not accepts(authorize, make_jwt(iss=issuer))


def test_issuer_is_not_checked_if_unset(authorize: Function) -> None:
    assert accepts(authorize, make_jwt(iss="anybody"))


def test_audience_is_required_if_set(deploy: Deploy) -> None:
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, JWT_AUDIENCE="api")
    assert accepts(authorize, make_jwt(aud="api"))
    assert accepts(authorize, make_jwt(aud=["web", "api"]))
    for audience in (..., None, "", "ap", [], ["web"], ["api", 1], {"api": 1}):
        assert not accepts(authorize, make_jwt(aud=audience))


def test_token_with_an_audience_is_rejected_if_none_is_set(authorize: Function) -> None:
    assert not accepts(authorize, make_jwt(aud="api"))


# Where the token is. test_events.py has more.


@pytest.mark.parametrize("kind", KINDS)
def test_token_is_in_the_authorization_header(authorize: Function, kind: str) -> None:
    for header in (f"Bearer {make_jwt()}", f"bearer {make_jwt()}", make_jwt()):
        assert authorize(KINDS[kind](header, ARN))["principalId"] == "testuser"


# What the authorizer returns.


def test_rejected_token_raises_unauthorized(authorize: Function) -> None:
    with pytest.raises(Exception, match="^Unauthorized$") as caught:
        authorize(token_event("junk"))
    assert type(caught.value) is Exception


def test_valid_token_may_call_all_methods_of_the_stage(authorize: Function) -> None:
    response = authorize(token_event(make_jwt()))
    assert response["policyDocument"]["Version"] == "2012-10-17"
    assert decision(response, ARN) == "Allow"
    assert decision(response, OTHER_ARN) == "Allow"
    assert decision(response, f"{API}/test/GET/api") == "Deny"
    arn_in_china = ARN.replace("aws", "aws-cn", 1)
    assert decision(authorize(token_event(make_jwt(), arn_in_china)), arn_in_china) == "Allow"


def test_context_has_user_id_scope_and_authorized(authorize: Function) -> None:
    response = authorize(token_event(make_jwt(user_id="anna", scope="read admin")))
    assert response["principalId"] == "anna"
    assert response["context"] == {"user_id": "anna", "scope": "read admin", "authorized": True}
    assert authorize(token_event(make_jwt()))["context"]["scope"] == ""


@pytest.mark.parametrize("listed", ["", f"{API}/*/GET/*,admin=*", f"admin={ARN}"])
def test_policy_does_not_depend_on_the_method_that_was_called(deploy: Deploy, listed: str) -> None:
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=listed)
    policies = [
        authorize(token_event(make_jwt(), arn))["policyDocument"]["Statement"]
        for arn in (ARN, OTHER_ARN)
    ]
    # IAM ignores the order of the statements.
    assert sorted(policies[0], key=str) == sorted(policies[1], key=str)


# ALLOWED_RESOURCE_ARNS, in both authorizers that read it.


@pytest.fixture(params=WITH_POLICIES)
def script(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_list_allows_its_methods_and_denies_all_others(aim: Any, script: str) -> None:
    """The Deny must be explicit. A resource policy that allows everyone overrides others."""
    target = aim(script, ALLOWED_RESOURCE_ARNS=f"{ARN}, {API}/*/GET/reports/*")
    response = target.call(target.token())
    assert decision(response, ARN) == "Allow"
    assert decision(response, f"{API}/test/GET/reports/2026/1") == "Allow"
    assert decision(response, OTHER_ARN) == "Deny"
    assert decision(response, f"{API}/test/GET/api") == "Deny"


def test_entry_with_a_scope_is_only_for_tokens_with_that_scope(deploy: Deploy) -> None:
    listed = f"{ARN},admin={OTHER_ARN}"
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=listed)
    for granted in ("admin", "read admin"):
        assert decision(authorize(token_event(make_jwt(scope=granted))), OTHER_ARN) == "Allow"
    for scope in (..., "", "Admin", "administrator", "xadmin", "ad min", "*", "admin=*"):
        response = authorize(token_event(make_jwt(scope=scope)))
        assert decision(response, OTHER_ARN) == "Deny"
        assert decision(response, ARN) == "Allow"


def test_entry_with_a_scope_cannot_restrict_another_entry(deploy: Deploy) -> None:
    listed = f"{API}/*,admin={ARN}"
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=listed)
    assert decision(authorize(token_event(make_jwt())), ARN) == "Allow"


def test_token_that_no_entry_is_for_is_denied_the_whole_stage(aim: Any, script: str) -> None:
    target = aim(script, ALLOWED_RESOURCE_ARNS=f"admin={ARN}")
    (statement,) = target.call(target.token())["policyDocument"]["Statement"]
    assert (statement["Effect"], statement["Resource"]) == ("Deny", f"{API}/prod/*")


def test_statement_that_decides_the_request_comes_first(aim: Any, script: str) -> None:
    target = aim(script, ALLOWED_RESOURCE_ARNS=ARN)
    for arn, effect in ((ARN, "Allow"), (OTHER_ARN, "Deny")):
        response = target.function(token_event(target.token(), arn))
        assert response["policyDocument"]["Statement"][0]["Effect"] == effect


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*", "a/b", "Allow"),
        ("a/*", "a/", "Allow"),
        ("a?c", "abc", "Allow"),
        ("a?c", "ac", "Deny"),
        ("a[b]c", "abc", "Deny"),
        ("a[b]c", "a[b]c", "Allow"),
        ("a[!x]c", "abc", "Deny"),
        ("a.c", "abc", "Deny"),
        ("api", "API", "Deny"),
        ("api", "api/", "Deny"),
    ],
)
def test_only_star_and_question_mark_are_wildcards(
    aim: Any, caplog: Log, script: str, pattern: str, path: str, expected: str
) -> None:
    target = aim(script, ALLOWED_RESOURCE_ARNS=f"{API}/prod/HEAD/x,{API}/prod/GET/{pattern}")
    arn = f"{API}/prod/GET/{path}"
    response = target.function(token_event(target.token(), arn))
    assert decision(response, arn) == expected
    assert response["policyDocument"]["Statement"][0]["Effect"] == expected
    assert caplog.messages[-1].startswith("admitted" if expected == "Allow" else "denied")


@given(st.text("ab/*?[]!-", min_size=1), st.text("ab/[]!-"))
@settings(max_examples=200)
def test_log_and_order_agree_with_iam(authorize: Function, pattern: str, path: str) -> None:
    arn = f"{API}/prod/GET/{path}"
    vars(authorize.module)["ALLOWED_RESOURCE_ARNS"] = [("", f"{API}/prod/GET/{pattern}")]
    response = authorize(token_event(make_jwt(), arn))
    assert response["policyDocument"]["Statement"][0]["Effect"] == decision(response, arn)


USABLE_LISTS = [
    "*",
    "arn:aws:execute-api:*",
    "arn:aws:execute-api:*:*:*",
    "arn:aws:execute-api:eu-west-1:*",
    "arn:*:execute-api:eu-west-1:123456789012:abcdef1234/*",
    f"{API}/*",
    f"{API}/*/GET/api",
    f"{API}/prod/*",
    f"{API}/prod/*/api",
    f"{API}/pro?/GET/v?/*",
    f"{API}/prod/P?T/api",
    f"{API}/prod/GET/",
    f"{API}/$default/DELETE/a/b",
    f"{API}/prod/$default",
    f"{API}/prod/GET/[a]/~b/c%20d/(e)/f:g@h=i",
    f"{API}/prod/GET/".ljust(512, "x"),
    f"read:all={ARN}",
    f" {ARN} ,\tadmin=*,read={ARN.replace('aws', 'aws-cn', 1)}",
]


@pytest.mark.parametrize("listed", USABLE_LISTS)
def test_usable_list_is_taken_as_it_is(deploy: Deploy, script: str, listed: str) -> None:
    module = deploy(script, **REQUIRED, ALLOWED_RESOURCE_ARNS=listed).module
    entries = [f"{scope}={arn}" if scope else arn for scope, arn in module.ALLOWED_RESOURCE_ARNS]
    assert entries == [entry.strip() for entry in listed.split(",")]


NO_SCOPE = "must be <ARN> or <scope>=<ARN>"
NO_ARN = "is not the ARN of an API Gateway method"
CHARACTER = "has a character that no method ARN has. For {id}, write *."
NO_FIELD = "needs arn:aws:execute-api:<region>:<account>"
NO_METHOD = "needs <API ID>/<stage>/<METHOD>/<path>"
UNUSABLE_ENTRIES = {
    "empty": ("", "is empty. Remove the extra comma."),
    "method without an ARN": ("GET/api", NO_SCOPE),
    "ARN in capitals": (ARN.upper(), NO_SCOPE),
    "quoted scope": (f'"admin"={ARN}', NO_SCOPE),
    "scope with a space": (f"ad min={ARN}", NO_SCOPE),
    "scope with a backslash": (f"ad\\min={ARN}", NO_SCOPE),
    "empty scope": (f"={ARN}", NO_SCOPE),
    "two scopes": (f"read=admin={ARN}", NO_ARN),
    "scope without an ARN": ("admin=", NO_ARN),
    "two stars": ("**", NO_ARN),
    "ARN of another service": (ARN.replace("execute-api", "lambda"), NO_ARN),
    "513 characters": (f"{API}/prod/GET/".ljust(513, "x"), "has more than 512 characters"),
    "braces": (f"{API}/prod/GET/orders/{{id}}", CHARACTER),
    "angle brackets": (f"{API}/<stage>/GET/api", CHARACTER),
    "semicolon": (f"{ARN};{OTHER_ARN}", CHARACTER),
    "quotes": (f'{ARN}"', CHARACTER),
    "single quotes": (f"{ARN}'", CHARACTER),
    "space": (f"{ARN} {OTHER_ARN}", CHARACTER),
    "query string": (f"{ARN}?user=1", "has a query string"),
    "no account": (ARN.replace(":123456789012", ""), NO_FIELD),
    "empty account": (ARN.replace("123456789012", ""), NO_FIELD),
    "method in lower case": (f"{API}/prod/get/api", NO_METHOD),
    "method ANY": (f"{API}/prod/ANY/api", NO_METHOD),
    "no stage": (f"{API}/GET/api", NO_METHOD),
    "no stage, but a wildcard": (f"{API}/GET/*", NO_METHOD),
    "empty stage": (f"{API}//GET/api", NO_METHOD),
    "empty API ID": (f"{API.rpartition(':')[0]}:/prod/GET/api", NO_METHOD),
    "no method": (f"{API}/prod", NO_METHOD),
    "no path": (f"{API}/prod/GET", NO_METHOD),
    "API only": (API, NO_METHOD),
    "scope, malformed ARN": (f"admin={API}/GET/api", NO_METHOD),
}


@pytest.mark.parametrize(("entry", "words"), UNUSABLE_ENTRIES.values(), ids=UNUSABLE_ENTRIES)
def test_malformed_entry_stops_the_function_with_its_number(
    deploy: Deploy, script: str, entry: str, words: str
) -> None:
    with pytest.raises(ValueError, match="^ALLOWED_RESOURCE_ARNS: entry 2 ") as caught:
        deploy(script, **REQUIRED, ALLOWED_RESOURCE_ARNS=f"{ARN},{entry}")
    assert words in str(caught.value)
    assert API not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(("listed", "number"), [(f",{ARN}", 1), (f"{ARN},{ARN},", 3)])
def test_extra_comma_is_told_with_its_place(deploy: Deploy, listed: str, number: int) -> None:
    with pytest.raises(ValueError, match=f"entry {number} is empty"):
        deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=listed)


# Other settings, in all authorizers that read them.

PEM = certificate("secret")
SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUWZ5CaZ4D4Mo7yNR5ezpOxYHbcFQw2EDbGqfYlqQ1x user@host"
JWK = '{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}'
UNUSABLE_SECRETS = {
    "31 bytes": (SECRET[:31], "fewer than 32 bytes"),
    "spaces": (" " * 32, "only spaces"),
    "one word, four times": ("changeme" * 4, "fewer than 10 different characters"),
    "9 different characters": ("012345678" * 4, "fewer than 10 different characters"),
    "space at its end": (f"{SECRET} ", "white space or a quote"),
    "line break at its end": (f"{SECRET}\n", "white space or a quote"),
    "tab at its beginning": (f"\t{SECRET}", "white space or a quote"),
    "quotes": (f'"{SECRET}"', "white space or a quote"),
    "single quotes": (f"'{SECRET}'", "white space or a quote"),
    "PEM": (PEM.strip(), "is a PEM, SSH or JWK key"),
    "SSH key": (SSH, "is a PEM, SSH or JWK key"),
    "JWK": (JWK, "is a PEM, SSH or JWK key"),
}


@pytest.mark.parametrize(("secret", "words"), UNUSABLE_SECRETS.values(), ids=UNUSABLE_SECRETS)
@pytest.mark.parametrize("variable", ["JWT_SECRET", "JWT_SECRET_PREVIOUS"])
@pytest.mark.parametrize("symmetric", SYMMETRIC)
def test_unusable_secret_stops_the_function(
    deploy: Deploy, symmetric: str, variable: str, secret: str, words: str
) -> None:
    with pytest.raises(ValueError, match=f"^{variable} .*{words}") as caught:
        deploy(symmetric, **REQUIRED | {variable: secret})
    assert secret not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("symmetric", SYMMETRIC)
def test_missing_secret_stops_the_function(deploy: Deploy, symmetric: str) -> None:
    with pytest.raises(ValueError, match=r"^JWT_SECRET is missing .* openssl rand -hex 32$"):
        deploy(symmetric)


@pytest.mark.parametrize(
    "secret", ["0123456789" * 3 + "01", "ä" * 8 + "0123456789abcdef", "MIxed+with/base64=" * 2]
)
def test_usable_secret_verifies_tokens(deploy: Deploy, secret: str) -> None:
    assert accepts(deploy("jwt_auth_token", JWT_SECRET=secret), make_jwt(secret))


VARIABLES = [(name, variable) for name in AUTHORIZERS for variable in sorted(environment(name))]
OPTIONAL = [each for each in VARIABLES if each[1] not in REQUIRED]


@pytest.mark.parametrize(("name", "variable"), OPTIONAL)
def test_empty_variable_means_not_set(deploy: Deploy, name: str, variable: str) -> None:
    with_empty = deploy(name, **REQUIRED, **{variable: ""}).module
    without = deploy(name, **REQUIRED).module
    for constant in environment(name) - {"AWS_LAMBDA_LOG_LEVEL", "GOOGLE_CLIENT_ID"}:
        assert vars(with_empty)[constant] == vars(without)[constant]


@pytest.mark.parametrize(
    ("name", "variable"), [each for each in VARIABLES if each[1] != "AWS_LAMBDA_LOG_LEVEL"]
)
def test_variable_of_spaces_stops_the_function(deploy: Deploy, name: str, variable: str) -> None:
    with pytest.raises(ValueError, match=f"^{variable} contains only spaces. Set a value"):
        deploy(name, **REQUIRED | {variable: "  "})


@pytest.mark.parametrize("table", ["ab", "my users", "users!", "x" * 256, "arn:aws:dynamodb"])
@pytest.mark.parametrize("name", AUTHORIZERS)
def test_malformed_table_name_stops_the_function(deploy: Deploy, name: str, table: str) -> None:
    with pytest.raises(ValueError, match="^USER_CREDENTIALS_TABLE_NAME is not a valid"):
        deploy(name, **REQUIRED, **AWS, USER_CREDENTIALS_TABLE_NAME=table)


@pytest.mark.parametrize(
    "table", ["tab", "x" * 255, "a.b-c_D9", "arn:aws:dynamodb:eu-west-1:123456789012:table/users"]
)
def test_table_may_be_a_name_or_an_arn(deploy: Deploy, table: str) -> None:
    deploy("jwt_auth_token", **REQUIRED, **AWS, USER_CREDENTIALS_TABLE_NAME=table)


# The log.


@pytest.mark.parametrize(
    ("token", "line"),
    [
        (make_jwt(user_id="new\nline"), "admitted: 'new\\nline'"),
        ("", "refused: no token"),
        ("junk", "refused: not a JWT"),
        ("e30.e30.e30", "refused: InvalidAlgorithmError"),
        (make_jwt("another-secret-of-32-bytes-or-more!"), "refused: InvalidSignatureError"),
        (make_jwt(exp=1), "refused: ExpiredSignatureError"),
        (make_jwt(exp=...), "refused: no exp claim"),
        (make_jwt(user_id=...), "refused: no user_id claim"),
        (make_jwt(user_id=7), "refused: invalid user_id claim"),
        (make_jwt(scope=7), "refused: invalid scope claim"),
    ],
)
def test_each_decision_is_one_log_line(
    authorize: Function, caplog: Log, token: str, line: str
) -> None:
    outcome(authorize, token_event(token))
    assert caplog.record_tuples == [("jwt_auth_token", logging.INFO, line)]


def test_denied_method_is_logged_with_user_scope_and_arn(deploy: Deploy, caplog: Log) -> None:
    authorize = deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=f"admin={ARN}")
    authorize(token_event(make_jwt(user_id="anna", scope="read"), ARN))
    assert caplog.messages == [
        f"denied by ALLOWED_RESOURCE_ARNS: 'anna' with scope 'read' asked for '{ARN}'"
    ]


@pytest.mark.parametrize("name", AUTHORIZERS)
def test_logger_is_the_handlers_own_at_level_info(deploy: Deploy, name: str) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    deploy(name, **REQUIRED)
    assert logging.getLogger(name).level == logging.INFO
    assert (root.level, root.handlers) == before


@pytest.mark.parametrize("name", AUTHORIZERS)
def test_log_level_of_the_function_is_respected(aim: Any, caplog: Log, name: str) -> None:
    """Lambda sets the variable, and the root logger to the level (here: WARNING)."""
    target: Target = aim(name, AWS_LAMBDA_LOG_LEVEL="WARN")
    target.call(target.token())
    assert logging.getLogger(name).level == logging.NOTSET
    assert caplog.messages == []
