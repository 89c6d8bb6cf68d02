"""Rotating the signing secret and revoking tokens, in every order in which things can happen.

A search visits every state of the functions, the table, a token and API Gateway's cache. What a
function does is not modeled: the shipped handler is deployed with the settings of the state and
called. Its decisions are cached, because there are only a few different ones.

The search follows one token, issued at any time. It stands for all tokens, because neither the
handlers nor the cache mix tokens up. Time passes in units that are longer than the clock skew.
"""

import functools
import itertools
import json
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import bcrypt
import pytest
from support.deploy import PREVIOUS, SECRET, Deploy, Function, outcome
from support.events import connect_event, token_event
from support.fake_dynamodb import AWS
from support.tokens import make_jwt

UNIT = 1000  # seconds
LIFETIME = 3  # units, as JWT_TTL_SECONDS
TTL = 2  # units for which API Gateway caches a policy
LOGIN = "jwt_create_token"
REJECTED = "a valid token is rejected"
ACCEPTED = "an invalid token is accepted"
AUTHORIZERS = ["jwt_auth_token", "jwt_auth_token_websocket"]


# The search.


class Move(NamedTuple):
    """Something that can happen, and the state after it or the problem that it is."""

    what: str
    state: Hashable
    problem: str = ""


class Result(NamedTuple):
    """The number of states, and the shortest history that ends with a problem, if there is one."""

    states: int
    history: list[str]


def search(start: Hashable, moves: Callable[[Any], Iterable[Move]]) -> Result:
    """Visit all states that moves lead to, those after few moves first, up to a problem."""
    histories: dict[Hashable, list[str]] = {start: []}
    queue = [start]
    for state in queue:
        for move in moves(state):
            if move.problem:
                return Result(len(queue), [*histories[state], move.what, move.problem])
            if move.state not in histories:
                histories[move.state] = [*histories[state], move.what]
                queue.append(move.state)
    return Result(len(queue), [])


def older_policy(age: int | None) -> int | None:
    """Return the age of a cached policy after a unit of time, or None if it is no longer used."""
    if age is None or age == TTL:
        return None
    return age + 1


def calls(state: Any, accepted: bool, must_accept: bool, must_reject: bool) -> Iterator[Move]:
    """Return the calls with the token of a state: with the cached policy, and without it."""
    kept = 0 if accepted else None
    answers = [("call", accepted, state._replace(cached=kept))]
    if state.cached is not None:
        answers.append(("call with a cached policy", True, state))
    for what, answer, following in answers:
        problem = ""
        if must_accept and not answer:
            problem = REJECTED
        if must_reject and answer:
            problem = ACCEPTED
        yield Move(what, following, problem)


# The decisions of the shipped handlers.


def event_for(authorizer: str, token: str) -> dict[str, Any]:
    """Return the event with which API Gateway asks an authorizer about a token."""
    if authorizer == "jwt_auth_token_websocket":
        return connect_event({"Authorization": token})
    return token_event(token)


def table_with(item: dict[str, Any] | None) -> SimpleNamespace:
    """Return a client of a table that has this item only, or no item."""

    def get_item(**request: Any) -> dict[str, Any]:
        assert request["ConsistentRead"] is True
        if item is None:
            return {}
        wanted = request["ExpressionAttributeNames"].values()
        return {"Item": {name: item[name] for name in wanted if name in item}}

    return SimpleNamespace(get_item=get_item)


def logged_in(login: Function, item: dict[str, Any] | None, password: str, age: int = 0) -> str:
    """Return the token that login issued so many units ago, or "" for a 401."""
    vars(login.module)["dynamodb"] = table_with(item)
    vars(login.module)["time"] = SimpleNamespace(time=lambda: time.time() - age * UNIT)
    response = login({"user_id": "anna", "password": password})
    return str(json.loads(response["body"]).get("token", ""))


