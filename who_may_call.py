"""Shows which scope may call which route, according to ALLOWED_RESOURCE_ARNS. Runs on a laptop.

    python who_may_call.py LIST ROUTE ROUTE ...   prints a row per route and a column per scope
    ... | python who_may_call.py LIST             takes the routes from a pipe, one per line or
                                                  separated by tabs

A cell is "yes", "no" or "some". For "some", a line under the row shows a request that is allowed
and a request that isn't. The column of a scope is for tokens that have only this scope.

Arguments
    LIST   The value of ALLOWED_RESOURCE_ARNS. "" means "not set".
    ROUTE  Verb and path, such as "GET /api/orders/{id}", "GET,POST /api" or "ANY /{proxy+}".
           {id} stands for one segment of the path, and {proxy+} for all that follow. Both have at
           least one character. ANY stands for each verb, and $default for each verb and path.

Options
    --stage API/STAGE  The API ID and stage of the routes, such as abcdef1234/prod. Entries for
                       other stages are left out. Needed only if the list has such entries.

Wildcards    * matches any characters, also none. ? matches exactly one character. Both match "/"
             and ":", too.
Warnings     An entry matches none of the routes.
             An entry with a scope is useless: entries without a scope allow the same requests.
             An entry allows a route only because a wildcard matches "/".
             A wildcard before the verb, such as for the region, matches a part of the path, too.
Limits       A row is about all requests that match its route, even if API Gateway sends some of
             them to a more specific route. The list doesn't protect routes that have no
             authorizer, so leave them out.
Needs        Python 3.11 or newer, and no packages
Exit status  0  There are no warnings.
             1  There are warnings. They follow the table.
             2  The list, a route or an option is invalid.
Version      2.0.0 (CHANGELOG.md says what changed)
"""

import argparse
import os
import re
import string
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]
VERBS = {"ANY": METHODS} | {method: [method] for method in METHODS}
VARIABLE = r"\{[^{}\s]+\}"  # {id}
GREEDY_VARIABLE = r"\{[^{}\s]+\+\}"  # {proxy+}

# A pattern is a text in which four characters have a meaning. Two of them are IAM's wildcards, so
# the ARN of an entry is a pattern as it is: no entry has braces.
#     ?  one character               *  any number of characters
#     {  one character except "/"    }  any number of characters except "/"
# So {} is one segment of a path, and ?* is a rest of a path. For example, GET /orders/{id} has the
# pattern <stage>/GET/orders/{}, which matches <stage>/GET/orders/7, but not <stage>/GET/orders/7/x.
# STAGE and METHOD are such patterns, and not format strings.
STAGE = "arn:{}:execute-api:{}:{}:{}/{}"
METHOD = STAGE + "/{}/*"
Rests = frozenset[str]  # what is left of patterns after a part of a text


class Entry(NamedTuple):
    """An entry of ALLOWED_RESOURCE_ARNS."""

    name: str
    scope: str  # "" if the entry is for every valid token
    arn: str


Entries = list[Entry]


class Route(NamedTuple):
    """A route of the API, with a pattern of its method ARNs for each verb."""

    name: str
    patterns: list[str]


class Answer(NamedTuple):
    """A cell of the table, with an example for "some"."""

    word: str
    example: str = ""


def main(argv: list[str]) -> int:
    """Run the command line and return its exit status."""
    options = parsed(argv)
    try:
        stage, listed = one_stage(all_entries(options.list), options.stage)
        routes = all_routes(options.routes or piped(), stage)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print_table(listed, routes)
    warnings = all_warnings(listed, routes)
    for warning in warnings:
        print(f"Warning: {warning}")
    return int(bool(warnings))


