"""The two templates: what each resource of a stack may do, and what each parameter changes.

The tests read the stack as CloudFormation would deploy it (support/templates.py).
"""

import ast
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from support.deploy import Deploy
from support.files import LAYERS, ROOT
from support.need import need
from support.templates import (
    HTTP,
    REST,
    TEMPLATES,
    deployed,
    of_type,
    parameters,
    translated,
    written,
)

SECRET = "$b&c;d'e(f)*h?~j#k%l$(x)`n\\p|q<r>s!{u}"
AWS = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nobody",
}
GOOGLE = {"GoogleClientId": "1-a.apps.googleusercontent.com"}
MCP = {"McpServer": "true"}
EVERYTHING = {REST: GOOGLE, HTTP: MCP}  # the parameters that add routes

each_template = pytest.mark.parametrize("template", TEMPLATES)


# Parameters


def accepts(parameter: dict[str, Any], value: str) -> bool:
    """Return whether CloudFormation accepts a value of a parameter."""
    if "AllowedValues" in parameter:
        return value in map(str, parameter["AllowedValues"])
    if parameter["Type"] == "Number":
        return bool(parameter["MinValue"] <= float(value) <= parameter["MaxValue"])
    return re.fullmatch(parameter.get("AllowedPattern", ".*"), value) is not None


@each_template
@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("JwtTtlSeconds", ["1", "3600", "2592000"], ["0", "-1", "2592001"]),
        ("ReauthorizeEvery", ["0", "300", "3600"], ["-1", "3601"]),
        ("AuthRateLimit", ["1", "10", "99999"], ["0", "-1"]),
        ("AuthBurstLimit", ["1", "20", "5000"], ["0", "-1"]),
        ("CallRateLimit", ["1", "100", "99999"], ["0", "-1"]),
        ("CallBurstLimit", ["1", "200", "5000"], ["0", "-1"]),
        ("LoginConcurrency", ["0", "5"], ["-1"]),
        ("JwtSecret", ["", "0123456789" * 4, SECRET], ["0123456789", f'"{SECRET}"', f"{SECRET} "]),
        ("JwtSecretPrevious", ["", "0123456789" * 4], ["0123456789", f" {SECRET}"]),
        ("CorsAllowOrigin", ["*", "https://a.example"], ["a.example", "https://a.example/b"]),
        ("PythonRuntime", ["python3.11", "python3.15"], ["python3.9", "python3.10", "nodejs22.x"]),
        ("Architecture", ["arm64", "x86_64"], ["amd64"]),
        ("CheckUsers", ["false", "true"], ["yes"]),
    ],
)
def test_parameter_accepts_good_values_only(
    template: str, name: str, good: list[str], bad: list[str]
) -> None:
    parameter = parameters(template)[name]
    assert [value for value in good + bad if accepts(parameter, value)] == good


@each_template
def test_logs_can_be_kept_for_every_time_that_cloudwatch_allows(template: str) -> None:
    service = botocore.session.get_session().get_service_model("logs")
    retention = service.operation_model("PutRetentionPolicy").input_shape.members["retentionInDays"]
    possible = re.search(r"Possible values are: ([\d, and]+)", retention.documentation)
    assert possible
    days = [int(number) for number in re.findall(r"\d+", possible[1])]
    assert parameters(template)["LogRetentionDays"]["AllowedValues"] == days


@each_template
def test_no_parameter_replaces_an_api(template: str) -> None:
    before = apis(template)
    assert before
    for name, value in other_values(template).items():
        assert apis(template, **{name: value}) == before, name


def apis(template: str, **values: str) -> dict[str, str]:
    """Return what an API is created with, by logical ID. CloudFormation can update the rest."""
    rest = of_type("AWS::ApiGateway::RestApi", template, **values)
    others = of_type("AWS::ApiGatewayV2::Api", template, **values)
    return dict.fromkeys(rest, "REST") | {name: api["ProtocolType"] for name, api in others.items()}


@each_template
def test_every_parameter_is_described_and_used(template: str) -> None:
    text = (ROOT / template).read_text(encoding="utf-8")
    for name, parameter in parameters(template).items():
        assert parameter["Description"].endswith("."), name
        assert f"!Ref {name}" in text or f"${{{name}}}" in text, name