@functools.cache
def password_hash(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


# Rotation.


OLD, NEW = PREVIOUS, SECRET


class Settings(NamedTuple):
    """The secrets of a function."""

    secret: str
    previous: str = ""


class Step(NamedTuple):
    """A step of the manual: functions get other secrets, in any order, after waiting."""

    settings: dict[str, Settings]
    wait: int = 0


class Update(NamedTuple):
    """A function gets other secrets, so many units after the update before or later."""

    function: str
    settings: Settings
    wait: int


class Token(NamedTuple):
    """A token from login, or one that somebody made who knows a secret, and that doesn't expire."""

    secret: str
    age: int
    forged: bool = False


class Rotation(NamedTuple):
    """The state of a rotation."""

    updates: int = 0  # how many of them are done
    since: int = 0  # the age of the last update
    token: Token | None = None
    cached: int | None = None  # the age of the policy that API Gateway has for the token


def both(secret: str, previous: str = "") -> dict[str, Settings]:
    """Return these secrets for both authorizers."""
    return dict.fromkeys(AUTHORIZERS, Settings(secret, previous))


START = both(OLD) | {LOGIN: Settings(OLD)}
ACCEPT_BOTH = Step(both(NEW, OLD))
SIGN_WITH_NEW = Step({LOGIN: Settings(NEW)})
DROP_OLD = Step(both(NEW), wait=LIFETIME)
CONSOLE = [ACCEPT_BOTH, SIGN_WITH_NEW, DROP_OLD]
# A deployment of the template sets all functions. In its first step, login's secret is the same.
TEMPLATE = [Step(both(OLD, NEW)), Step(both(NEW, OLD) | {LOGIN: Settings(NEW)}), DROP_OLD]


def orders(steps: list[Step]) -> Iterator[list[Update]]:
    """Return the updates of the steps in every order of the functions within a step."""
    permutations = [itertools.permutations(step.settings.items()) for step in steps]
    for order in itertools.product(*permutations):
        updates = []
        for step, functions in zip(steps, order, strict=True):
            wait = step.wait
            for function, settings in functions:
                updates.append(Update(function, settings, wait))
                wait = 0
        yield updates


NAMES = {OLD: "old", NEW: "new"}
Accepts = Callable[[str, Settings, Token], bool]


@pytest.fixture
def accepts(deploy: Deploy) -> Accepts:
    """Return what tells whether an authorizer with these settings accepts a token."""
    item = {"passwordHash": {"S": password_hash("password")}}

    @functools.cache
    def deployed(script: str, settings: Settings) -> Function:
        secrets = {"JWT_SECRET": settings.secret, "JWT_SECRET_PREVIOUS": settings.previous}
        if script != LOGIN:
            return deploy(script, **secrets)
        lifetime = str(LIFETIME * UNIT)
        return deploy(
            script, JWT_TTL_SECONDS=lifetime, USER_CREDENTIALS_TABLE_NAME="users", **AWS, **secrets
        )

    @functools.cache
    def accepts(authorizer: str, settings: Settings, token: Token) -> bool:
        if token.forged:
            jwt = make_jwt(token.secret)
        else:
            login = deployed(LOGIN, Settings(token.secret))
            jwt = logged_in(login, item, "password", token.age)
        event = event_for(authorizer, jwt)
        return outcome(deployed(authorizer, settings), event) is not None

    return accepts


def rotation(updates: list[Update], authorizer: str, accepts: Accepts, grace: int = TTL) -> Result:
    """Search what can happen during a rotation that is over when the time of grace has passed."""

    def moves(state: Rotation) -> Iterator[Move]:
        yield Move("time passes", later(state))
        if state.updates < len(updates):
            yield from next_update(updates[state.updates], state)
        done = {update.function: update.settings for update in updates[: state.updates]}
        settings = START | done
        if state.token is None:
            yield from new_tokens(settings[LOGIN].secret, state)
            return
        must_accept = not state.token.forged and state.token.age < LIFETIME
        over = state.updates == len(updates) and state.since > grace
        must_reject = over and state.token.secret == OLD
        accepted = accepts(authorizer, settings[authorizer], state.token)
        yield from calls(state, accepted, must_accept, must_reject)

    return search(Rotation(), moves)


def later(state: Rotation) -> Rotation:
    """Return the state after a unit of time. Ages stop growing when they no longer matter."""
    token = state.token
    if token:
        token = token._replace(age=min(token.age + 1, LIFETIME + 1))
    since = min(state.since + 1, LIFETIME + TTL)
    return Rotation(state.updates, since, token, older_policy(state.cached))


def next_update(update: Update, state: Rotation) -> Iterator[Move]:
    """Return the next update, unless it has to wait."""
    if state.since >= update.wait:
        secrets = " and ".join(NAMES[secret] for secret in update.settings if secret)
        done = state._replace(updates=state.updates + 1, since=0)
        yield Move(f"{update.function} gets {secrets}", done)


def new_tokens(secret: str, state: Rotation) -> Iterator[Move]:
    """Return a token from login, and one from somebody who knows the old secret."""
    yield Move(f"login signs with {NAMES[secret]}", state._replace(token=Token(secret, 0)))
    forged = Token(OLD, 0, forged=True)
    yield Move("somebody signs with old", state._replace(token=forged))


@pytest.mark.parametrize("authorizer", AUTHORIZERS)
@pytest.mark.parametrize("steps", [CONSOLE, TEMPLATE], ids=["console", "template"])
def test_rotation_rejects_no_valid_token_and_ends_the_old_secret(
    accepts: Accepts, authorizer: str, steps: list[Step]
) -> None:
    for updates in orders(steps):
        result = rotation(updates, authorizer, accepts)
        assert result.history == []
        assert result.states > 200


ALL_AT_ONCE = both(NEW, OLD) | {LOGIN: Settings(NEW)}
TOO_EARLY = DROP_OLD._replace(wait=LIFETIME - 1)


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        pytest.param([SIGN_WITH_NEW, DROP_OLD], REJECTED, id="without the first step"),
        pytest.param([ACCEPT_BOTH, DROP_OLD], REJECTED, id="without the second step"),
        pytest.param([ACCEPT_BOTH, SIGN_WITH_NEW], ACCEPTED, id="without the third step"),
        pytest.param([SIGN_WITH_NEW, ACCEPT_BOTH, DROP_OLD], REJECTED, id="login first"),
        pytest.param([Step(ALL_AT_ONCE), DROP_OLD], REJECTED, id="first two steps at once"),
        pytest.param([ACCEPT_BOTH, SIGN_WITH_NEW, TOO_EARLY], REJECTED, id="third step too early"),
    ],
)
def test_rotation_that_leaves_the_manual_has_a_counterexample(
    accepts: Accepts, steps: list[Step], problem: str
) -> None:
    results = [rotation(updates, "jwt_auth_token", accepts) for updates in orders(steps)]
    problems = {result.history[-1] for result in results if result.history}
    assert problems == {problem}