def parsed(argv: list[str]) -> argparse.Namespace:
    """Return the arguments, or end with status 2 if one is missing or unknown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("list", metavar="LIST")
    parser.add_argument("routes", metavar="ROUTE", nargs="*")
    parser.add_argument("--stage", metavar="API/STAGE", default="*")
    return parser.parse_args(argv)


def piped() -> list[str]:
    """Return the routes on standard input, or none if that is a terminal."""
    if sys.stdin.isatty():
        return []
    return sys.stdin.read().replace("\t", "\n").splitlines()


# The list.


def all_entries(value: str) -> Entries:
    """Return the entries of a list. Without one, every valid token may call every method."""
    os.environ["ALLOWED_RESOURCE_ARNS"] = value  # allowed_resources() reads it from there
    pairs = allowed_resources() or [("", "*")]
    listed = []
    for number, (scope, arn) in enumerate(pairs, start=1):
        text = f"{scope}={arn}".removeprefix("=")
        listed.append(Entry(f"entry {number} ({text})", scope, arn))
    return listed


def one_stage(listed: Entries, wanted: str) -> tuple[str, Entries]:
    """Return the ARN of the stage that the routes belong to, and the entries for this stage."""
    stages = [[STAGE], [f"*:{wanted}"]]
    kept = []
    for entry in listed:
        if shortest(*stages, [front(entry.arn)]):  # the entry matches an ARN of this stage
            kept.append(entry)
    if not kept and wanted != "*":
        raise ValueError(
            f"No entry of the list is for stage {wanted}. "
            "Correct --stage, for example to abcdef1234/prod."
        )
    fronts = [[front(entry.arn)] for entry in kept]
    stage = shortest(*stages, *fronts)  # an ARN that all these entries match
    if not kept or not stage:
        raise ValueError(
            "The entries of the list have no API and stage in common. "
            "Choose one of theirs, for example with --stage abcdef1234/prod."
        )
    return stage, kept


def front(arn: str) -> str:
    """Return an ARN up to its second slash, which ends the stage."""
    return "/".join(arn.split("/")[:2])


# The routes.


def all_routes(texts: list[str], stage: str) -> list[Route]:
    """Return the routes that the texts name, each of them once."""
    routes = {}
    for text in texts:
        for name in route_names(text.strip()):
            routes[name] = Route(name, method_arns(name, stage))
    if not routes:
        raise ValueError('There is no route. Name at least one, such as "GET /api".')
    return list(routes.values())


def route_names(text: str) -> list[str]:
    """Return the routes in a text, each with one verb: "GET,POST/api" is two routes."""
    if not text:
        return []
    if text == "$default":
        return [text]
    verbs, slash, path = text.partition("/")
    names = []
    for verb in verbs.rstrip().split(","):
        if not slash or not is_route(verb, path):
            raise ValueError(
                f"{text!r} is not a route. Use verbs in capitals and a path without wildcards, "
                'such as "GET /api/orders/{id}", or $default.'
            )
        names.append(f"{verb} /{path}")
    return names


def is_route(verb: str, path: str) -> bool:
    """Tell whether a verb is known, and a path is printable ASCII without wildcards and spaces."""
    plain = re.sub(VARIABLE, "", path)
    if not plain.isascii() or not plain.isprintable():
        return False
    return verb in VERBS and not set(plain) & set(" *?{}")


def method_arns(name: str, stage: str) -> list[str]:
    """Return a pattern of a route's method ARNs for each of its verbs."""
    verb, _, path = name.partition(" ")
    if name == "$default":
        verb, path = "ANY", "/*"
    path = re.sub(GREEDY_VARIABLE, "?*", path)
    path = re.sub(VARIABLE, "{}", path)
    return [f"{stage}/{each}{path}" for each in VERBS[verb]]


# The table.


def print_table(listed: Entries, routes: list[Route]) -> None:
    """Print a row per route and a column per scope, and examples under the rows with "some"."""
    scopes = [""]
    for entry in listed:
        if entry.scope not in scopes:
            scopes.append(entry.scope)
    heads = ["(no scope)", *scopes[1:]]
    widths = [max(len(route.name) for route in routes)]
    widths += [max(len(head), len("some")) for head in heads]
    print_row(["route", *heads], widths)
    for route in routes:
        answers = [answer_for(route, scope, listed) for scope in scopes]
        words = [answer.word for answer in answers]
        print_row([route.name, *words], widths)
        print_examples(heads, answers)


def print_row(cells: list[str], widths: list[int]) -> None:
    """Print cells in columns of these widths."""
    columns = map(str.ljust, cells, widths)
    print("   ".join(columns).rstrip())


def print_examples(heads: list[str], answers: list[Answer]) -> None:
    """Print each example once, with the tokens that it is for."""
    tokens: dict[str, list[str]] = {}
    for head, answer in zip(heads, answers, strict=True):
        if answer.example:
            tokens.setdefault(answer.example, []).append(head)
    for example, these in tokens.items():
        print(f"    {', '.join(these)}: {example}")


def answer_for(route: Route, scope: str, listed: Entries) -> Answer:
    """Return whether tokens that have only this scope may call a route."""
    arns = arns_for(scope, listed)
    allowed = shortest(route.patterns, arns)
    denied = shortest(route.patterns, outside=arns)
    if not allowed:
        return Answer("no")
    if not denied:
        return Answer("yes")
    return Answer("some", f"{request(allowed)} is allowed, {request(denied)} isn't")