@each_template
def test_secrets_are_hidden_in_the_console(template: str) -> None:
    hidden = [name for name, each in parameters(template).items() if each.get("NoEcho")]
    assert hidden == ["JwtSecret", "JwtSecretPrevious"]


@each_template
def test_console_shows_parameters_in_the_order_of_the_template(template: str) -> None:
    interface = written(template)["Metadata"]["AWS::CloudFormation::Interface"]
    shown = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert shown == list(parameters(template))


@each_template
def test_no_printed_command_has_a_password(template: str) -> None:
    outputs = written(template)["Outputs"]
    assert "<password>" not in str(outputs)
    command = re.sub(r"\$\{[\w.:]+\}", "api", outputs["Step2LogIn"]["Value"]["Fn::Sub"])
    shell = ["bash", "-c", "curl() { cat; }\n" + command]
    body = subprocess.check_output(shell, input="correct horse\n", text=True)
    assert json.loads(body) == {"user_id": "testuser", "password": "correct horse"}


def test_parameters_of_both_templates_have_the_same_rules() -> None:
    differ = {"Default", "Description", "AllowedValues"}
    for name in parameters(REST).keys() & parameters(HTTP).keys():
        rest, http = parameters(REST)[name], parameters(HTTP)[name]
        assert {key: rest[key] for key in rest.keys() - differ} == {
            key: http[key] for key in http.keys() - differ
        }


def test_both_stacks_fit_into_one_account() -> None:
    rest, http = parameters(REST), parameters(HTTP)
    assert rest["UserTableName"]["Default"] != http["UserTableName"]["Default"]


