"""template.yaml: one that AWS takes, with exactly the settings and permissions that the scripts need."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse
from support.kit import HANDLERS, ROOT

TEXT = (ROOT / "template.yaml").read_text(encoding="utf-8")
LOG_POLICY = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
LOG_POLICY_ANYWHERE = LOG_POLICY.replace("arn:aws:", "arn:${AWS::Partition}:")
# What an access log may hold: who asked for what, when, and with which outcome.
LOGGABLE = {
    "requestTime", "requestId", "identity.sourceIp", "httpMethod", "resourcePath", "status", "responseLatency",
    "responseLength", "authorizer.principalId", "authorizer.integrationLatency", "routeKey", "eventType",
    "connectionId",
}  # fmt: skip


class PolicyLoader:
    """Answers the one question that the translator asks of IAM."""

    def load(self) -> dict[str, str]:
        return {"AWSLambdaBasicExecutionRole": LOG_POLICY}


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    """The resources that SAM makes of the packaged template, with the name of a file as its key in S3."""
    packaged = re.sub(r"(CodeUri|ContentUri): (\S+)", r"\1: s3://bucket/\2", TEXT)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        translated: dict[str, Any] = transform(yaml_parse(packaged), {}, PolicyLoader())["Resources"]
    return translated


@pytest.fixture(scope="module")
def functions(resources: dict[str, Any]) -> dict[str, Any]:
    return properties(resources, "AWS::Lambda::Function")


@pytest.fixture(scope="module")
def api(resources: dict[str, Any]) -> Any:
    return resources["Api"]["Properties"]["Body"]


def properties(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the properties of every resource of a type, by logical id."""
    return {name: resource["Properties"] for name, resource in resources.items() if resource["Type"] == kind}


def script_of(function: dict[str, Any]) -> str | None:
    """Return the file that a function runs, or None if its code stands in the template."""
    key: str | None = function["Code"].get("S3Key")
    return key