def arns_for(scope: str, listed: Entries) -> list[str]:
    """Return the ARNs that the authorizers allow for a token with only this scope."""
    return [entry.arn for entry in listed if entry.scope in ("", scope)]


def request(method_arn: str) -> str:
    """Return the verb and the path of a method ARN."""
    _, _, verb, path = method_arn.split("/", 3)
    return f"{verb} /{path}"


# The warnings.


def all_warnings(listed: Entries, routes: list[Route]) -> list[str]:
    """Return a sentence for everything in the list that is probably not what was meant."""
    warnings = []
    for entry in listed:
        warnings += warnings_about(entry, listed, routes)
    return warnings + front_warnings(listed, routes)


def warnings_about(entry: Entry, listed: Entries, routes: list[Route]) -> list[str]:
    """Return the warnings about an entry and its scope and path."""
    arn = [entry.arn]
    requests = patterns_of(routes)
    if not shortest(requests, arn):
        return [f"{entry.name} matches none of these routes."]
    if entry.scope and not shortest(requests, arn, outside=arns_for("", listed)):
        return [f"{entry.name} is useless: entries without a scope allow the same requests."]
    if not has_all_segments(entry):
        return []
    peers = list(map(in_segments, arns_for(entry.scope, listed)))
    warnings = []
    for route in routes:
        if shortest(route.patterns, with_front(entry)) and not shortest(route.patterns, peers):
            warnings.append(
                f'{entry.name} allows {route.name} only because a wildcard matches "/", too.'
            )
    return warnings


def front_warnings(listed: Entries, routes: list[Route]) -> list[str]:
    """Return a warning if a wildcard before the verb of an entry matches a part of the path."""
    for entry in filter(has_all_segments, listed):
        extra = shortest(patterns_of(routes), [entry.arn], outside=with_front(entry))
        if extra:
            return [
                f"{entry.name} also allows {request(extra)}, because a wildcard before the verb "
                "matches a part of the path, too. Name the region, the account ID and the stage "
                "in every entry."
            ]
    return []


def has_all_segments(entry: Entry) -> bool:
    """Tell whether an entry, unlike <stage>/*, needs no wildcard that matches "/"."""
    return shortest([METHOD], [in_segments(entry.arn)]) is not None


def with_front(entry: Entry) -> list[str]:
    """Return the pattern of an entry if its wildcards before the verb didn't match "/"."""
    stage = front(entry.arn)
    return [in_segments(stage) + entry.arn.removeprefix(stage)]


def patterns_of(routes: list[Route]) -> list[str]:
    """Return the patterns of all routes."""
    patterns = []
    for route in routes:
        patterns += route.patterns
    return patterns


def in_segments(arn: str) -> str:
    """Return the pattern that an entry would be if wildcards didn't match "/", as in a shell."""
    return arn.replace("?", "{").replace("*", "}")


# The search.


def shortest(*inside: Sequence[str], outside: Sequence[str] = ()) -> str | None:
    """Return the shortest text that matches a pattern of each list inside, and none outside.

    The search tries short texts before long ones. It goes on only with the first of all texts that
    leave the same rests of the patterns to match, because the same continuations fit all of them.
    """
    lists = [*inside, outside]  # outside is the last one, here and in each state
    characters = alphabet(lists)
    start = tuple(map(with_skips, lists))
    texts = {start: ""}
    queue = [start]
    for state in queue:
        if is_match(state):
            return texts[state]
        for character in possible(state[0], characters):
            following = tuple(after(rests, character) for rests in state)
            if following not in texts and all(following[:-1]):
                texts[following] = texts[state] + character
                queue.append(following)
    return None


def alphabet(lists: list[Sequence[str]]) -> list[str]:
    """Return the characters of the patterns, "/", and one to stand for all others."""
    known = {"/"}
    for patterns in lists:
        known.update(*patterns)
    known -= set("*?{}")
    others = set(string.digits + string.ascii_lowercase) - known
    other = min(others, default=chr(ord(max(known)) + 1))
    return [other, *sorted(known)]


def is_match(state: tuple[Rests, ...]) -> bool:
    """Tell whether nothing is left to match of a pattern in each list inside, and none outside."""
    *inside, outside = state
    return all("" in rests for rests in inside) and "" not in outside


