"""The two templates: AWS takes them, and they have the settings and permissions that the scripts need, and no others.

`make awscli` fetches the AWS CLI that `make deploy` is tested with: without it those tests skip, and fail if CI is set.
"""

import ast
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
import requests
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse
from support.files import LAYERS, ROOT, environment

from build_layer import OWN_ARCHITECTURE, THIS_PYTHON, build
from demo.emulator import NOBODY, addresses, aws, create_user, emulator

SECRET = "$b&c;d'e(f)*h?~j#k%l$(x)`n\\p|q<r>s!{u}"  # no shell, and not make, may touch it
GENERATED = {"Fn::Sub": "{{resolve:secretsmanager:${GeneratedSecret}}}"}
SIGNED_WITH = {"Fn::If": ["GenerateSecret", GENERATED, {"Ref": "JwtSecret"}]}
LOGS = "AWSLambdaBasicExecutionRole"
IAM = SimpleNamespace(
    load=lambda: {LOGS: f"arn:aws:iam::aws:policy/{LOGS}"}
)  # all that the translator asks of it


def translated(template: str, **parameters: str) -> Any:
    """Return what SAM makes of a packaged template, with the name of a file as its key in S3."""
    packaged = re.sub(
        r"(CodeUri|ContentUri): (\S+)", r"\1: s3://bucket/\2", (ROOT / template).read_text()
    )
    with pytest.MonkeyPatch.context() as settings:
        settings.setenv("AWS_DEFAULT_REGION", "us-east-1")
        return transform(yaml_parse(packaged), parameters, IAM)


