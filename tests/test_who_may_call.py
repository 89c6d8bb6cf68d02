"""who_may_call.py: what it says about a list and routes, and that what it says is what IAM does."""

import functools
import io
import itertools
import re
import runpy
import sys
from collections.abc import Callable

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.deploy import API, SECRET, Deploy
from support.files import ROOT
from support.iam import iam_match

import who_may_call

SCRIPT = str(ROOT / "who_may_call.py")
PROD = f"{API}/prod"
VERBS = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]
NO_SCOPE = "(no scope)"

Run = Callable[..., tuple[int, list[str], str]]


class Typed(io.StringIO):
    """A standard input that may be a terminal."""

    terminal = False

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line, with a text on standard input, and return status, lines and errors."""
    monkeypatch.setenv("ALLOWED_RESOURCE_ARNS", "")  # and put back after the test

    def run(*arguments: str, typed: str = "") -> tuple[int, list[str], str]:
        monkeypatch.setattr(sys, "stdin", Typed(typed))
        try:
            status = who_may_call.main(list(arguments))
        except SystemExit as stop:
            status = int(str(stop.code))
        printed = capsys.readouterr()
        return status, printed.out.splitlines(), printed.err

    return run


def table(lines: list[str]) -> dict[str, dict[str, str]]:
    """Return the cells of a printed table, by route and column."""
    rows = [re.split(" {3,}", line) for line in lines if not re.match(" |Warning", line)]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[1:]}


def cell(run: Run, listed: str, route: str, column: str = NO_SCOPE) -> str:
    """Return what the table says about a route."""
    _, lines, errors = run(listed, route)
    assert not errors
    return table(lines)[route][column]


# The table.


def test_table_has_a_row_for_each_route_and_a_column_for_each_scope(run: Run) -> None:
    listed = f"{PROD}/GET/api, read={PROD}/GET/api/orders/*, admin={PROD}/DELETE/api/admin/*"
    routes = ["GET /api", "GET /api/orders/{id}", "DELETE /api/admin/{id}"]
    assert run(listed, *routes) == (
        0,
        [
            "route                    (no scope)   read   admin",
            "GET /api                 yes          yes    yes",
            "GET /api/orders/{id}     no           yes    no",
            "DELETE /api/admin/{id}   no           no     yes",
        ],
        "",
    )


def test_some_has_an_example_of_a_request_that_is_allowed_and_of_one_that_is_not(run: Run) -> None:
    status, lines, _ = run(f"{PROD}/GET/api/a*, read={PROD}/GET/api/?", "GET /api/{id}")
    assert status == 0
    assert lines[1:] == [
        "GET /api/{id}   some         some",
        "    (no scope): GET /api/a is allowed, GET /api/g isn't",
        "    read: GET /api/g is allowed, GET /api/gg isn't",
    ]


def test_example_that_is_for_several_columns_is_printed_once(run: Run) -> None:
    _, lines, _ = run(f"{PROD}/GET/api/a, read={PROD}/GET/x", "GET /api/{id}", "GET /x")
    assert lines[2] == "    (no scope), read: GET /api/a is allowed, GET /api/g isn't"


def test_column_of_a_scope_is_for_tokens_that_have_only_this_scope(run: Run) -> None:
    listed = f"{PROD}/GET/a, read={PROD}/GET/b, admin={PROD}/GET/c"
    _, lines, _ = run(listed, "GET /a", "GET /b", "GET /c")
    assert [list(row.values()) for row in table(lines).values()] == [
        ["yes", "yes", "yes"],
        ["no", "yes", "no"],
        ["no", "no", "yes"],
    ]


def test_without_a_list_every_valid_token_may_call_every_method(run: Run) -> None:
    status, lines, _ = run("", "GET /api", "$default")
    assert status == 0
    assert table(lines) == {"GET /api": {NO_SCOPE: "yes"}, "$default": {NO_SCOPE: "yes"}}


# The routes.


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param("GET /api\nPOST /orders/{id}\n$default\n", id="one per line"),
        pytest.param("GET /api\tPOST /orders/{id}\t$default\n", id="as the AWS CLI prints them"),
        pytest.param("GET/api\r\nPOST/orders/{id}\r\n\r\n $default", id="without the space"),
        pytest.param("GET /api\nGET /api\nPOST /orders/{id}\n$default", id="one of them twice"),
    ],
)
def test_routes_are_read_from_a_pipe(run: Run, typed: str) -> None:
    _, lines, _ = run("*", typed=typed)
    assert list(table(lines)) == ["GET /api", "POST /orders/{id}", "$default"]


def test_several_verbs_are_several_rows(run: Run) -> None:
    _, lines, _ = run("*", "GET,POST /api")
    assert list(table(lines)) == ["GET /api", "POST /api"]


@pytest.mark.parametrize(
    ("route", "path", "answer"),
    [
        pytest.param("GET /api/{id}", "api/*", "yes", id="variable"),
        pytest.param("GET /api/{id}", "api/?*", "yes", id="variable has a character"),
        pytest.param("GET /api/{id}", "api/??*", "some", id="variable may have only one"),
        pytest.param("GET /api/{id}", "api/*/*", "no", id="variable has no slash"),
        pytest.param("GET /{id}/x", "*/x", "yes", id="variable in the middle"),
        pytest.param("GET /api/{proxy+}", "api/*/*", "some", id="greedy variable has slashes"),
        pytest.param("GET /api/{proxy+}", "api/?*", "yes", id="greedy variable has a character"),
        pytest.param("GET /api/{proxy+}", "api", "no", id="greedy variable is not nothing"),
        pytest.param("ANY /api", "api", "some", id="ANY is more than GET"),
        pytest.param("$default", "*", "some", id="$default is more than GET"),
        pytest.param("GET /", "", "yes", id="root"),
        pytest.param("GET /.$-_~%20", ".$-_~%20", "yes", id="no special characters but wildcards"),
    ],
)
def test_route_stands_for_its_requests(run: Run, route: str, path: str, answer: str) -> None:
    assert cell(run, f"{PROD}/GET/{path}", route) == answer


@pytest.mark.parametrize("route", ["ANY /api", "$default"])
def test_any_verb_is_each_of_seven(run: Run, route: str) -> None:
    entries = [f"{PROD}/{verb}/*" for verb in VERBS]
    assert cell(run, ",".join(entries), route) == "yes"
    for entry in entries:
        rest = [other for other in entries if other != entry]
        assert cell(run, ",".join(rest), route) == "some"


def test_default_route_has_every_path(run: Run) -> None:
    entries = [f"{PROD}/{verb}/" for verb in VERBS]
    assert cell(run, ",".join(entries), "$default") == "some"
    assert cell(run, ",".join(entries), "ANY /") == "yes"


# Wildcards.


@pytest.mark.parametrize(
    ("path", "route", "answer"),
    [
        pytest.param("api/a*", "GET /api/a", "yes", id="* matches nothing"),
        pytest.param("api/a*", "GET /api/a/b/c", "yes", id="* matches slashes"),
        pytest.param("api/*", "GET /api", "no", id="* does not match the slash before it"),
        pytest.param("a*c*e", "GET /abcde", "yes", id="several"),
        pytest.param("a*c*e", "GET /abcd", "no", id="several, and another end"),
        pytest.param("api**", "GET /api", "yes", id="several, and nothing"),
        pytest.param("api/?", "GET /api/", "no", id="? does not match nothing"),
        pytest.param("api/?", "GET /api/ab", "no", id="? does not match two characters"),
        pytest.param("api?a", "GET /api/a", "yes", id="? matches a slash"),
        pytest.param("a?b*d", "GET /a:b:c:d", "yes", id="both match colons"),
        pytest.param("API", "GET /api", "no", id="capitals count"),
        pytest.param("a[bc]", "GET /ab", "no", id="brackets mean themselves"),
    ],
)
def test_wildcards_match_as_in_iam(run: Run, path: str, route: str, answer: str) -> None:
    assert cell(run, f"{PROD}/GET/{path}", route) == answer


# The stage.


@pytest.mark.parametrize(
    "listed",
    [
        f"{PROD}/GET/api",
        "arn:aws:execute-api:*:*:abcdef1234/prod/GET/api",
        "arn:aws:execute-api:*:*:abcdef1234/*/GET/api, arn:*:execute-api:*:*:*/prod/POST/api",
        f"{API}/*/GET/api, arn:aws:execute-api:*:123456789012:a*/prod/GET/api, *",
        "arn:aws:execute-api:*:*:*/GET/api",
        "arn:aws:execute-api:*:*:*",
        "arn:aws:execute-api:*",
        "*",
    ],
)
def test_routes_are_in_the_stage_that_all_entries_are_for(run: Run, listed: str) -> None:
    assert cell(run, listed, "GET /api") == "yes"


TWO_STAGES = f"{API}/prod/GET/api, read={API}/test/GET/api"


def test_stage_is_asked_for_if_the_list_has_several(run: Run) -> None:
    status, lines, errors = run(TWO_STAGES, "GET /api")
    assert (status, lines) == (2, [])
    assert "--stage abcdef1234/prod" in errors


@pytest.mark.parametrize(
    ("stage", "cells"),
    [
        pytest.param("abcdef1234/prod", {NO_SCOPE: "yes"}, id="one"),
        pytest.param("abcdef1234/test", {NO_SCOPE: "no", "read": "yes"}, id="the other"),
    ],
)
def test_entries_for_other_stages_are_left_out(run: Run, stage: str, cells: dict[str, str]) -> None:
    status, lines, _ = run(TWO_STAGES, "GET /api", "--stage", stage)
    assert (status, table(lines)) == (0, {"GET /api": cells})


@pytest.mark.parametrize("stage", ["abcdef1234/prd", "bcdef1234/prod", "prod"])
def test_stage_that_no_entry_is_for_is_refused(run: Run, stage: str) -> None:
    status, lines, errors = run(f"{PROD}/GET/api", "GET /api", "--stage", stage)
    assert (status, lines) == (2, [])
    assert f"No entry of the list is for stage {stage}. Correct --stage" in errors


# The warnings.


def warnings(run: Run, listed: str, *routes: str) -> list[str]:
    """Return what is printed as a warning, without the ARNs of entries."""
    status, lines, _ = run(listed, *routes)
    found = [line for line in lines if line.startswith("Warning: ")]
    assert status == min(len(found), 1)
    return [re.sub(r" \(.*?\)", "", line.removeprefix("Warning: "), count=1) for line in found]


def test_entry_that_matches_no_route_is_a_warning(run: Run) -> None:
    listed = f"{PROD}/GET/api, read={PROD}/GET/ordres"
    assert warnings(run, listed, "GET /api", "GET /orders") == [
        "entry 2 matches none of these routes."
    ]


def test_warning_shows_the_entry(run: Run) -> None:
    _, lines, _ = run(f"*, read={PROD}/GET/x", "GET /api")
    assert lines[-1] == f"Warning: entry 2 (read={PROD}/GET/x) matches none of these routes."


USELESS = "is useless: entries without a scope allow the same requests."


def test_scope_that_adds_nothing_is_a_warning(run: Run) -> None:
    listed = f"{PROD}/GET/*, admin={PROD}/GET/api/admin"
    assert warnings(run, listed, "GET /api", "GET /api/admin")[-1] == f"entry 2 {USELESS}"


def test_scope_that_adds_nothing_to_several_entries_is_a_warning(run: Run) -> None:
    listed = f"{PROD}/GET/a, {PROD}/POST/a, admin={PROD}/*/a"
    assert warnings(run, listed, "GET /a", "POST /a") == [f"entry 3 {USELESS}"]
    assert warnings(run, listed, "GET /a", "POST /a", "PUT /a") == []


def test_scope_that_repeats_another_scope_is_no_warning(run: Run) -> None:
    assert warnings(run, f"read={PROD}/GET/a, admin={PROD}/GET/a", "GET /a") == []


ORDERS = ["GET /orders/{id}", "GET /orders/{id}/invoice"]
BY_SLASH = 'entry 1 allows GET /orders/{id}/invoice only because a wildcard matches "/", too.'


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param(f"{PROD}/GET/orders/*", id="*"),
        pytest.param(f"{PROD}/GET/orders/??invoice", id="?"),
        pytest.param(f"read={PROD}/GET/orders/*, admin={PROD}/GET/orders/*/invoice", id="scopes"),
    ],
)
def test_route_that_is_allowed_because_a_wildcard_matches_slashes_is_a_warning(
    run: Run, listed: str
) -> None:
    assert warnings(run, listed, *ORDERS)[0] == BY_SLASH
    assert warnings(run, listed, ORDERS[1])[0] == BY_SLASH


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param(f"{PROD}/GET/orders/*, {PROD}/GET/orders/*/invoice", id="another allows it"),
        pytest.param(f"{PROD}/*", id="stage"),
        pytest.param(f"{API}/*", id="API"),
        pytest.param("*", id="everything"),
    ],
)
def test_wildcard_that_is_meant_to_match_slashes_is_no_warning(run: Run, listed: str) -> None:
    assert warnings(run, listed, *ORDERS) == []


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("arn:aws:execute-api:*:*:abcdef1234/prod/GET/a", id="account ID"),
        pytest.param("arn:aws:execute-api:*:123456789012:abcdef1234/prod/GET/a", id="region"),
        pytest.param(f"{API}/*/GET/a", id="stage"),
    ],
)
def test_wildcard_before_the_verb_that_matches_a_part_of_the_path_is_a_warning(
    run: Run, entry: str
) -> None:
    listed = f"{PROD}/GET/b, {entry}"
    assert warnings(run, listed, "GET /a", "GET /b", "GET /{id}") == []
    (warning,) = warnings(run, listed, "GET /a", "GET /b", "DELETE /{proxy+}")
    found = re.fullmatch(
        r"entry 2 also allows DELETE (/\S+), because a wildcard before the verb matches a part of "
        r"the path, too\. Name the region, the account ID and the stage in every entry\.",
        warning,
    )
    assert found
    assert iam_match(entry, f"{PROD}/DELETE{found[1]}")
    assert warnings(run, f"{PROD}/GET/a", "GET /a", "DELETE /{proxy+}") == []


# What is refused.


@pytest.mark.parametrize(
    "route",
    [
        pytest.param("GET", id="no path"),
        pytest.param("/api", id="no verb"),
        pytest.param("get /api", id="small letters"),
        pytest.param("GET, POST /api", id="space after a comma"),
        pytest.param("GET /api/*", id="wildcard"),
        pytest.param("GET /api?page=1", id="query string"),
        pytest.param("GET /api/{id", id="open brace"),
        pytest.param("GET /api/{}", id="no name"),
        pytest.param("GET /a b", id="space"),
        pytest.param("GET /é", id="not ASCII"),
        pytest.param("GET /\x7f", id="not printable"),
        pytest.param("$connect", id="WebSocket"),
    ],
)
def test_route_that_is_none_is_refused(run: Run, route: str) -> None:
    status, lines, errors = run("*", "GET /api", route)
    assert (status, lines) == (2, [])
    assert errors == (
        f"{route!r} is not a route. Use verbs in capitals and a path without wildcards, "
        'such as "GET /api/orders/{id}", or $default.\n'
    )


def test_no_route_is_refused(run: Run) -> None:
    assert run("*", typed="\n")[0] == 2


def test_terminal_is_not_waited_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Typed, "terminal", True)
    status, lines, errors = run("*", typed="GET /api")
    assert (status, lines) == (2, [])
    assert errors == 'There is no route. Name at least one, such as "GET /api".\n'


@pytest.mark.parametrize("arguments", [[], ["*", "GET /api", "--verbose"]])
def test_wrong_arguments_are_refused(run: Run, arguments: list[str]) -> None:
    assert run(*arguments)[0] == 2


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param(" ", id="spaces"),
        pytest.param("GET /api", id="no ARN"),
        pytest.param("read=GET/api", id="scope and no ARN"),
        pytest.param(f"{PROD}/GET/api,", id="comma at the end"),
        pytest.param(f"{PROD}/GET/api,{PROD}/get/api", id="verb in small letters"),
        pytest.param(f"{PROD}/GET/users/{{id}}", id="braces"),
        pytest.param("x" * 100, id="nothing like it"),
        pytest.param(
            "arn:aws:execute-api:eu-west-1:123456789012:abcdef1234/GET/api/x", id="no stage"
        ),
        pytest.param(f"{API}/GET/GET/api", id="verb as the stage"),
        pytest.param("arn:aws:execute-api:eu-west-1/prod/GET/api", id="no account ID"),
        pytest.param(f"{PROD}", id="no verb"),
        pytest.param(f'"{PROD}/GET/api"', id="quotes"),
        pytest.param(f"{PROD}/GET/api?page=1", id="query string"),
        pytest.param(f"={PROD}/GET/api", id="no scope"),
        pytest.param(f"{PROD}/GET/".ljust(513, "x"), id="too long"),
    ],
)
def test_list_that_the_authorizer_refuses_is_refused_with_its_words(
    run: Run, deploy: Deploy, listed: str
) -> None:
    with pytest.raises(ValueError, match="ALLOWED_RESOURCE_ARNS") as refused:
        deploy("jwt_auth_token", JWT_SECRET=SECRET, ALLOWED_RESOURCE_ARNS=listed)
    assert run(listed, "GET /api") == (2, [], f"{refused.value}\n")


def test_rules_of_the_list_are_the_authorizers_letter_for_letter() -> None:
    authorizer = (ROOT / "jwt_auth_token.py").read_text()
    _, shared = (
        (ROOT / "who_may_call.py").read_text().split("# ---- The same in jwt_auth_token.py ----\n")
    )
    shared, _ = shared.split("# ---- End of the copies ----\n")
    functions = re.split(r"^(?=def )", shared.strip(), flags=re.MULTILINE)
    assert len(functions) == 8  # the first is empty
    assert not [function for function in functions if function.strip() not in authorizer]


def test_script_ends_with_the_status(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [SCRIPT, "*", "GET /api"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(SCRIPT, run_name="__main__")
    assert stop.value.code == 0
    assert "GET /api   yes" in capsys.readouterr().out


# The oracle: all requests whose path has up to five of three characters. No pattern names the "c".

PATHS = ["".join(path) for size in range(6) for path in itertools.product("ac/", repeat=size)]
REQUESTS = [f"{verb} /{path}" for verb in VERBS for path in PATHS]
VARIABLES = {"{id}": "[^/]+", "{proxy+}": ".+"}


def fits(request: str, route: str) -> bool:
    """Tell whether a request fits a route, by a regular expression."""
    if route == "$default":
        return True
    verb, _, path = route.partition(" ")
    verbs = "[A-Z]+" if verb == "ANY" else verb
    segments = [VARIABLES.get(segment, segment) for segment in path.split("/")]
    return re.fullmatch(f"{verbs} {'/'.join(segments)}", request) is not None


def allows(arn: str, request: str) -> bool:
    """Tell whether IAM allows a request because of an ARN."""
    return iam_match(arn, f"{PROD}/{request.replace(' /', '/')}")


@functools.cache
def all_fitting(route: str) -> set[str]:
    return {request for request in REQUESTS if fits(request, route)}


@functools.cache
def all_allowed(arn: str) -> set[str]:
    return {request for request in REQUESTS if allows(arn, request)}


def check(answer: str, example: str, route: str, arns: list[str]) -> None:
    """Check a cell: "yes" and "no" with all those requests, "some" with its own example."""
    requests = all_fitting(route)
    allowed = set[str]().union(*map(all_allowed, arns))
    if answer == "yes":
        assert requests <= allowed
    elif answer == "no":
        assert not requests & allowed
    else:
        found = re.fullmatch(r"(\S+ \S+) is allowed, (\S+ \S+) isn't", example)
        assert found
        assert [fits(request, route) for request in found.groups()] == [True, True]
        assert any(allows(arn, found[1]) for arn in arns)
        assert not any(allows(arn, found[2]) for arn in arns)


def joined(separator: str, *parts: str, size: int) -> st.SearchStrategy[str]:
    """Return texts that consist of up to so many of these parts."""
    return st.lists(st.sampled_from(parts), max_size=size).map(separator.join)


scopes = st.sampled_from(["", "", "read=", "admin="])
fronts = st.sampled_from([PROD, PROD, "arn:aws:execute-api:*:*:abcdef1234/prod", f"{API}/?r*"])
verbs = st.sampled_from(["GET", "GET", "P*T", "*"])
methods = st.builds(
    "{}/{}/{}".format, fronts, verbs, joined("", "a", "*", "?", "/", "a/", "/a", size=4)
)
wide = st.sampled_from(["*", f"{API}/*", f"{PROD}/*a"])
entries = st.tuples(scopes, st.one_of(methods, methods, methods, wide)).map("".join)
paths = st.one_of(
    joined("/", "a", "aa", "{id}", size=3),
    joined("", "a/", "{id}/", size=2).map("{}{{proxy+}}".format),
)
routes = st.one_of(
    st.builds("{} /{}".format, st.sampled_from(["GET", "GET", "POST", "ANY"]), paths),
    st.just("$default"),
)


@settings(phases=[Phase.reuse, Phase.generate])  # to shrink a failure would take minutes
@given(st.lists(entries, min_size=1, max_size=4), st.lists(routes, min_size=1, max_size=3))
def test_every_cell_says_what_iam_decides_about_every_short_request(
    run: Run, listed: list[str], names: list[str]
) -> None:
    _, lines, errors = run(",".join(listed), *names)
    assert not errors
    scoped = [entry.rpartition("=")[::2] for entry in listed]
    for name, cells in table(lines).items():
        examples = examples_under(lines, name)
        for column, answer in cells.items():
            arns = [arn for scope, arn in scoped if scope in ("", column)]
            check(answer, examples.get(column, ""), name, arns)


def examples_under(lines: list[str], name: str) -> dict[str, str]:
    """Return the examples under the row of a route, by column."""
    examples: dict[str, str] = {}
    row = next(number for number, line in enumerate(lines) if line.startswith(f"{name}   "))
    for line in itertools.takewhile(lambda line: line.startswith(" "), lines[row + 1 :]):
        columns, _, example = line.strip().partition(": ")
        examples |= dict.fromkeys(columns.split(", "), example)
    return examples


patterns = st.text("ab*?{}", max_size=4)
lists = st.lists(patterns, min_size=1, max_size=3)
SHORT = ["".join(text) for size in range(6) for text in itertools.product("abc/", repeat=size)]
EXPRESSIONS = {"*": ".*", "?": ".", "{": "[^/]", "}": "[^/]*"}


def matched(text: str, these: list[str]) -> bool:
    """Tell whether a text matches one of some patterns, by regular expressions."""
    expressions = ("".join(EXPRESSIONS.get(it, it) for it in pattern) for pattern in these)
    return any(re.fullmatch(expression, text) for expression in expressions)


@given(lists, lists, lists)
def test_search_finds_the_shortest_text_or_there_is_none(
    first: list[str], second: list[str], outside: list[str]
) -> None:
    found = who_may_call.shortest(first, second, outside=outside)
    wanted = (
        text
        for text in SHORT
        if matched(text, first) and matched(text, second) and not matched(text, outside)
    )
    shortest = next(wanted, None)
    if shortest is not None:
        assert found is not None
        assert len(found) == len(shortest)
    elif found is not None:
        assert len(found) > 5
    if found is not None:
        assert matched(found, first)
        assert matched(found, second)
        assert not matched(found, outside)