@each_template
@pytest.mark.parametrize("given", ["defaults", "other values"])
def test_template_lints_clean(template: str, given: str, tmp_path: Path) -> None:
    # cfn-lint tries each allowed value of each parameter, and with them each condition.
    program = Path(sys.executable).parent / "cfn-lint"
    need(program, "make lint")
    values = {}
    if given == "other values":
        values = other_values(template)
    content = translated(template, **values)
    for resource in content["Resources"].values():
        resource.pop("Metadata", None)  # it tells cfn-lint what to ignore before the translation
    (tmp_path / template).write_text(json.dumps(content))
    # SAM replaces parameters by their values (W2001) and nests conditions (W1028).
    ignored = ["--ignore-checks", "W2001", "W1028"]
    files = [ROOT / template, tmp_path / template]
    done = subprocess.run([program, *ignored, "--", *files], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def other_values(template: str) -> dict[str, str]:
    """Return a value for each parameter that isn't its default."""
    values = {"JwtSecret": SECRET, **EVERYTHING[template]}
    for name, parameter in parameters(template).items():
        allowed = [str(value) for value in parameter.get("AllowedValues", [])]
        if allowed:
            values[name] = next(each for each in allowed if each != str(parameter["Default"]))
        elif parameter["Type"] == "Number":
            values[name] = str(parameter["MaxValue"])
    return values


# Tokens


@each_template
def test_tokens_have_the_stack_as_issuer_and_audience_unless_given(template: str) -> None:
    for script, variables in environments(template).items():
        if "JWT_ISSUER" in variables:
            claims = (variables["JWT_ISSUER"], variables["JWT_AUDIENCE"])
            assert claims == ("kit", "kit"), script
    given = environments(template, JwtIssuer="me", JwtAudience="you")
    for script in ("jwt_create_token", "jwt_auth_token"):
        assert given[script]["JWT_ISSUER"] == "me"
        assert given[script]["JWT_AUDIENCE"] == "you"


@each_template
def test_login_and_authorizers_have_the_same_secret(template: str) -> None:
    generated = "{{resolve:secretsmanager:GeneratedSecret}}"
    assert signing_secrets(template) == {generated}
    assert signing_secrets(template, JwtSecret=SECRET) == {SECRET}


@each_template
def test_a_given_secret_replaces_the_generated_one(template: str) -> None:
    assert "GeneratedSecret" in deployed(template)
    assert "GeneratedSecret" not in deployed(template, JwtSecret=SECRET)


@each_template
def test_generated_secret_has_enough_different_characters(template: str) -> None:
    rules = deployed(template)["GeneratedSecret"]["Properties"]["GenerateSecretString"]
    assert rules == {"PasswordLength": 64, "ExcludePunctuation": True}
    # A refused secret uses at most nine of the 62 letters and digits. There are comb(62, 9) such
    # sets, and all 64 characters must be in one of them.
    assert math.comb(62, 9) * (9 / 62) ** 64 < 1e-40


@pytest.mark.parametrize(
    "script", ["jwt_create_token", "jwt_auth_token", "jwt_auth_token_websocket"]
)
@pytest.mark.parametrize("beginning", ["MIIEvQIBADAN", "LS0tLS1CRUdJTi", "AAAAB3NzaC1yc2E", "eyJr"])
def test_generated_secret_is_accepted_even_if_it_begins_like_a_key_in_base64(
    script: str, beginning: str, deploy: Deploy
) -> None:
    secret = (beginning + "b1C2d3E4f5G6h7I8j9K0" * 4)[:64]
    deploy(script, JWT_SECRET=secret, USER_CREDENTIALS_TABLE_NAME="users", **AWS)


def environments(template: str, **values: str) -> dict[str, dict[str, Any]]:
    """Return the environment variables of each script, with every route there is."""
    return {
        script: function.get("Environment", {"Variables": {}})["Variables"]
        for script, function in functions(template, **values).items()
    }


def signing_secrets(template: str, **values: str) -> set[str]:
    """Return the values of JWT_SECRET."""
    found = environments(template, **values).values()
    return {variables["JWT_SECRET"] for variables in found if "JWT_SECRET" in variables}


def functions(template: str, **values: str) -> dict[str, Any]:
    """Return the function that runs each script, with every route there is."""
    return {
        function["Code"]["S3Key"].removesuffix(".py"): function
        for function in of_type(
            "AWS::Lambda::Function", template, **EVERYTHING[template], **values
        ).values()
        if "S3Key" in function["Code"]
    }


# Functions


@each_template
def test_each_function_has_the_variables_of_its_docstring(template: str) -> None:
    for script, variables in environments(template).items():
        assert set(variables) == documented_variables(script), script


@each_template
def test_each_function_runs_the_handler_of_its_script(template: str) -> None:
    for script, function in functions(template).items():
        assert function["Handler"] == f"{script}.lambda_handler"


@each_template
def test_each_function_has_the_memory_and_timeout_of_its_docstring(template: str) -> None:
    for script, function in functions(template).items():
        expected = f"{function['MemorySize']} MB, timeout {function['Timeout']} s"
        assert re.search(rf"^Memory +{expected}\b", docstring(script), re.MULTILINE), script


@each_template
def test_each_function_has_the_layer_of_its_script(template: str) -> None:
    layers = of_type("AWS::Lambda::LayerVersion", template, **EVERYTHING[template])
    for script, function in functions(template).items():
        attached = [layers[name]["Content"]["S3Key"] for name in function.get("Layers", [])]
        assert attached == [f"layers/{layer}.zip" for layer in [LAYERS.get(script)] if layer], (
            script
        )


@each_template
@pytest.mark.parametrize(
    "values",
    [{}, {"Architecture": "x86_64", "PythonRuntime": "python3.11"}],
    ids=["default", "given"],
)
def test_functions_and_layers_are_for_one_platform(template: str, values: dict[str, str]) -> None:
    architecture = values.get("Architecture", "arm64")
    runtime = values.get("PythonRuntime", "python3.14")
    for function in of_type("AWS::Lambda::Function", template, **values).values():
        assert (function["Architectures"], function["Runtime"]) == ([architecture], runtime)
    for layer in of_type("AWS::Lambda::LayerVersion", template, **values).values():
        assert layer["CompatibleArchitectures"] == [architecture]
        assert layer["CompatibleRuntimes"] == [runtime]


@each_template
def test_each_log_is_kept_for_as_long_as_wanted(template: str) -> None:
    everything = EVERYTHING[template] | {"LogRetentionDays": "7"}
    logs = of_type("AWS::Logs::LogGroup", template, **everything)
    assert {log["RetentionInDays"] for log in logs.values()} == {"7"}
    for function in of_type("AWS::Lambda::Function", template, **everything).values():
        assert function["LoggingConfig"]["LogGroup"] in logs


@each_template
def test_number_of_logins_at_a_time_has_no_limit_unless_given(template: str) -> None:
    login = deployed(template)["JwtCreateToken"]["Properties"]
    assert "ReservedConcurrentExecutions" not in login
    limited = deployed(template, LoginConcurrency="5")["JwtCreateToken"]["Properties"]
    assert limited["ReservedConcurrentExecutions"] == "5"


def docstring(script: str) -> str:
    """Return the docstring of a script, which is its manual."""
    return ast.get_docstring(ast.parse((ROOT / f"{script}.py").read_text())) or ""


def documented_variables(script: str) -> set[str]:
    """Return the environment variables in a docstring that a template can set."""
    names = re.findall(r"^ +([A-Z_]+) +(?:required|optional)", docstring(script), re.MULTILINE)
    return set(names) - {"AWS_LAMBDA_LOG_LEVEL"}  # Lambda sets it


# The users table


@each_template
def test_the_table_outlives_its_stack_but_not_a_failed_first_deployment(template: str) -> None:
    table = deployed(template)["UserCredentials"]
    assert table["DeletionPolicy"] == "RetainExceptOnCreate"
    assert table["UpdateReplacePolicy"] == "Retain"


@each_template
def test_the_table_can_be_restored(template: str) -> None:
    table = deployed(template)["UserCredentials"]["Properties"]
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


@each_template
def test_only_login_may_read_the_table_unless_users_are_checked(template: str) -> None:
    assert readable_attributes(template, **EVERYTHING[template]) == {
        "JwtCreateTokenRole": ["user_id", "passwordHash", "tokenVersion", "scope"]
    }


def test_authorizers_may_read_what_they_check_and_never_the_password_hash() -> None:
    assert readable_attributes(REST, CheckUsers="true", **GOOGLE) == {
        "JwtCreateTokenRole": ["user_id", "passwordHash", "tokenVersion", "scope"],
        "JwtAuthTokenRole": ["user_id", "tokenVersion"],
        "JwtAuthTokenWebsocketRole": ["user_id", "tokenVersion"],
        "JwtAuthTokenGoogleRole": ["user_id", "scope"],
    }
    assert readable_attributes(HTTP, CheckUsers="true", **MCP) == {
        "JwtCreateTokenRole": ["user_id", "passwordHash", "tokenVersion", "scope"],
        "JwtAuthTokenRole": ["user_id", "tokenVersion"],
    }


@each_template
def test_authorizers_know_the_table_only_if_users_are_checked(template: str) -> None:
    unchecked, checked = environments(template), environments(template, CheckUsers="true")
    for script in unchecked.keys() - {"jwt_create_token"}:
        assert unchecked[script].get("USER_CREDENTIALS_TABLE_NAME", "") == "", script
        if "USER_CREDENTIALS_TABLE_NAME" in documented_variables(script):
            assert checked[script]["USER_CREDENTIALS_TABLE_NAME"] == "UserCredentials", script


@each_template
def test_functions_may_do_nothing_but_write_logs_and_read_the_table(template: str) -> None:
    roles = of_type("AWS::IAM::Role", template, CheckUsers="true", **EVERYTHING[template])
    for name, role in roles.items():
        managed = [arn.rpartition("/")[2] for arn in role["ManagedPolicyArns"]]
        assert managed == ["AWSLambdaBasicExecutionRole"], name


def readable_attributes(template: str, **values: str) -> dict[str, list[str]]:
    """Return which attributes each role may read, and stop if it may do anything else."""
    found = {}
    for name, role in of_type("AWS::IAM::Role", template, **values).items():
        for policy in role.get("Policies", []):
            [statement] = policy["PolicyDocument"]["Statement"]
            conditions = statement.pop("Condition")
            assert statement == {
                "Effect": "Allow",
                "Action": "dynamodb:GetItem",
                "Resource": "UserCredentials.Arn",
            }
            # StringEqualsIfExists would allow a request that names no attributes.
            assert conditions.pop("StringEquals") == {"dynamodb:Select": "SPECIFIC_ATTRIBUTES"}
            attributes = conditions.pop("ForAllValues:StringEquals")["dynamodb:Attributes"]
            assert not conditions
            found[name] = attributes
    return found


# Routes


def test_every_method_of_the_rest_api_but_login_needs_a_token() -> None:
    assert guards(GOOGLE) == {
        "POST /auth": ["NONE"],
        "GET /api": ["ProtectLambda"],
        "GET /api/{proxy+}": ["ProtectLambda"],
        "GET /google": ["ProtectGoogle"],
    }


def test_google_route_exists_only_with_a_client_id() -> None:
    assert "GET /google" not in guards({})


@pytest.mark.parametrize(
    ("template", "values", "guarded", "unguarded"),
    [
        pytest.param(REST, {}, ["$connect"], ["$default"], id="WebSocket"),
        pytest.param(HTTP, {}, ["GET /api", "GET /api/{proxy+}"], ["POST /auth"], id="HTTP"),
        pytest.param(
            HTTP,
            MCP,
            ["DELETE /mcp", "GET /api", "GET /api/{proxy+}", "GET /mcp", "POST /mcp"],
            ["POST /auth"],
            id="HTTP with MCP",
        ),
    ],
)
def test_every_route_but_login_and_messages_needs_a_token(
    template: str, values: dict[str, str], guarded: list[str], unguarded: list[str]
) -> None:
    routes = of_type("AWS::ApiGatewayV2::Route", template, **values).values()
    with_authorizer = [each["RouteKey"] for each in routes if "AuthorizerId" in each]
    without = [each["RouteKey"] for each in routes if "AuthorizerId" not in each]
    assert (sorted(with_authorizer), without) == (guarded, unguarded)
    for route in routes:
        assert route.get("AuthorizationType", "NONE") == (
            "CUSTOM" if "AuthorizerId" in route else "NONE"
        )


def test_connecting_runs_the_protected_endpoint_which_repeats_the_subprotocol() -> None:
    integration = deployed(REST)["ConnectIntegration"]["Properties"]
    assert "functions/RestrictedAccess.Arn/invocations" in integration["IntegrationUri"]


@pytest.mark.parametrize("route", ["McpRoute", "McpGetRoute", "McpDeleteRoute"])
def test_every_mcp_route_runs_the_mcp_server(route: str) -> None:
    resources = deployed(HTTP, **MCP)
    assert resources[route]["Properties"]["Target"] == "integrations/McpIntegration"
    integration = resources["McpIntegration"]["Properties"]
    assert integration["IntegrationUri"] == "RestrictedAccessMcp.Arn"


def test_authorizers_of_the_rest_api_take_the_token_from_the_header() -> None:
    for scheme in authorizers_of_rest_api().values():
        assert (scheme["in"], scheme["name"]) == ("header", "Authorization")


def test_authorizer_of_the_http_api_takes_the_token_from_the_header_and_returns_a_policy() -> None:
    authorizer = deployed(HTTP)["HttpAuthorizer"]["Properties"]
    assert authorizer["IdentitySource"] == ["$request.header.Authorization"]
    assert authorizer["EnableSimpleResponses"] is False


def test_authorizer_of_the_websocket_api_requires_no_single_identity_source() -> None:
    assert deployed(REST)["WebSocketAuthorizer"]["Properties"]["IdentitySource"] == []


def test_policies_are_cached_for_as_long_as_wanted() -> None:
    for scheme in authorizers_of_rest_api(ReauthorizeEvery="7").values():
        assert scheme["x-amazon-apigateway-authorizer"]["authorizerResultTtlInSeconds"] == "7"
    http = deployed(HTTP, ReauthorizeEvery="7")["HttpAuthorizer"]["Properties"]
    assert http["AuthorizerResultTtlInSeconds"] == "7"


@each_template
def test_api_gateway_may_call_authorizers_as_authorizers_only(template: str) -> None:
    permissions = of_type("AWS::Lambda::Permission", template, **EVERYTHING[template])
    for name, permission in permissions.items():
        is_authorizer = permission["FunctionName"].startswith("JwtAuthToken")
        assert permission["SourceArn"].endswith("/authorizers/*") is is_authorizer, name
        assert permission["Principal"] == "apigateway.amazonaws.com", name


def rest_api(values: dict[str, str]) -> Any:
    """Return the OpenAPI description of the REST API."""
    return deployed(REST, **values)["Api"]["Properties"]["Body"]


def guards(values: dict[str, str]) -> dict[str, list[str]]:
    """Return the authorizers of each method of the REST API, without the preflights."""
    found = {}
    for path, methods in rest_api(values)["paths"].items():
        for method in methods.keys() - {"options"}:
            schemes = [*methods[method].get("security", [{}])[0]]
            found[f"{method.upper()} {path}"] = schemes
    return found


def authorizers_of_rest_api(**values: str) -> dict[str, Any]:
    """Return the authorizers of the REST API, by name."""
    found: dict[str, Any] = rest_api(values)["securityDefinitions"]
    return found


# CORS, TLS, throttling


def test_preflights_of_the_rest_api_need_no_token() -> None:
    for path, methods in rest_api(GOOGLE)["paths"].items():
        assert "security" not in methods["options"], path


def test_pages_of_the_given_origin_can_read_every_response_of_api_gateway() -> None:
    body = rest_api(GOOGLE | {"CorsAllowOrigin": "https://a.example"})
    responses = body["x-amazon-apigateway-gateway-responses"]
    assert responses.keys() == {"UNAUTHORIZED", "DEFAULT_4XX", "DEFAULT_5XX"}
    for response in responses.values():
        headers = response["responseParameters"]
        origin = headers["gatewayresponse.header.Access-Control-Allow-Origin"]
        assert origin == "'https://a.example'"


def test_pages_of_the_given_origin_can_call_the_http_api() -> None:
    api = deployed(HTTP, CorsAllowOrigin="https://a.example")["HttpApi"]["Properties"]
    assert api["CorsConfiguration"]["AllowOrigins"] == ["https://a.example"]


def test_mcp_clients_in_browsers_may_send_the_headers_of_the_protocol() -> None:
    cors = deployed(HTTP)["HttpApi"]["Properties"]["CorsConfiguration"]
    assert {"mcp-protocol-version", "mcp-method", "mcp-name"} <= set(cors["AllowHeaders"])


@pytest.mark.parametrize("mode", ["STRICT", "BASIC"])
def test_the_rest_api_requires_tls_1_2_in_either_access_mode(mode: str) -> None:
    api = deployed(REST, EndpointAccessMode=mode)["Api"]["Properties"]
    assert api["SecurityPolicy"] == "SecurityPolicy_TLS13_1_2_2021_06"
    assert api["EndpointAccessMode"] == mode


def test_a_new_stack_has_the_strict_access_mode() -> None:
    assert parameters(REST)["EndpointAccessMode"]["Default"] == "STRICT"


def limits(rate: int, burst: int) -> dict[str, int]:
    return {"ThrottlingRateLimit": rate, "ThrottlingBurstLimit": burst}


def test_the_rest_api_throttles_login_separately_and_traces_no_tokens() -> None:
    # Exactly these settings: LoggingLevel and DataTraceEnabled would write tokens to a log.
    assert deployed(REST)["ApiprodStage"]["Properties"]["MethodSettings"] == [
        {"ResourcePath": "/*", "HttpMethod": "*", **limits(100, 200)},
        {"ResourcePath": "/~1auth", "HttpMethod": "POST", **limits(10, 20)},
    ]


def test_the_websocket_api_is_throttled() -> None:
    stage = deployed(REST)["WebSocketStage"]["Properties"]
    assert stage["DefaultRouteSettings"] == limits(100, 200)


def test_the_http_api_throttles_login_separately() -> None:
    stage = deployed(HTTP)["HttpStage"]["Properties"]
    assert stage["DefaultRouteSettings"] == limits(100, 200)
    assert stage["RouteSettings"] == {"POST /auth": limits(10, 20)}


def test_the_http_api_throttles_mcp_separately() -> None:
    stage = deployed(HTTP, **MCP)["HttpStage"]["Properties"]
    assert stage["RouteSettings"] == {"POST /auth": limits(10, 20), "POST /mcp": limits(20, 40)}


# The order in which CloudFormation creates things


def test_stages_wait_for_their_routes() -> None:
    routes = ["ConnectRoute", "DefaultRoute", "DefaultRouteResponse"]
    assert deployed(REST)["WebSocketStage"]["DependsOn"] == routes
    stage = deployed(HTTP, **MCP)["HttpStage"]
    assert stage["DependsOn"] == "LoginRoute"
    assert stage["Properties"]["Tags"] == {"mcp-route": "McpRoute"}


def test_the_logging_role_waits_for_a_rest_api_and_the_stages_for_the_role() -> None:
    resources = deployed(REST, AccessLogs="create-role")
    assert resources["ApiGatewayAccount"]["DependsOn"] == "Api"
    for log in ("ApiAccessLog", "WebSocketAccessLog"):
        tags = resources[log]["Properties"]["Tags"]
        assert tags == [{"Key": "written-under", "Value": "ApiGatewayAccount"}]


# Access logs

# The variables that AWS documents for each kind of API, as far as the templates use them.
DOCUMENTED = {
    "ApiprodStage": """
        requestTime requestId extendedRequestId identity.sourceIp httpMethod resourcePath status
        authorizer.principalId authorizer.requestId authorizer.error authorizer.integrationLatency
        integration.requestId integration.error responseLatency responseLength
        """,
    "WebSocketStage": """
        requestTime requestId extendedRequestId identity.sourceIp routeKey eventType status
        authorizer.principalId authorizer.requestId authorizer.error
        integration.requestId integration.error connectionId
        """,
    "HttpStage": """
        requestTime requestId identity.sourceIp routeKey status
        authorizer.user_id authorizer.error
        integration.requestId integration.error responseLatency
        """,
}


@pytest.mark.parametrize("stage", DOCUMENTED)
def test_access_logs_have_the_errors_and_no_headers_or_query_strings(stage: str) -> None:
    line = access_log(stage)["Format"]
    variables = [value.removeprefix("$context.") for value in json.loads(line).values()]
    assert variables == DOCUMENTED[stage].split()


def test_the_http_api_writes_access_logs_unless_told_otherwise() -> None:
    assert access_log("HttpStage")["DestinationArn"] == "HttpAccessLog.Arn"
    off = deployed(HTTP, AccessLogs="none")
    assert "HttpAccessLog" not in off
    assert "AccessLogSettings" not in off["HttpStage"]["Properties"]


def test_the_access_log_of_the_http_api_has_the_prefix_of_vended_logs() -> None:
    log = deployed(HTTP)["HttpAccessLog"]["Properties"]
    assert log["LogGroupName"] == "/aws/vendedlogs/apis/kit"


@pytest.mark.parametrize("mode", ["none", "use-account-role", "create-role"])
def test_the_account_gets_a_logging_role_only_if_asked_for(mode: str) -> None:
    resources = deployed(REST, AccessLogs=mode)
    for name in ("ApiGatewayAccount", "ApiGatewayLogRole"):
        assert (name in resources) is (mode == "create-role")


def test_the_rest_api_writes_no_access_logs_unless_told_to() -> None:
    assert parameters(REST)["AccessLogs"]["Default"] == "none"
    assert "AccessLogSetting" not in deployed(REST)["ApiprodStage"]["Properties"]


def access_log(stage: str) -> Any:
    """Return the access log settings of a stage that has access logs."""
    if stage == "HttpStage":
        return deployed(HTTP)[stage]["Properties"]["AccessLogSettings"]
    properties = deployed(REST, AccessLogs="use-account-role")[stage]["Properties"]
    return properties.get("AccessLogSetting") or properties["AccessLogSettings"]
