"""The pieces of code that bench.py measures, as texts."""

from typing import NamedTuple

# Lambda's text format, and what Lambda's runtime client has imported before a function's own file.
LOGGING = r"""
import sys, time, decimal, importlib, json, logging, math, multiprocessing, os, socket, traceback
logging.Formatter.converter = time.gmtime
line = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t0f0e\t%(message)s"
logging.basicConfig(filename=os.devnull, format=line, datefmt="%Y-%m-%dT%H:%M:%S")
"""


class Timed(NamedTuple):
    """A piece of code as timeit takes it, and the handler whose environment and packages it has."""

    handler: str
    setup: str
    call: str


# The names that these pieces use are those of facts.py, which bench.py writes.
FACTS = "import facts; globals().update(vars(facts))"
# In the environment of LOGIN, users are looked up.
JWT, GOOGLE, LOGIN = "jwt_auth_token", "jwt_auth_token_google", "jwt_create_token"
PYJWT = 'jwt.decode(token, secret, algorithms=["HS256"], options={"require": ["exp", "user_id"]})'
CALL = "{}.lambda_handler(events[{!r}], None)"
GET_ITEM = f"""
import boto3, {JWT}
dynamodb = boto3.client("dynamodb")
wanted = {{
    "TableName": "users",
    "Key": {{"user_id": {{"S": "testuser"}}}},
    "ProjectionExpression": "tokenVersion",
}}
"""
HELD = """
from types import SimpleNamespace
from google.oauth2 import id_token
answer = SimpleNamespace(status=200, data=certificates.encode())
"""
# google-auth asks the bench's own server for Google's certificates.
TO_LOOPBACK = "import google.oauth2.id_token as it; it._GOOGLE_OAUTH2_CERTS_URL = certificates_url"
AS_IT_COMES = f"""
from google.auth.transport import requests
from google.oauth2 import id_token
{TO_LOOPBACK}
"""
VERIFY = "id_token.verify_oauth2_token(google_token, {}, client_id)"
KINDS = ("REST TOKEN", "REST REQUEST", "HTTP 1.0", "HTTP 2.0")
PASSWORDS = ("user with scope", "wrong password", "unknown user")
CALLS = {
    **{
        f"HS256 call, {kind}": Timed(JWT, f"import {JWT}", CALL.format(JWT, kind)) for kind in KINDS
    },
    "bare PyJWT": Timed(JWT, "import jwt", PYJWT),
    "HS256 call that looks the user up": Timed(LOGIN, f"import {JWT}", CALL.format(JWT, JWT)),
    "HS256 call, and a bare get_item": Timed(
        JWT, GET_ITEM, f"dynamodb.get_item(**wanted); {CALL.format(JWT, JWT)}"
    ),
    "Google call": Timed(
        GOOGLE,
        f"import {GOOGLE}; {TO_LOOPBACK}",
        CALL.format(GOOGLE, GOOGLE),
    ),
    "verify_oauth2_token, keys in memory": Timed(
        GOOGLE, HELD, VERIFY.format("lambda url, method: answer")
    ),
    "verify_oauth2_token as it comes": Timed(
        GOOGLE, AS_IT_COMES, VERIFY.format("requests.Request()")
    ),
    **{
        f"login, {who}": Timed(LOGIN, f"import {LOGIN}", CALL.format(LOGIN, who))
        for who in PASSWORDS
    },
    "bcrypt.checkpw": Timed(
        LOGIN, "import bcrypt", "bcrypt.checkpw(b'password123', stored.encode())"
    ),
}

# The same as a handler, written in a hurry, below the handler's own import statements.
NAIVE_AUTHORIZER = """
def lambda_handler(event, context):
    token = {token}.removeprefix("Bearer ")
    claims = {claims}
    logger.info("admitted: %s", claims["sub"])
    resource = event["methodArn"]
    statement = {{"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": resource}}
    policy = {{"Version": "2012-10-17", "Statement": [statement]}}
    context = {{"authorized": True}}
    return {{"principalId": claims["sub"], "policyDocument": policy, "context": context}}
"""
DECODE = 'jwt.decode(token, os.environ["JWT_SECRET"], algorithms=["HS256"])'
FETCH = """
class Reply:
    status = 200

def fetch(url, method):
    reply = Reply()
    reply.data = requests.get(url, timeout=5).content
    return reply
"""
NAIVE = {
    JWT: NAIVE_AUTHORIZER.format(token='event["authorizationToken"]', claims=DECODE),
    "jwt_auth_token_websocket": NAIVE_AUTHORIZER.format(
        token='event["headers"]["Authorization"]', claims=DECODE
    ),
    GOOGLE: FETCH
    + NAIVE_AUTHORIZER.format(
        token='event["authorizationToken"]',
        claims='verify_oauth2_token(token, fetch, os.environ["GOOGLE_CLIENT_ID"])',
    ),
    LOGIN: """
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
    token = jwt.encode(claims, os.environ["JWT_SECRET"])
    return {"statusCode": 200, "body": json.dumps({"token": token})}
""",
    "restricted_access_lambda": """
def lambda_handler(event, context):
    caller = event["requestContext"]["authorizer"]["principalId"]
    logger.info("answered: %s", caller)
    content = {"timestamp": int(time.time()), "caller": caller}
    return {"statusCode": 200, "body": json.dumps(content)}
""",
}

COLD = f"""
{FACTS}
start = time.process_time()
module = importlib.import_module(sys.argv[1])
if "google" in sys.argv[1]:
    {TO_LOOPBACK}
answer = module.lambda_handler(events[sys.argv[2]], None)
print(time.process_time() - start, "sec")
sys.exit(answer.get("statusCode", 200) != 200)
"""