TEMPLATES = ["template.yaml", "template_http.yaml"]
WRITTEN: dict[str, Any] = {name: yaml_parse((ROOT / name).read_text()) for name in TEMPLATES}
PARAMETERS: dict[str, dict[str, Any]] = {name: each["Parameters"] for name, each in WRITTEN.items()}
FULL, SHORT = (translated(name)["Resources"] for name in TEMPLATES)
each_template = pytest.mark.parametrize("template", TEMPLATES)
Deployment = tuple[str, Callable[..., subprocess.CompletedProcess[str]]]
each_translated = pytest.mark.parametrize("resources", [FULL, SHORT], ids=TEMPLATES)


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the properties of every resource of a type, by logical id."""
    return {
        name: resource["Properties"]
        for name, resource in resources.items()
        if resource["Type"] == kind
    }


def functions(resources: dict[str, Any]) -> dict[str, Any]:
    """Return the functions that run a script, by script."""
    every = of_type(resources, "AWS::Lambda::Function").values()
    return {
        each["Code"]["S3Key"].removesuffix(".py"): each for each in every if "S3Key" in each["Code"]
    }


def chosen(value: Any) -> Any:
    """Return what a value is when its condition holds."""
    return value["Fn::If"][1] if isinstance(value, dict) and "Fn::If" in value else value


@each_template
def test_lints_clean_as_sam_translates_it_for_every_allowed_value(
    template: str, tmp_path: Path
) -> None:
    # cfn-lint tries every value that a parameter allows, and so every condition; `make lint` looks at what is written.
    # SAM puts values in the place of parameters (W2001), and conditions into conditions (W1028).
    (tmp_path / template).write_text(json.dumps(translated(template)))
    command = [
        f"{Path(sys.executable).parent}/cfn-lint",
        f"{tmp_path}/{template}",
        "--ignore-checks",
        "W2001",
        "W1028",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@each_translated
def test_a_failed_first_deployment_leaves_no_table_and_a_deleted_stack_leaves_the_users(
    resources: Any,
) -> None:
    table = resources["UserCredentials"]
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == (
        "RetainExceptOnCreate",
        "Retain",
    )
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {
        "PointInTimeRecoveryEnabled": True
    }


def test_a_stack_touches_nothing_outside_itself_unless_asked() -> None:
    assert PARAMETERS["template.yaml"]["AccessLogs"]["Default"] == "none"
    assert (
        FULL["ApiGatewayAccount"]["Condition"]
        == FULL["ApiGatewayLogRole"]["Condition"]
        == "CreateLogRole"
    )


def test_what_needs_another_resource_on_aws_comes_after_it() -> None:
    assert FULL["WebSocketStage"]["DependsOn"] == [
        "ConnectRoute",
        "DefaultRoute",
        "DefaultRouteResponse",
    ]
    assert (SHORT["HttpStage"]["DependsOn"], FULL["ApiGatewayAccount"]["DependsOn"]) == (
        "LoginRoute",
        "WebSocketApi",
    )
    tags = [
        FULL[log]["Properties"]["Tags"][0]["Value"]["Fn::If"]
        for log in ("ApiAccessLog", "WebSocketAccessLog")
    ]
    assert all({"Ref": "ApiGatewayAccount"} in tag for tag in tags)


@each_template
def test_every_parameter_is_described_and_used_and_a_secret_one_is_hidden(template: str) -> None:
    for name, parameter in PARAMETERS[template].items():
        assert parameter["Description"], name
        assert parameter.get("NoEcho", False) is ("Secret" in name), name
        assert re.search(rf"(!Ref |\$\{{){name}\b", (ROOT / template).read_text()), name


def test_parameters_stand_in_the_order_of_their_groups_and_shared_ones_have_the_same_defaults() -> (
    None
):
    groups = WRITTEN["template.yaml"]["Metadata"]["AWS::CloudFormation::Interface"][
        "ParameterGroups"
    ]
    assert [name for group in groups for name in group["Parameters"]] == list(
        PARAMETERS["template.yaml"]
    )
    full, short = (
        {name: rules["Default"] for name, rules in each.items()} for each in PARAMETERS.values()
    )
    assert full.pop("UserTableName") != short.pop("UserTableName")
    assert short.items() <= full.items()


VALUES = {  # of parameters: good ones, and bad ones
    "JwtTtlSeconds": ("1 3600 999999 1999999 2592000", "0 1.5 -1 2592001 2600000 3000000 12345678"),
    "JwtSecret": (f"{'0123456789' * 4} {SECRET}", f"0123456789 {'changeme' * 8} {'123456789' * 8}"),
    "JwtSecretPrevious": (f"{'0123456789' * 4}", f"0123456789 {'changeme' * 8}"),
    "ReauthorizeEvery": ("0 1 300 2999 3600", "1.5 -1 3601 4000"),
    "CorsAllowOrigin": (
        "* https://a.example http://localhost:80",
        "a.example https://a.example/b https://a,b",
    ),
    **dict.fromkeys(
        ["AuthRateLimit", "AuthBurstLimit", "CallRateLimit", "CallBurstLimit"],
        ("1 20 9999", "0 0.5 -1"),
    ),
}


@each_template
@pytest.mark.parametrize("name", VALUES)
def test_parameter_takes_what_the_scripts_take(template: str, name: str) -> None:
    good, bad = VALUES[name]
    pattern = PARAMETERS[template][name]["AllowedPattern"]
    assert [
        value for value in f"{good} {bad}".split() if re.fullmatch(pattern, value)
    ] == good.split()


@each_translated
def test_function_has_the_layer_variables_memory_time_and_log_that_its_script_needs(
    resources: dict[str, Any],
) -> None:
    for script, function in functions(resources).items():
        manual = ast.get_docstring(ast.parse((ROOT / f"{script}.py").read_text())) or ""
        for megabytes, seconds in re.findall(
            r"^Memory +(\d+) MB, timeout (\d+) s", manual, re.MULTILINE
        ):
            assert (function["MemorySize"], function["Timeout"]) == (
                int(megabytes),
                int(seconds),
            ), script
        variables = function["Environment"]["Variables"]
        assert (function["Handler"], set(variables)) == (
            f"{script}.lambda_handler",
            environment(script),
        )
        assert variables.get("JWT_SECRET", SIGNED_WITH) == SIGNED_WITH, script
        layers = [resources[layer["Ref"]]["Properties"] for layer in function.get("Layers", [])]
        assert {layer["Content"]["S3Key"] for layer in layers} == {
            f"layers/{LAYERS[script]}.zip"
        } - {"layers/None.zip"}
        for layer in layers:
            assert [function["Runtime"]] == layer["CompatibleRuntimes"], script
            assert function["Architectures"] == layer["CompatibleArchitectures"], script
        group = of_type(resources, "AWS::Logs::LogGroup")[
            function["LoggingConfig"]["LogGroup"]["Ref"]
        ]
        assert group == {"RetentionInDays": {"Ref": "LogRetentionDays"}}, script
    assert set(functions(FULL)) == set(LAYERS)


@each_translated
def test_login_may_read_three_attributes_the_jwt_authorizers_two_if_asked_to_and_nobody_more(
    resources: Any,
) -> None:
    def get_item(*attributes: str) -> dict[str, Any]:
        condition: dict[str, Any] = {
            "ForAllValues:StringEquals": {"dynamodb:Attributes": list(attributes)}
        }
        condition["StringEqualsIfExists"] = {"dynamodb:Select": "SPECIFIC_ATTRIBUTES"}
        table = {"Fn::GetAtt": ["UserCredentials", "Arn"]}
        return {
            "Effect": "Allow",
            "Action": "dynamodb:GetItem",
            "Resource": table,
            "Condition": condition,
        }

    login, authorizer = (
        get_item("user_id", "passwordHash", "scope"),
        get_item("user_id", "tokensValidFrom"),
    )
    rights = {"JwtCreateTokenRole": [("", login)], "JwtAuthTokenRole": [("ReadUsers", authorizer)]}
    rights["JwtAuthTokenWebsocketRole"] = rights["JwtAuthTokenRole"]
    for name, role in of_type(resources, "AWS::IAM::Role").items():
        policies = role.get("Policies", [])
        given = [
            (each.get("Fn::If", [""])[0], *chosen(each)["PolicyDocument"]["Statement"])
            for each in policies
        ]
        assert given == rights.get(name, []), name
        log = LOGS if name != "ApiGatewayLogRole" else "AmazonAPIGatewayPushToCloudWatchLogs"
        assert [log in json.dumps(each) for each in role["ManagedPolicyArns"]] == [True], name


def operations() -> dict[str, Any]:
    """Return every method of the REST API, as "GET /api", without the conditions around it."""
    paths = FULL["Api"]["Properties"]["Body"]["paths"]
    methods = [(path, *each) for path, item in paths.items() for each in chosen(item).items()]
    return {f"{method.upper()} {path}": chosen(operation) for path, method, operation in methods}


def test_every_method_but_login_and_preflight_is_behind_an_authorizer() -> None:
    guards = {
        name: [*each.get("security", [{}])[0]]
        for name, each in operations().items()
        if "OPTIONS" not in name
    }
    calls = {"GET /api": ["ProtectLambda"], "GET /api/{proxy+}": ["ProtectLambda"]}
    assert guards == {"POST /auth": ["NONE"], **calls, "GET /google": ["ProtectGoogle"]}
    for resources, guarded, rest in (
        (FULL, {"$connect"}, {"$default"}),
        (SHORT, {*calls}, {"POST /auth"}),
    ):
        routes = {
            each["RouteKey"]: each
            for each in of_type(resources, "AWS::ApiGatewayV2::Route").values()
        }
        assert {
            key for key, each in routes.items() if each.get("AuthorizationType") == "CUSTOM"
        } == guarded
        assert routes.keys() == guarded | rest


def test_authorizers_take_the_token_from_the_header_and_are_remembered_for_as_long_as_wanted() -> (
    None
):
    body = translated("template.yaml", ReauthorizeEvery="7")["Resources"]["Api"]["Properties"][
        "Body"
    ]
    for scheme in body["securityDefinitions"].values():
        assert (scheme["in"], scheme["name"]) == ("header", "Authorization")
        assert scheme["x-amazon-apigateway-authorizer"]["authorizerResultTtlInSeconds"] == "7"
    assert (
        FULL["WebSocketAuthorizer"]["Properties"]["IdentitySource"] == []
    )  # of several it would demand every one
    http = SHORT["HttpAuthorizer"]["Properties"]
    assert (http["IdentitySource"], http["EnableSimpleResponses"]) == (
        ["$request.header.Authorization"],
        False,
    )
    assert http["AuthorizerResultTtlInSeconds"] == {"Ref": "ReauthorizeEvery"}


@each_translated
def test_api_gateway_may_call_authorizers_as_authorizers_only(resources: dict[str, Any]) -> None:
    for name, permission in of_type(resources, "AWS::Lambda::Permission").items():
        is_authorizer = "JwtAuthToken" in json.dumps(permission["FunctionName"])
        assert permission["Principal"] == "apigateway.amazonaws.com", name
        assert ("/authorizers/*" in json.dumps(permission["SourceArn"])) == is_authorizer, name


def test_preflights_are_open_and_what_api_gateway_answers_itself_has_cors_headers() -> None:
    preflights = {name: each for name, each in operations().items() if "OPTIONS" in name}
    assert ["security" in each for each in preflights.values()] == [False] * 4
    answers = FULL["Api"]["Properties"]["Body"]["x-amazon-apigateway-gateway-responses"]
    for answer in [
        *preflights.values(),
        answers["UNAUTHORIZED"],
        answers["DEFAULT_4XX"],
        answers["DEFAULT_5XX"],
    ]:
        assert (
            """header.Access-Control-Allow-Origin": {"Fn::Sub": "'${CorsAllowOrigin}'"}"""
            in json.dumps(answer)
        )


