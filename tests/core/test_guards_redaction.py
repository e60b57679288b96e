"""Secrets are masked wherever they are, nothing else changes, and no reason repeats them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.interceptors import Continue, Modify
from shadowcat_core.interceptors.guards import WELL_KNOWN, RedactMessages, Redactor, own_pattern
from shadowcat_core.mcp import Direction
from tests.core.guarding import ASKS, answer, call, context_of, one, raw, text, through, verdict
from tests.core.interception import FRAMINGS

BASE64 = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY3ODkw"
JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.{BASE64}"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"

# a secret, what it is called, and what of it must be gone
SECRETS = [
    ("AKIAIOSFODNN7EXAMPLE", "aws-access-key", "IOSFODNN7"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aws-secret-key", "wJalrXUtnFEMI"),
    ('{"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}', "aws-secret-key", "wJalrXUtnFEMI"),
    ("ghp_" + BASE64[:36], "github-token", BASE64[:36]),
    ("github_pat_" + BASE64[:30], "github-token", BASE64[:30]),
    ("glpat-abcdefghij0123456789", "gitlab-token", "abcdefghij"),
    ("sk-ant-api03-abcdefghij0123456789", "api-key", "abcdefghij"),
    ("sk-proj-" + BASE64, "api-key", BASE64),
    ("sk_live_abcdefghij012345", "stripe-key", "abcdefghij"),
    ("xoxb-1234567890-abcdefghij", "slack-token", "1234567890"),
    ("AIza" + BASE64[:35], "google-api-key", BASE64[:35]),
    ("npm_" + BASE64[:36], "npm-token", BASE64[:36]),
    ("pypi-" + BASE64 + "abc", "pypi-token", BASE64),
    ("hf_" + BASE64[:34], "hugging-face-token", BASE64[:34]),
    (JWT, "jwt", "eyJzdWIi"),
    (KEY, "private-key", "MIIEow"),
    (KEY[:60], "private-key", "MIIEow"),
    ("Authorization: Bearer abcdef0123456789abcdef", "bearer-token", "abcdef0123456789"),
    ("postgres://app:hunter2@db.example/main", "url-password", "hunter2"),
]
HARMLESS = [
    "",
    "AKIA is how a key of AWS begins",
    "a bearer of good news, and Bearer authentication",
    "sk-learn-has-no-digits-in-its-name-at-all",
    "task-1234567890123456789012345",
    "someone@example.com, http://example.com:8080/a@b",
    "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
    "eyJ is how a token begins",
    BASE64,
]


def redactor(**settings):
    return RedactMessages(Redactor(**settings))


@pytest.mark.parametrize(("secret", "name", "gone"), SECRETS)
@pytest.mark.parametrize("around", ["{}", "before {} after", "key={}", '"{}"', "line\n{}\nline"])
def test_a_well_known_secret_is_masked_and_named(secret, name, gone, around):
    judged = verdict(redactor(), answer(text(around.format(secret))), context_of("tools/call"))
    assert isinstance(judged, Modify)
    masked = judged.content["result"]["content"][0]["text"]
    assert gone not in masked
    assert f"[REDACTED:{name}]" in masked
    assert judged.reason == f"masked 1 secret: {name}"


@pytest.mark.parametrize("harmless", HARMLESS)
def test_what_only_looks_a_little_like_a_secret_stays(harmless):
    assert verdict(redactor(), answer(text(harmless)), context_of("tools/call")) == Continue()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(("message", "context"), [(call(arguments={"a": ["x", {"b": JWT}]}), ASKS),
                                                  (answer({"a": ["x", {"b": JWT}]}), context_of("x"))])  # fmt: skip
def test_secrets_are_masked_in_both_directions_on_every_framing(framing, message, context):
    passed = one(redactor(), message, context, framing)
    assert passed == json.loads(json.dumps(message).replace(JWT, "[REDACTED:jwt]"))


def test_a_secret_in_escapes_is_found():
    hidden = raw(answer(text("X"))).replace(b"X", b"\\u0041KIAIOSFODNN7EXAMPLE")
    assert one(redactor(), hidden, context_of("tools/call"))["result"] == text("[REDACTED:aws-access-key]")


def test_secrets_in_errors_notifications_and_requests_of_servers_are_masked():
    for message in (
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": f"bad token {JWT}", "data": [JWT]}},
        {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": {"t": JWT}}},
        {"jsonrpc": "2.0", "id": 2, "method": "elicitation/create", "params": {"message": JWT}},
    ):
        assert JWT not in json.dumps(one(redactor(), message, context_of(None)))


def test_only_the_chosen_direction_is_redacted():
    guard = RedactMessages(Redactor(), Direction.SERVER_TO_CLIENT)
    assert one(guard, call(arguments={"a": JWT}), ASKS) == call(arguments={"a": JWT})
    assert one(guard, answer(text(JWT)), context_of("tools/call")) == answer(text("[REDACTED:jwt]"))


def test_what_is_the_protocols_own_is_never_touched():
    kept = {"requestState": JWT, "name": JWT, "uri": JWT, "cursor": JWT, "_meta": {"progressToken": JWT}}
    request = {"jsonrpc": "2.0", "id": JWT, "method": JWT, "params": {**kept, "arguments": {"requestState": JWT}}}
    masked = one(redactor(names=["id", "method", "cursor", "progressToken"]), request, ASKS)
    assert masked == {**request, "params": {**kept, "arguments": {"requestState": "[REDACTED:jwt]"}}}
    result = {"requestState": JWT, "nextCursor": JWT, "_meta": {"io.modelcontextprotocol/x": JWT}, "inputRequests": {}}
    assert verdict(redactor(), answer(result, JWT), context_of("tools/call")) == Continue()


def test_base64_of_images_and_blobs_is_not_searched():
    chance = "AKIAIOSFODNN7EXAMPLE"
    result = {"content": [{"type": "image", "data": chance}, {"type": "resource", "resource": {"blob": chance}}]}
    assert verdict(redactor(), answer(result), context_of("tools/call")) == Continue()
    assert verdict(redactor(), answer({"data": chance}), context_of("tools/call")) != Continue()


def test_members_are_masked_by_name_with_their_types_kept():
    secret = {"Password": "p", "pin": 1234, "on": True, "none": None, "list": ["a", 2, {"x": "y"}]}
    guard = redactor(names=["password", "PIN", "on", "none", "list"])
    masked = one(guard, call(arguments=secret), ASKS)["params"]["arguments"]
    assert masked == {
        "Password": "[REDACTED:password]", "pin": 0, "on": True, "none": None,
        "list": ["[REDACTED:list]", 0, {"x": "[REDACTED:list]"}],
    }  # fmt: skip
    assert verdict(guard, call(arguments=masked), ASKS).reason == "masked 3 secrets: list ×2, password"


@pytest.mark.parametrize("spelled", [b'"token"', b'"TOKEN"', b'"t\\u006fken"'])
def test_a_members_name_is_found_however_it_is_spelled(spelled):
    message = raw(answer({"X": "abc"})).replace(b'"X"', spelled)
    (value,) = one(redactor(names=["token"]), message, context_of("x"))["result"].values()
    assert value == "[REDACTED:token]"


def test_a_name_beyond_ascii_is_found_too():
    assert one(redactor(names=["Schlüssel"]), answer({"SCHLÜSSEL": "abc"}), context_of("x"))["result"] == {
        "SCHLÜSSEL": "[REDACTED:schlüssel]"
    }


def test_a_schemas_members_are_not_masked_by_name():
    tools = {"tools": [{"name": "login", "inputSchema": {"properties": {"password": {"type": "string"}}}}]}
    assert verdict(redactor(names=["password"]), answer(tools), context_of("tools/list")) == Continue()


def test_members_are_masked_by_pointer():
    guard = redactor(pointers=["/params/arguments/0/a~1b", "/params/arguments/1", "/params/arguments/1/deep"])
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "x",
        "params": {"arguments": [{"a/b": "s", "c": "s"}, {"d": ["s"]}]},
    }
    assert one(guard, message, ASKS)["params"]["arguments"] == [
        {"a/b": "[REDACTED:pointer]", "c": "s"},
        {"d": ["[REDACTED:pointer]"]},
    ]
    wider = redactor(pointers=["/params/arguments/1/d", "/params/arguments/1"])
    assert one(wider, message, ASKS)["params"]["arguments"][1] == {"d": ["[REDACTED:pointer]"]}


@pytest.mark.parametrize(
    "pointer", ["params", "", "/params/a~2", "/id", "/params/requestState", "/params/name/x", "/params", "/result"]
)
def test_a_pointer_that_is_none_or_leads_to_what_the_protocol_needs_is_refused(pointer):
    with pytest.raises(ValueError, match=r"JSON Pointer|protocol's own"):
        Redactor(pointers=[pointer])


def test_an_empty_name_is_refused():
    with pytest.raises(ValueError, match="empty name"):
        Redactor(names=[""])


def test_own_patterns_mask_all_they_match_or_their_group():
    guard = redactor(patterns=[own_pattern("[0-9]{4}-[0-9]{4}"), own_pattern("pin=(x*)([0-9]+)?", 2)])
    assert one(guard, answer(text("a 1234-5678 pin=xx77 pin=")), context_of("x"))["result"] == text(
        "a [REDACTED:pattern-1] pin=[REDACTED:pattern-2]77 pin="
    )


@pytest.mark.parametrize("pattern", ["(", "a*", "", "x{99999999999}"])
def test_a_pattern_that_is_none_or_matches_everything_is_refused(pattern):
    with pytest.raises(ValueError, match=r"regular expression|empty text"):
        own_pattern(pattern)


def test_what_may_be_json_to_others_and_cannot_be_read_is_blocked_when_it_may_hold_a_secret():
    broken = raw(answer(text(JWT)))[:-1]
    assert through(redactor(), broken, context_of("tools/call")) == ([], [])
    utf16 = '{"jsonrpc":"2.0","id":1,"result":{}}'.encode("utf-16-le")
    assert through(redactor(), utf16, context_of("tools/call"))[0] == []
    talk = b"listening, with token " + JWT.encode()
    assert verdict(redactor(), talk, context_of("x")) == Continue()
    assert verdict(redactor(), f'["{JWT}"]'.encode(), context_of("x")) == Continue()


def test_a_broken_message_without_a_hint_of_a_secret_passes():
    assert verdict(redactor(), b'{"jsonrpc":"2.0","id":1,"result":NaN}', context_of("x")) == Continue()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=20,
)
MARK = "<secret>"


def planted(draw, value, secrets):
    """A copy of a value with secrets in some of its texts, each told by a mark."""
    if isinstance(value, str):
        return value + draw(st.sampled_from(["", " ", *secrets]))
    if isinstance(value, list):
        return [planted(draw, item, secrets) for item in value]
    if isinstance(value, dict):
        return {name: planted(draw, item, secrets) for name, item in value.items()}
    return value


def shape(value):
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return str if isinstance(value, str) else value


@given(st.data())
def test_structure_stays_and_only_secrets_change(data):
    plain = data.draw(JSON)
    secret = data.draw(st.sampled_from([f" {secret} ." for secret, *_ in SECRETS if not secret.startswith("-----")]))
    value = planted(data.draw, plain, [secret])
    masked, found = Redactor().masked(answer(value))
    assert shape(masked) == shape(answer(value))
    count = json.dumps(value, ensure_ascii=False).count(json.dumps(secret, ensure_ascii=False)[1:-1])
    assert found.total() == count
    again, found = Redactor().masked(masked)
    assert again is masked
    assert not found


@given(st.sampled_from(WELL_KNOWN), st.data())
def test_every_match_of_a_pattern_holds_one_of_its_hints(pattern, data):
    matching = data.draw(st.from_regex(pattern.pattern))
    found = pattern.pattern.search(matching)
    assert found is not None
    assert any(hint in found[0] for hint in pattern.hints)
    assert Redactor().may_concern(raw(answer(text(matching))))


@pytest.mark.parametrize(
    "hostile",
    ["-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "eyJ", "eyJaaaaaaaa.", "Bearer ", "sk-", "://", "://a:", "@://:",
     "sk-a", "AKIA", "secretAccessKey=", "xoxb-", "eyJ-"],
)  # fmt: skip
def test_no_text_takes_long_to_search(hostile):
    # A quadratic search of this text would take hours; the suite's time-out is the measure.
    Redactor().masked(answer(text(hostile * (2_000_000 // len(hostile)))))
