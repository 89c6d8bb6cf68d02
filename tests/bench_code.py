"""The pieces of code that bench.py measures, as texts, and the worker that times them (standard library alone)."""

import json
import logging
import os
import sys
import time
import timeit
from typing import NamedTuple

BATCH = 0.02  # seconds that a round gives to calls that take less

LOG_FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t0f0e\t%(message)s"  # Lambda's text format


class Timed(NamedTuple):
    """A piece of code as timeit takes it, and the packages that it can import."""

    packages: str
    setup: str
    call: str


# The names that these pieces use are those of FACTS in bench.py.
FLOOR = """
import base64, hmac, json, time
def unpack(part): return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
def verify(token, key):
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    right = hmac.compare_digest(hmac.digest(key, signed.encode(), "sha256"), unpack(signature))
    claims = json.loads(unpack(payload))
    if not right or json.loads(unpack(header))["alg"] != "HS256":
        raise ValueError
    if claims["exp"] <= time.time() or "user_id" not in claims:
        raise ValueError
"""
PYJWT = 'jwt.decode(token, secret, algorithms=["HS256"], options={"require": ["exp", "user_id"]})'
MEMORY = """
from types import SimpleNamespace
from google.oauth2 import id_token
answer = SimpleNamespace(status=200, data=certificates.encode())
"""
AS_IT_COMES = """
from google.auth.transport import requests
from google.oauth2 import id_token
id_token._GOOGLE_OAUTH2_CERTS_URL = certificates_url
"""
RSA = """
import base64, json
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
key = x509.load_pem_x509_certificate(json.loads(certificates)["key-1"].encode()).public_key()
signed, _, signature = google_token.rpartition(".")
raw = base64.urlsafe_b64decode(signature + "==")
"""
JOSERFC = """
from joserfc import jwt
from joserfc.jwk import OctKey
key = OctKey.import_key(secret)
claims = jwt.JWTClaimsRegistry(exp={"essential": True}, user_id={"essential": True})
"""
AUTHLIB = """
import warnings, authlib.deprecate
warnings.simplefilter("ignore")
from authlib.jose import JsonWebToken
decoder = JsonWebToken(["HS256"])
wanted = {"exp": {"essential": True}, "user_id": {"essential": True}}
"""
JOSE_CALL = 'jwt.decode(token, secret, algorithms=["HS256"], options={"require_exp": True})["user_id"]'
CALLS = {
    "HS256 call": Timed(
        "basic", "import jwt_auth_token", "jwt_auth_token.lambda_handler(events['jwt_auth_token'], None)"
    ),
    "bare PyJWT": Timed("basic", "import jwt", PYJWT),
    "HMAC + base64 + JSON": Timed("basic", FLOOR, "verify(token, secret.encode())"),
    "PyJWT beside cryptography": Timed("rivals", "import jwt", PYJWT),
    "joserfc": Timed("rivals", JOSERFC, 'claims.validate(jwt.decode(token, key, algorithms=["HS256"]).claims)'),
    "Authlib": Timed("rivals", AUTHLIB, "decoder.decode(token, secret, claims_options=wanted).validate()"),
    "python-jose": Timed("rivals", "from jose import jwt", JOSE_CALL),
    "Google call": Timed(
        "google",
        "import jwt_auth_token_google as module; module.CERTIFICATES_URL = certificates_url",
        "module.lambda_handler(events['jwt_auth_token_google'], None)",
    ),
    "RSA-2048 verification": Timed(
        "google", RSA, "key.verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())"
    ),
    "verify_oauth2_token, keys in memory": Timed(
        "google", MEMORY, "id_token.verify_oauth2_token(google_token, lambda url, method: answer, client_id)"
    ),
    "verify_oauth2_token as it comes": Timed(
        "google", AS_IT_COMES, "id_token.verify_oauth2_token(google_token, requests.Request(), client_id)"
    ),
}
LOGIN_CALL = "jwt_create_token.lambda_handler(events[{!r}], None)"
LOGINS = {
    "login": Timed("login", "import jwt_create_token", LOGIN_CALL.format("login")),
    "login, unknown user": Timed("login", "import jwt_create_token", LOGIN_CALL.format("unknown")),
    "bcrypt.checkpw": Timed("login", "import bcrypt", "bcrypt.checkpw(b'password123', stored.encode())"),
}

