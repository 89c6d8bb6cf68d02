"""`make deploy`: what it refuses, and both templates deployed to an emulator by the real AWS CLI.

`make awscli` fetches the AWS CLI. Without it, the tests that need it skip.
"""

import io
import os
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jwt
import pytest
import requests
from support.files import ROOT
from support.need import need
from support.templates import HTTP, REST, TEMPLATES, parameters

from build_layer import OWN_ARCHITECTURE, THIS_PYTHON, build
from demo.emulator import CREDENTIALS, addresses, aws, create_user, emulator, physical_ids

SECRET = "$b&c;d'e(f)*h?~j#k%l$(x)`n\\p|q<r>s!{u}"  # neither make nor a shell may change it
STACKS = {REST: "jwt-kit", HTTP: "jwt-kit-http"}
APIS = {REST: ["Api", "WebSocketApi"], HTTP: ["HttpApi"]}
OTHER = {REST: HTTP, HTTP: REST}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the kit, as somebody whose umask is 077 checks it out."""
    folder = tmp_path_factory.mktemp("checkout")
    for file in [ROOT / "Makefile", *ROOT.glob("*.py"), *ROOT.glob("tools/*.py")]:
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, copy)
        copy.chmod(0o600)
    for template in TEMPLATES:
        (folder / template).write_text(without_route_response((ROOT / template).read_text()))
        (folder / template).chmod(0o600)
    return folder


def without_route_response(template: str) -> str:
    """Return a template without the one type of resource that the emulator doesn't have."""
    template = template.replace("\n      - DefaultRouteResponse", "")
    return re.sub(r"\n  DefaultRouteResponse:\n(    .*\n)+", "", template)


def make_deploy(
    checkout: Path, *variables: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `make deploy` with variables on its command line."""
    return subprocess.run(
        ["make", "--no-print-directory", "deploy", *variables],
        cwd=checkout,
        env={"PATH": os.environ["PATH"]} | environment,
        umask=0o077,
        capture_output=True,
        text=True,
    )


# Mistakes that are found before anything is deployed


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        pytest.param(
            ["PARAMETERS=JwtTTLSeconds=60"],
            "template.yaml has no parameter JwtTTLSeconds. It has JwtTtlSeconds, ",
            id="misspelled parameter",
        ),
        pytest.param(
            ["TEMPLATE=template_http.yaml", "PARAMETERS=GoogleClientId=x"],
            "template_http.yaml has no parameter GoogleClientId.",
            id="parameter of the other template",
        ),
        pytest.param(
            ["PARAMETERS=JwtIssuer=me JwtAudience"],
            "word 2 of PARAMETERS isn't Name=value.",
            id="no value",
        ),
        pytest.param(
            ["PARAMETERS=JwtIssuer='me'"],
            "write the value of JwtIssuer without quotes around it.",
            id="quotes",
        ),
        pytest.param(
            ["PARAMETERS=Architecture=x86_64"],
            "write ARCH=arm64 in place of Architecture: the layers must match.",
            id="architecture",
        ),
        pytest.param(
            ["PARAMETERS=PythonRuntime=python3.11"],
            "write PYTHON=3.14 in place of PythonRuntime: the layers must match.",
            id="runtime",
        ),
        pytest.param(["TEMPLATE=x.yaml"], "there is no file x.yaml.", id="unknown template"),
    ],
)
def test_mistake_is_refused_in_a_sentence(
    checkout: Path, variables: list[str], sentence: str
) -> None:
    done = make_deploy(checkout, *variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"make deploy: {sentence}")


def test_no_part_of_a_secret_is_printed(checkout: Path) -> None:
    done = make_deploy(checkout, "PARAMETERS=JwtSecret=first second")
    assert done.returncode == 2
    assert "A value can't contain spaces." in done.stderr
    assert "first" not in done.stderr
    assert "second" not in done.stderr


# With the AWS CLI


class Cloud(NamedTuple):
    """An emulator, and a checkout from which it is deployed to."""

    endpoint: str
    checkout: Path

    def deploy(self, *variables: str) -> subprocess.CompletedProcess[str]:
        return make_deploy(
            self.checkout,
            "BUCKET=uploads",
            f"ARCH={OWN_ARCHITECTURE}",
            f"PYTHON={THIS_PYTHON}",
            *variables,
            PATH=f"{ROOT}/.venv-aws/bin:{os.environ['PATH']}",
            AWS_ENDPOINT_URL=self.endpoint,
            **CREDENTIALS,
        )

    def apis(self, template: str) -> dict[str, str]:
        """Return the ids of the APIs of a template's stack."""
        ids = physical_ids(self.endpoint, STACKS[template])
        return {name: ids[name] for name in APIS[template]}


@pytest.fixture(scope="module")
def cloud(checkout: Path) -> Iterator[Cloud]:
    """An emulator to which both templates are deployed without the name of a stack."""
    need(ROOT / ".venv-aws" / "ready", "make awscli")
    (checkout / "layers").mkdir()
    for name in ("basic_auth", "google_auth"):
        layer = checkout / "layers" / f"{name}.zip"
        build(ROOT / f"requirements_{name}.txt", layer, OWN_ARCHITECTURE)
    with emulator() as endpoint:
        aws(endpoint, "s3").create_bucket(Bucket="uploads")
        cloud = Cloud(endpoint, checkout)
        for template in TEMPLATES:
            done = cloud.deploy(f"TEMPLATE={template}", f"PARAMETERS=JwtSecret={SECRET}")
            assert done.returncode == 0, done.stderr
        yield cloud


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_has_a_stack_of_its_own(cloud: Cloud, template: str) -> None:
    assert cloud.apis(template)


@pytest.mark.parametrize("template", TEMPLATES)
def test_login_works_with_a_secret_full_of_special_characters(cloud: Cloud, template: str) -> None:
    api = addresses(cloud.endpoint, STACKS[template]).api
    table = parameters(template)["UserTableName"]["Default"]
    create_user(cloud.endpoint, "anna", "correct horse battery", table=table)
    login = {"user_id": "anna", "password": "correct horse battery"}
    token = requests.post(f"{api}/auth", json=login, timeout=60).json()["token"]
    stack = STACKS[template]
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience=stack, issuer=stack)
    assert claims["user_id"] == "anna"
    response = requests.get(f"{api}/api", headers={"Authorization": token}, timeout=60)
    assert response.json()["caller"] == "anna"


