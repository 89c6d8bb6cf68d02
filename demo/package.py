"""Turns a template into one that the emulator can deploy, and uploads the files that it names."""

import io
import string
import zipfile
from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from build_layer import THIS_PYTHON, BuildError, build
from demo import ROOT, DemoError

BUCKET = "artifacts"


def package(template: str, parameters: dict[str, str], s3: Any) -> dict[str, Any]:
    """Return a template with its files uploaded, adapted to the emulator."""
    content: dict[str, Any] = yaml_parse((ROOT / template).read_text(encoding="utf-8"))
    values = values_of(template, content["Parameters"], parameters)
    s3.create_bucket(Bucket=BUCKET)
    for resource in content["Resources"].values():
        needed = resource.get("Condition") != "HasGoogle" or values["GoogleClientId"]
        upload_files(resource, s3, bool(needed))
        adapt(resource, values["ReauthorizeEvery"])
    return content


def values_of(
    template: str, known: dict[str, dict[str, Any]], given: dict[str, str]
) -> dict[str, str]:
    """Return the values of a template's parameters, or raise DemoError if there is no such one."""
    for name in given:
        if name not in known:
            raise DemoError(f"{template} has no parameter {name}. It has {', '.join(known)}.")
    defaults = {name: str(parameter.get("Default", "")) for name, parameter in known.items()}
    return defaults | given


def upload_files(resource: dict[str, Any], s3: Any, needed: bool) -> None:
    """Upload the script or the layer that a resource names, and make it name what was uploaded."""
    properties = resource.get("Properties", {})
    for name in ("CodeUri", "ContentUri"):
        if name in properties:
            path = properties[name]
            properties[name] = f"s3://{BUCKET}/{path}"
            if needed:
                s3.put_object(Bucket=BUCKET, Key=path, Body=uploaded(path))


def uploaded(path: str) -> bytes:
    """Return what is uploaded for a path in a template: a layer, or a zip with the script."""
    if path.startswith("layers/"):
        return host_layer(Path(path).stem).read_bytes()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.write(ROOT / path, path)
    return content.getvalue()


def host_layer(name: str) -> Path:
    """Return the layer for functions that run on this machine, and build it if it isn't there."""
    requirements = ROOT / f"requirements_{name}.txt"
    layer = ROOT / ".demo" / f"{name}-{THIS_PYTHON}.zip"
    if layer.exists() and layer.stat().st_mtime > requirements.stat().st_mtime:
        return layer
    try:
        build(requirements, layer, "host")
    except BuildError as error:
        raise DemoError(str(error)) from None
    return layer


def adapt(resource: dict[str, Any], reauthorize_every: str) -> None:
    """Change a resource that the emulator doesn't have or reads in another way than AWS."""
    properties = resource.get("Properties", {})
    if resource["Type"] == "AWS::ApiGatewayV2::RouteResponse":
        # The emulator doesn't have it and doesn't need it. This type does nothing.
        resource["Type"] = "AWS::CloudFormation::WaitConditionHandle"
        resource["Properties"] = {}
    generated = properties.get("GenerateSecretString", {})
    if generated.pop("ExcludePunctuation", False):
        # The emulator ignores it, but knows the longer way to say it.
        generated["ExcludeCharacters"] = string.punctuation
    for authorizer in properties.get("Auth", {}).get("Authorizers", {}).values():
        # The emulator would read a reference to a parameter as 300.
        authorizer["Identity"]["ReauthorizeEvery"] = reauthorize_every
    cors = properties.get("CorsConfiguration", {})
    for name in list(cors):
        # The emulator knows these names in lower case only.
        cors[name[0].lower() + name[1:]] = cors.pop(name)