def possible(rests: Rests, characters: list[str]) -> list[str]:
    """Return the characters that can come next."""
    first = {rest[0] for rest in rests if rest}
    if first & set("*?{}"):
        return characters
    return sorted(first)


def after(rests: Rests, character: str) -> Rests:
    """Return the rests of patterns that are left to match after a character."""
    left = set()
    for rest in rests:
        if rest and matches(rest[0], character):
            left.add(rest if rest[0] in "*}" else rest[1:])
    return with_skips(left)


def matches(symbol: str, character: str) -> bool:
    """Tell whether a character of a pattern matches a character."""
    if symbol in "{}":
        return character != "/"
    return symbol in ("*", "?", character)


def with_skips(rests: Iterable[str]) -> Rests:
    """Return the rests, and what is left of them if * or } at their start matches nothing."""
    found = set(rests)
    for rest in rests:
        while rest.startswith(("*", "}")):
            rest = rest[1:]
            found.add(rest)
    return frozenset(found)


# ---- The same in jwt_auth_token.py ----
def setting(name: str, default: str = "") -> str:
    """Return an environment variable, or the default if the variable is unset or empty."""
    value = os.environ.get(name) or default
    if value.isspace():
        raise ValueError(f"{name} contains only spaces. Set a value, or remove the variable.")
    return value


def entries(name: str) -> list[str]:
    """Return the entries of a comma-separated setting, or an empty list if it is unset."""
    value = setting(name)
    if not value:
        return []
    found = [entry.strip() for entry in value.split(",")]
    if "" in found:
        raise ValueError(f"{name}: entry {found.index('') + 1} is empty. Remove the extra comma.")
    return found


def allowed_resources() -> list[tuple[str, str]]:
    """Return ALLOWED_RESOURCE_ARNS as pairs of scope and ARN. The scope "" means every token."""
    resources = []
    for number, entry in enumerate(entries("ALLOWED_RESOURCE_ARNS"), start=1):
        try:
            resources.append(scope_and_arn(entry))
        except ValueError as error:
            raise ValueError(f"ALLOWED_RESOURCE_ARNS: entry {number} {error}") from None
    return resources


def scope_and_arn(entry: str) -> tuple[str, str]:
    """Split <ARN> or <scope>=<ARN>, or raise ValueError. Its text continues "entry 2 ..."."""
    scope = ""
    arn = entry
    if not entry.startswith(("arn:", "*")):
        scope, equals, arn = entry.partition("=")
        if not equals or not re.fullmatch(r"[^\s\"'\\]+", scope):  # RFC 6749 §3.3
            raise ValueError("must be <ARN> or <scope>=<ARN>, without quotes or spaces.")
    if arn != "*":
        check_method_arn(arn)
    return scope, arn


def check_method_arn(arn: str) -> None:
    """Raise ValueError for an ARN that can't match any method. Its text continues "entry 2 ..."."""
    if not re.match(r"arn:[a-z*-]+:execute-api:", arn):
        raise ValueError("is not the ARN of an API Gateway method (execute-api).")
    if len(arn) > 512:
        raise ValueError("has more than 512 characters, the limit of API Gateway.")
    if re.search(r"[\s{}<>;\"']", arn):
        raise ValueError("has a character that no method ARN has. For {id}, write *.")
    if re.search(r"\?\w+=", arn):
        raise ValueError("has a query string, which is not part of a method ARN.")
    fields = arn.split(":", 5)
    if fields[-1] == "*":
        return  # the wildcard also covers what follows
    if len(fields) < 6 or "" in fields:
        raise ValueError("needs arn:aws:execute-api:<region>:<account>:<API ID>/<stage>/...")
    check_stage_and_method(fields[5])


def check_stage_and_method(resource: str) -> None:
    """Raise ValueError for an ARN that doesn't end in <API ID>/<stage>/<METHOD>/<path>."""
    api, _, rest = resource.partition("/")
    stage, _, rest = rest.partition("/")
    if "*" in api or "*" in stage:
        return  # the wildcard also covers what follows
    if not api or not stage or stage in METHODS or not names_method(rest):
        raise ValueError(
            "needs <API ID>/<stage>/<METHOD>/<path>, with a method such as GET, or * for ANY."
        )


def names_method(rest: str) -> bool:
    """Tell whether the end of an ARN, <METHOD>/<path>, can match a method."""
    method, slash, _ = rest.partition("/")
    if "*" in method or method == "$default":  # $default is a route of HTTP APIs
        return True
    return bool(slash) and (method in METHODS or "?" in method)  # ? is a wildcard, too


# ---- End of the copies ----


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