def test_every_route_is_throttled_and_login_by_limits_of_its_own_and_no_token_is_traced() -> None:
    (
        calls,
        logins,
    ) = (  # exactly these: LoggingLevel and DataTraceEnabled would write tokens to a log
        {
            "ThrottlingRateLimit": {"Ref": f"{of}RateLimit"},
            "ThrottlingBurstLimit": {"Ref": f"{of}BurstLimit"},
        }
        for of in ("Call", "Auth")
    )
    rest, http = FULL["ApiprodStage"]["Properties"], SHORT["HttpStage"]["Properties"]
    every, login = (
        {"ResourcePath": "/*", "HttpMethod": "*"},
        {"ResourcePath": "/~1auth", "HttpMethod": "POST"},
    )
    assert rest["MethodSettings"] == [every | calls, login | logins]
    assert (
        FULL["WebSocketStage"]["Properties"]["DefaultRouteSettings"]
        == http["DefaultRouteSettings"]
        == calls
    )
    assert http["RouteSettings"] == {"POST /auth": logins}


def test_the_rest_api_takes_tls_1_2_or_newer() -> None:
    assert FULL["Api"]["Properties"]["SecurityPolicy"] == "SecurityPolicy_TLS13_1_2_2021_06"


@pytest.mark.parametrize("stage", ["ApiprodStage", "WebSocketStage", "HttpStage"])
def test_access_logs_hold_ids_that_no_caller_chooses_and_no_token(stage: str) -> None:
    properties = (FULL | SHORT)[stage]["Properties"]
    line = chosen(properties.get("AccessLogSetting") or properties["AccessLogSettings"])["Format"]
    loggable = (
        r"(extendedR|authorizer\.r|integration\.r|r)equest(Id|Time)|identity\.sourceIp|httpMethod|resourcePath|routeKey|"
        r"eventType|connectionId|status|response(Latency|Length)|authorizer\.(principalId|user_id|integrationLatency)"
    )
    named = {name.removeprefix("$context.") for name in json.loads(line).values()}
    assert all(re.fullmatch(loggable, name) for name in named)
    assert {"requestId", "identity.sourceIp", "integration.requestId"} <= named
    assert {
        "extendedRequestId",
        "authorizer.requestId",
    } <= named or stage == "HttpStage"  # which has but one id


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """An emulator, and `make deploy` with the real AWS CLI in the checkout of somebody whose umask is 077."""
    if not (ROOT / ".venv-aws" / "ready").exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "The AWS CLI is not here: run `make awscli`"
        )
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "layers").mkdir()
    for file in ["Makefile", "build_layer.py", *TEMPLATES, *(f"{script}.py" for script in LAYERS)]:
        # The emulator has no route responses.
        text = re.sub(
            r", DefaultRouteResponse|\n  DefaultRouteResponse:(\n .*)+",
            "",
            (ROOT / file).read_text(),
        )
        (folder / file).write_text(text)
        (folder / file).chmod(0o600)

    def make_deploy(template: str, parameters: str) -> subprocess.CompletedProcess[str]:
        for name in set(re.findall(r"layers/(\w+).zip", (ROOT / template).read_text())):
            if not (layer := folder / "layers" / f"{name}.zip").exists():
                build(ROOT / f"requirements_{name}.txt", layer, OWN_ARCHITECTURE)
        command = [
            "make",
            "deploy",
            "BUCKET=uploads",
            f"TEMPLATE={template}",
            f"STACK={Path(template).stem[-4:]}",
        ]
        command += [f"ARCH={OWN_ARCHITECTURE}", f"PYTHON={THIS_PYTHON}", f"PARAMETERS={parameters}"]
        settings = {
            "PATH": f"{ROOT}/.venv-aws/bin:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": endpoint,
            **NOBODY,
        }
        return subprocess.run(
            command, cwd=folder, env=settings, umask=0o077, capture_output=True, text=True
        )

    with emulator() as endpoint:
        aws(endpoint, "s3").create_bucket(Bucket="uploads")
        yield endpoint, make_deploy