def test_uploaded_files_are_readable_on_lambda(cloud: Cloud) -> None:
    s3 = aws(cloud.endpoint, "s3")
    for each in s3.list_objects_v2(Bucket="uploads")["Contents"]:
        content = s3.get_object(Bucket="uploads", Key=each["Key"])["Body"].read()
        for file in zipfile.ZipFile(io.BytesIO(content)).infolist():
            mode = file.external_attr >> 16
            assert file.is_dir() or mode & 0o444 == 0o444, file.filename


@pytest.mark.parametrize("template", TEMPLATES)
def test_changed_parameter_keeps_the_apis(cloud: Cloud, template: str) -> None:
    before = cloud.apis(template)
    done = cloud.deploy(f"TEMPLATE={template}", "PARAMETERS=JwtTtlSeconds=60 CheckUsers=true")
    assert done.returncode == 0, done.stderr
    assert cloud.apis(template) == before


@pytest.mark.parametrize("template", TEMPLATES)
def test_other_template_is_refused(cloud: Cloud, template: str) -> None:
    before = cloud.apis(template)
    done = cloud.deploy(f"TEMPLATE={OTHER[template]}", f"STACK={STACKS[template]}")
    assert done.returncode == 2
    assert f"the stack {STACKS[template]} was deployed with another template." in done.stderr
    assert cloud.apis(template) == before


def test_mcp_server_is_added_behind_the_authorizer_and_removed(cloud: Cloud) -> None:
    before = cloud.apis(HTTP)
    done = cloud.deploy(f"TEMPLATE={HTTP}", "PARAMETERS=McpServer=true CheckUsers=false")
    assert done.returncode == 0, done.stderr
    claims = {"user_id": "agent", "exp": time.time() + 60, "iss": STACKS[HTTP], "aud": STACKS[HTTP]}
    token = {"Authorization": jwt.encode(claims, SECRET)}
    url = f"{addresses(cloud.endpoint, STACKS[HTTP]).api}/mcp"
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert requests.post(url, json=ping, timeout=60).status_code == 401
    assert requests.post(url, json=ping, headers=token, timeout=60).json()["result"] == {}
    assert requests.get(url, headers=token, timeout=60).status_code == 405
    assert requests.delete(url, headers=token, timeout=60).status_code == 405

    done = cloud.deploy(f"TEMPLATE={HTTP}", "PARAMETERS=McpServer=false")
    assert done.returncode == 0, done.stderr
    assert requests.post(url, json=ping, headers=token, timeout=60).status_code == 404
    assert cloud.apis(HTTP) == before


def test_failing_question_about_the_stack_stops_the_deployment(cloud: Cloud) -> None:
    nowhere = Cloud("http://127.0.0.1:1", cloud.checkout)
    done = nowhere.deploy()
    assert done.returncode == 2
    assert "make deploy: can't ask CloudFormation about the stack jwt-kit. Could" in done.stderr


def test_placeholder_as_bucket_is_refused_by_the_aws_cli(cloud: Cloud) -> None:
    done = cloud.deploy("BUCKET=<your-bucket>")
    assert done.returncode == 2
    assert "<your-bucket>" in done.stderr