# The same as a handler, as one would write it in a hurry, below the handler's own import statements.
LOGGER = "logger = logging.getLogger()\nlogger.setLevel(logging.INFO)\n"
NAIVE_AUTHORIZER = (
    LOGGER
    + """
def lambda_handler(event, context):
    token = {token}.removeprefix("Bearer ")
    claims = jwt.decode(token, os.environ["JWT_SECRET"], algorithms=["HS256"])
    logger.info("admitted: %s", claims["user_id"])
    statement = {{"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": event["methodArn"]}}
    policy = {{"Version": "2012-10-17", "Statement": [statement]}}
    return {{"principalId": claims["user_id"], "policyDocument": policy, "context": {{"authorized": True}}}}
"""
)
NAIVE = {
    "jwt_auth_token": NAIVE_AUTHORIZER.format(token='event["authorizationToken"]'),
    "jwt_auth_token_websocket": NAIVE_AUTHORIZER.format(token='event["headers"]["Authorization"]'),
    "jwt_auth_token_google": LOGGER
    + """
def lambda_handler(event, context):
    answer = SimpleNamespace(status=200, data=requests.get(CERTIFICATES_URL, timeout=5).content)
    token = event["authorizationToken"].removeprefix("Bearer ")
    claims = id_token.verify_oauth2_token(token, lambda url, method: answer, os.environ["GOOGLE_CLIENT_ID"])
    logger.info("admitted: %s", claims["sub"])
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": event["methodArn"]}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    return {"principalId": claims["sub"], "policyDocument": policy, "context": {"email": claims["email"]}}
""",
    "jwt_create_token": LOGGER
    + """
dynamodb = boto3.client("dynamodb")
def lambda_handler(event, context):
    request = json.loads(event["body"])
    key = {"user_id": {"S": request["user_id"]}}
    table = os.environ["USER_CREDENTIALS_TABLE_NAME"]
    item = dynamodb.get_item(TableName=table, Key=key, ProjectionExpression="passwordHash")["Item"]
    if not bcrypt.checkpw(request["password"].encode(), item["passwordHash"]["S"].encode()):
        return {"statusCode": 401, "body": "{}"}
    logger.info("admitted: %s", request["user_id"])
    claims = {"user_id": request["user_id"], "exp": int(time.time()) + 3600}
    return {"statusCode": 200, "body": json.dumps({"token": jwt.encode(claims, os.environ["JWT_SECRET"])})}
""",
    "restricted_access_lambda": LOGGER
    + """
def lambda_handler(event, context):
    caller = event["requestContext"]["authorizer"]["principalId"]
    logger.info("answered: %s", caller)
    return {"statusCode": 200, "body": json.dumps({"timestamp": int(time.time()), "caller": caller})}
""",
}
NEEDS = {"jwt_auth_token_google": "google", "jwt_create_token": "login"}  # what is not here needs the basic layer

# Counts from what Lambda's runtime client has imported before a function's own file.
COLD = f"""
import sys, time, decimal, importlib, json, logging, math, multiprocessing, os, socket, traceback
logging.Formatter.converter = time.gmtime
logging.basicConfig(filename=os.devnull, format={LOG_FORMAT!r}, datefmt="%Y-%m-%dT%H:%M:%S")
event = json.loads(sys.argv[2])
start = time.process_time()
module = importlib.import_module(sys.argv[1])
module.CERTIFICATES_URL = os.environ["CERTIFICATES_URL"]
answer = module.lambda_handler(event, None)
print(time.process_time() - start)
sys.exit(answer.get("statusCode", 200) != 200)
"""


def main() -> None:
    """Time a round of the calls whose labels come on standard input, after the facts."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(filename=os.devnull, format=LOG_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    facts, counts = json.loads(sys.stdin.readline()), {}
    for label in map(str.strip, sys.stdin):
        timed = (CALLS | LOGINS)[label]
        timer = timeit.Timer(timed.call, timed.setup, time.process_time, facts)
        if label not in counts:
            timer.timeit(1)
            counts[label] = max(1, int(BATCH / timer.timeit(1)))
        print(timer.timeit(counts[label]) / counts[label], flush=True)


if __name__ == "__main__":
    main()