@pytest.mark.parametrize(
    "template", ["template_http.yaml", "template.yaml"]
)  # in this order: one layer, then both
def test_make_deploy_works_whatever_the_umask_and_the_secret(
    template: str, deployment: Deployment
) -> None:
    endpoint, make_deploy = deployment
    done = make_deploy(template, f"JwtSecret={SECRET} JwtIssuer=it's")
    assert done.returncode == 0, done.stderr
    create_user(
        endpoint, "testuser", "password123", table=PARAMETERS[template]["UserTableName"]["Default"]
    )
    api = addresses(endpoint, Path(template).stem[-4:]).api
    login = requests.post(
        f"{api}/auth", json={"user_id": "testuser", "password": "password123"}, timeout=30
    )
    token = login.json()["token"]
    assert jwt.decode(token, SECRET, algorithms=["HS256"])["iss"] == "it's"
    assert (
        requests.get(f"{api}/api", headers={"Authorization": token}, timeout=30).json()["caller"]
        == "testuser"
    )
    s3 = aws(endpoint, "s3")
    for each in s3.list_objects_v2(Bucket="uploads")["Contents"]:
        content = s3.get_object(Bucket="uploads", Key=each["Key"])["Body"].read()
        files = [
            file for file in zipfile.ZipFile(io.BytesIO(content)).infolist() if not file.is_dir()
        ]
        assert {file.external_attr >> 16 for file in files} <= {0o100644, 0o100755}


@pytest.mark.parametrize(
    "parameters",
    [
        "JwtSecret=two words",
        "JwtIssuer='me'",
        "JwtIssuer",
        "Issuer=me",
        "JwtIssuer=me PythonRuntime=python3.11",
    ],
)
def test_make_deploy_refuses_in_a_sentence_what_would_not_arrive(
    parameters: str, deployment: Deployment
) -> None:
    done = deployment[1]("template_http.yaml", parameters)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(r"make deploy.*\.\nmake: ", done.stderr)