def variables_read(script: str) -> set[str]:
    """Return the names that a script looks up in the environment."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / script).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            names.add(ast.literal_eval(node.slice))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
            names.add(ast.literal_eval(node.args[0]))
    return names


def operations(api: Any) -> dict[str, Any]:
    """Return every method of the REST API, as "GET /api", without the conditions around it."""
    return {
        f"{method.upper()} {path}": chosen(operation)
        for path, item in api["paths"].items()
        for method, operation in chosen(item).items()
    }


def chosen(value: Any) -> Any:
    """Return what a value is when its condition holds."""
    return value["Fn::If"][1] if isinstance(value, dict) and "Fn::If" in value else value


def test_cfn_lint_finds_nothing() -> None:
    command = [Path(sys.executable).with_name("cfn-lint"), ROOT / "template.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_packaging_uploads_single_files_and_layers_and_never_the_folder() -> None:
    for name, resource in yaml_parse(TEXT)["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            assert resource["Properties"]["CodeUri"].endswith(".py"), name


@pytest.mark.parametrize("script", HANDLERS)
def test_every_handler_is_deployed(functions: dict[str, Any], script: str) -> None:
    assert f"{script}.py" in map(script_of, functions.values())


def test_every_function_runs_a_handler_that_exists(functions: dict[str, Any]) -> None:
    for name, function in functions.items():
        module, _, handler = function["Handler"].partition(".")
        script = script_of(function)
        assert script in (f"{module}.py", None), name
        source = (ROOT / script).read_text(encoding="utf-8") if script else function["Code"]["ZipFile"]
        defined = [node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
        assert handler in defined, name


def test_environment_is_exactly_what_the_script_reads(functions: dict[str, Any]) -> None:
    for name, function in functions.items():
        script = script_of(function)
        given = set(function.get("Environment", {}).get("Variables", {}))
        assert given == (variables_read(script) if script else set()), name


def test_required_variables_are_always_set(functions: dict[str, Any]) -> None:
    for name, function in functions.items():
        script = script_of(function)
        manual = ast.get_docstring(ast.parse((ROOT / script).read_text(encoding="utf-8"))) if script else None
        for variable in re.findall(r"^ +([A-Z_]+) +required", manual or "", re.MULTILINE):
            value = function["Environment"]["Variables"][variable]
            assert {"Ref": "AWS::NoValue"} not in value.get("Fn::If", []), (name, variable)


def test_secrets_come_from_secrets_manager_or_a_hidden_parameter(functions: dict[str, Any]) -> None:
    generated = {"Fn::Sub": "{{resolve:secretsmanager:${GeneratedSecret}}}"}
    for function in functions.values():
        value = function.get("Environment", {}).get("Variables", {}).get("JWT_SECRET")
        assert value in (None, {"Fn::If": ["GenerateSecret", generated, {"Ref": "JwtSecret"}]})
    parameters = yaml_parse(TEXT)["Parameters"]
    assert all(parameters[name]["NoEcho"] is True for name in ("JwtSecret", "JwtSecretPrevious"))


def test_generated_secret_is_long_enough_and_plain_text(resources: dict[str, Any]) -> None:
    rule = resources["GeneratedSecret"]["Properties"]["GenerateSecretString"]
    assert rule["PasswordLength"] >= 32
    assert rule["ExcludePunctuation"] is True


def test_login_may_read_one_item_of_the_table_and_the_others_may_only_log(resources: dict[str, Any]) -> None:
    for name, role in properties(resources, "AWS::IAM::Role").items():
        if name == "ApiGatewayLogRole":
            continue
        assert role["ManagedPolicyArns"] in ([LOG_POLICY], [{"Fn::Sub": LOG_POLICY_ANYWHERE}]), name
        statements = [rule for policy in role.get("Policies", []) for rule in policy["PolicyDocument"]["Statement"]]
        table = {"Fn::GetAtt": ["UserCredentials", "Arn"]}
        get_item = {"Effect": "Allow", "Action": "dynamodb:GetItem", "Resource": table}
        assert statements == ([get_item] if name == "JwtCreateTokenRole" else []), name


def test_api_gateway_may_call_authorizers_as_authorizers_only(resources: dict[str, Any]) -> None:
    permissions = properties(resources, "AWS::Lambda::Permission")
    for name, permission in permissions.items():
        assert permission["Principal"] == "apigateway.amazonaws.com", name
        is_authorizer = "JwtAuthToken" in json.dumps(permission["FunctionName"])
        assert ("/authorizers/*" in json.dumps(permission["SourceArn"])) == is_authorizer, name
    assert sum("JwtAuthToken" in json.dumps(permission["FunctionName"]) for permission in permissions.values()) == 3


def test_functions_have_the_runtime_and_architecture_of_the_layers(resources: dict[str, Any]) -> None:
    for name, function in properties(resources, "AWS::Lambda::Function").items():
        for layer in properties(resources, "AWS::Lambda::LayerVersion").values():
            assert [function["Runtime"]] == layer["CompatibleRuntimes"], name
            assert function["Architectures"] == layer["CompatibleArchitectures"], name


@pytest.mark.parametrize(
    ("script", "layer"),
    [
        ("jwt_create_token.py", "layers/basic_auth.zip"),
        ("jwt_auth_token.py", "layers/basic_auth.zip"),
        ("jwt_auth_token_websocket.py", "layers/basic_auth.zip"),
        ("jwt_auth_token_google.py", "layers/google_auth.zip"),
        ("restricted_access_lambda.py", None),
    ],
)
def test_function_has_its_layer(resources: dict[str, Any], script: str, layer: str | None) -> None:
    for function in properties(resources, "AWS::Lambda::Function").values():
        if script_of(function) == script:
            ids = [reference["Ref"] for reference in function.get("Layers", [])]
            files = [resources[name]["Properties"]["Content"]["S3Key"] for name in ids]
            assert files == ([layer] if layer else [])


def test_login_has_the_memory_and_time_that_bcrypt_needs(functions: dict[str, Any]) -> None:
    assert functions["JwtCreateToken"]["MemorySize"] >= 1024
    assert functions["JwtCreateToken"]["Timeout"] >= 10


def test_every_method_but_login_and_preflight_is_behind_an_authorizer(api: Any) -> None:
    guards = {
        name: [scheme for rule in operation.get("security", []) for scheme in rule]
        for name, operation in operations(api).items()
        if not name.startswith("OPTIONS ")
    }
    assert guards == {
        "POST /auth": ["NONE"],
        "GET /api": ["ProtectLambda"],
        "GET /api/{proxy+}": ["ProtectLambda"],
        "GET /google": ["ProtectGoogle"],
    }


def test_preflight_is_open_and_answers_with_cors_headers(api: Any) -> None:
    preflights = {name: value for name, value in operations(api).items() if name.startswith("OPTIONS ")}
    assert len(preflights) == 4
    for preflight in preflights.values():
        assert "security" not in preflight
        sent = preflight["x-amazon-apigateway-integration"]["responses"]["default"]["responseParameters"]
        assert sent["method.response.header.Access-Control-Allow-Origin"] == {"Fn::Sub": "'${CorsAllowOrigin}'"}


@pytest.mark.parametrize("kind", ["UNAUTHORIZED", "ACCESS_DENIED", "DEFAULT_4XX", "DEFAULT_5XX"])
def test_what_api_gateway_answers_itself_has_cors_headers(api: Any, kind: str) -> None:
    sent = api["x-amazon-apigateway-gateway-responses"][kind]["responseParameters"]
    assert sent["gatewayresponse.header.Access-Control-Allow-Origin"] == {"Fn::Sub": "'${CorsAllowOrigin}'"}


def test_rest_authorizers_take_the_token_from_the_authorization_header(api: Any) -> None:
    for scheme in api["securityDefinitions"].values():
        assert (scheme["in"], scheme["name"]) == ("header", "Authorization")
        assert scheme["x-amazon-apigateway-authorizer"]["type"] == "token"
        assert chosen(scheme["x-amazon-apigateway-authorizer"]["authorizerResultTtlInSeconds"]) == 300


def test_websocket_connect_asks_the_authorizer_and_needs_no_identity_source(resources: dict[str, Any]) -> None:
    assert resources["WebSocketAuthorizer"]["Properties"]["IdentitySource"] == []
    routes = properties(resources, "AWS::ApiGatewayV2::Route")
    guards = {route["RouteKey"]: route.get("AuthorizerId") for route in routes.values()}
    assert guards == {"$connect": {"Ref": "WebSocketAuthorizer"}, "$default": None}


def test_access_logs_hold_no_token_and_no_query_string(resources: dict[str, Any]) -> None:
    stages = [resources["ApiprodStage"]["Properties"]["AccessLogSetting"]]
    stages += [resources["WebSocketStage"]["Properties"]["AccessLogSettings"]]
    for setting in stages:
        line = chosen(setting)["Format"]
        assert json.loads(line)
        assert set(re.findall(r"\$context\.([\w.]+)", line)) <= LOGGABLE
        assert line.count("$") == line.count("$context.") > 5


def test_execution_logs_which_would_hold_tokens_are_off(resources: dict[str, Any]) -> None:
    for setting in resources["ApiprodStage"]["Properties"]["MethodSettings"]:
        assert not {"LoggingLevel", "DataTraceEnabled"} & set(setting)
    assert not {"DefaultRouteSettings", "RouteSettings"} & set(resources["WebSocketStage"]["Properties"])


def test_login_is_throttled(resources: dict[str, Any]) -> None:
    throttle = {"ThrottlingRateLimit": {"Ref": "AuthRateLimit"}, "ThrottlingBurstLimit": {"Ref": "AuthBurstLimit"}}
    settings = resources["ApiprodStage"]["Properties"]["MethodSettings"]
    assert {"ResourcePath": "/~1auth", "HttpMethod": "POST", **throttle} in settings


def test_every_log_group_is_kept_for_the_chosen_time_and_every_function_has_one(resources: dict[str, Any]) -> None:
    groups = properties(resources, "AWS::Logs::LogGroup")
    assert all(group == {"RetentionInDays": {"Ref": "LogRetentionDays"}} for group in groups.values())
    for name, function in properties(resources, "AWS::Lambda::Function").items():
        assert function["LoggingConfig"]["LogGroup"]["Ref"] in groups, name


def test_users_are_safe_in_their_table(resources: dict[str, Any]) -> None:
    table = resources["UserCredentials"]
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert table["Properties"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["Properties"]["KeySchema"] == [{"AttributeName": "user_id", "KeyType": "HASH"}]
    assert table["Properties"]["AttributeDefinitions"] == [{"AttributeName": "user_id", "AttributeType": "S"}]


def test_parameters_and_files_are_all_used() -> None:
    for name in yaml_parse(TEXT)["Parameters"]:
        assert re.search(rf"(!Ref |\$\{{){name}\b", TEXT), name
    for path in re.findall(r"CodeUri: (\S+)", TEXT):
        assert Path(ROOT, path).is_file()