def test_counterexample_is_the_shortest_history(accepts: Accepts) -> None:
    updates = next(orders([SIGN_WITH_NEW, ACCEPT_BOTH, DROP_OLD]))
    assert rotation(updates, "jwt_auth_token", accepts).history == [
        "jwt_create_token gets new",
        "login signs with new",
        "call",
        REJECTED,
    ]


def test_old_secret_is_accepted_until_cached_policies_expire(accepts: Accepts) -> None:
    for updates in orders(CONSOLE):
        result = rotation(updates, "jwt_auth_token", accepts, grace=TTL - 1)
        assert result.history[-2:] == ["call with a cached policy", ACCEPTED]


# Revocation.


NEW_VERSIONS = (0, 1, 2, 3)  # as create_password.py sets them, from an item without one


class Item(NamedTuple):
    """A user's item: whose hash is in it, and its tokenVersion, where 0 stands for none."""

    password: int
    version: int


class Login(NamedTuple):
    """A login that has read the item, but has not issued the token: after how many changes."""

    password: int
    item: Item | None
    changes: int


class Issued(NamedTuple):
    """A token, and after how many changes its login had read the item."""

    jwt: str
    changes: int


class Revocation(NamedTuple):
    """The state of a user, whose item is None while there is no such user."""

    item: Item | None
    changes: tuple[int, ...] = ()  # how long ago each was made
    login: Login | None = None
    token: Issued | None = None
    cached: int | None = None  # the age of the policy that API Gateway has for the token


class Variant(NamedTuple):
    """What is as the manual says, or not."""

    checks_users: bool = True
    versions: tuple[int, ...] = NEW_VERSIONS  # of the item, after each change
    one_read: bool = True  # of the item by login
    grace: int = TTL


class Handlers(NamedTuple):
    """The decisions of the shipped handlers."""

    jwt: Callable[[int, Item | None], str]
    accepts: Callable[[str, Item | None], bool]


def attributes(item: Item | None) -> dict[str, Any] | None:
    """Return an item as DynamoDB has it."""
    if item is None:
        return None
    password = {"passwordHash": {"S": password_hash(f"password {item.password}")}}
    if item.version == 0:
        return password
    return password | {"tokenVersion": {"S": f"version {item.version}"}}


def handlers(deploy: Deploy, authorizer: str, checks_users: bool = True) -> Handlers:
    """Deploy login and an authorizer."""
    table = {"USER_CREDENTIALS_TABLE_NAME": "users", **AWS}
    login = deploy(LOGIN, JWT_SECRET=SECRET, **table)
    vars(login.module)["DUMMY_HASH"] = password_hash("nobody")  # takes less time
    authorize = deploy(authorizer, JWT_SECRET=SECRET, **(table if checks_users else {}))

    @functools.cache
    def jwt(password: int, item: Item | None) -> str:
        return logged_in(login, attributes(item), f"password {password}")

    @functools.cache
    def accepts(jwt: str, item: Item | None) -> bool:
        vars(authorize.module)["dynamodb"] = table_with(attributes(item))
        return outcome(authorize, event_for(authorizer, jwt)) is not None

    return Handlers(jwt, accepts)


def revocation(shipped: Handlers, variant: Variant) -> Result:
    """Search what can happen to a user and a token."""

    def moves(state: Revocation) -> Iterator[Move]:
        yield Move("time passes", unit_later(state))
        if len(state.changes) + 1 < len(variant.versions):
            yield from changes(state, variant)
        if state.login:
            yield login_ends(state, state.login, shipped, variant)
        elif state.token is None:
            yield from login_begins(state)
        if state.token:
            later_changes = state.changes[state.token.changes :]
            accepted = shipped.accepts(state.token.jwt, state.item)
            must_reject = any(age > variant.grace for age in later_changes)
            yield from calls(state, accepted, not later_changes, must_reject)

    return search(Revocation(Item(0, variant.versions[0])), moves)


def unit_later(state: Revocation) -> Revocation:
    """Return the state after a unit of time. Ages stop growing when they no longer matter."""
    ages = tuple(min(age + 1, TTL + 1) for age in state.changes)
    return state._replace(changes=ages, cached=older_policy(state.cached))


def changes(state: Revocation, variant: Variant) -> Iterator[Move]:
    """Return what can be done to the user, as with create_password.py."""
    now = len(state.changes) + 1
    version = variant.versions[now]
    changed = state._replace(changes=(*state.changes, 0))
    yield Move("a new password", changed._replace(item=Item(now, version)))
    if state.item:
        revoked = state.item._replace(version=version)
        yield Move("tokens are revoked", changed._replace(item=revoked))
        yield Move("the user is deleted", changed._replace(item=None))


def login_begins(state: Revocation) -> Iterator[Move]:
    """Return logins that read the item, with the first password and with the current one."""
    passwords = {0, state.item.password} if state.item else {0}
    for password in passwords:
        login = Login(password, state.item, len(state.changes))
        yield Move(f"login with password {password} reads the item", state._replace(login=login))


def login_ends(state: Revocation, login: Login, shipped: Handlers, variant: Variant) -> Move:
    """Return what becomes of a login in flight."""
    item = login.item
    if not variant.one_read and item and state.item:
        item = item._replace(version=state.item.version)
    jwt = shipped.jwt(login.password, item)
    if not jwt:
        return Move("login refuses", state._replace(login=None))
    token = Issued(jwt, login.changes)
    return Move("login issues a token", state._replace(login=None, token=token))


@pytest.mark.parametrize("authorizer", AUTHORIZERS)
@pytest.mark.parametrize(
    "versions",
    [
        pytest.param(NEW_VERSIONS, id="from an item without a tokenVersion"),
        pytest.param((1, 0, 2, 3), id="by way of an item without a tokenVersion"),
    ],
)
def test_no_token_from_before_a_change_is_accepted_after_the_ttl(
    deploy: Deploy, authorizer: str, versions: tuple[int, ...]
) -> None:
    result = revocation(handlers(deploy, authorizer), Variant(versions=versions))
    assert result.history == []
    assert result.states > 1000


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(Variant(checks_users=False), id="authorizers don't check users"),
        pytest.param(Variant(versions=(0, 0)), id="a change keeps the tokenVersion"),
        pytest.param(Variant(versions=(0, 1, 0)), id="a change restores the tokenVersion"),
        pytest.param(Variant(one_read=False), id="login reads hash and tokenVersion apart"),
        pytest.param(Variant(grace=TTL - 1), id="the TTL isn't over"),
    ],
)
def test_revocation_that_leaves_the_manual_has_a_counterexample(
    deploy: Deploy, variant: Variant
) -> None:
    shipped = handlers(deploy, "jwt_auth_token", variant.checks_users)
    assert revocation(shipped, variant).history[-1] == ACCEPTED


def test_login_in_flight_is_why_login_reads_the_item_once(deploy: Deploy) -> None:
    shipped = handlers(deploy, "jwt_auth_token")
    assert revocation(shipped, Variant(one_read=False)).history == [
        "login with password 0 reads the item",
        "a new password",
        *["time passes"] * (TTL + 1),
        "login issues a token",
        "call",
        ACCEPTED,
    ]
