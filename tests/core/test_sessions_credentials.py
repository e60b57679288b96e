"""Whose a token is can be told without reading more into it than it says, whatever somebody sends as one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadowcat_core.limits import MAX_READ_TOKEN_BYTES
from shadowcat_core.sessions import CredentialBinder
from shadowcat_core.sessions.access_tokens import holder_of, spoil_signature
from shadowcat_core.sessions.credentials import Likeness
from tests.core.token_parts import forged, is_genuine, jwt, part, token_of

KEY = b"0123456789abcdef"
BINDER = CredentialBinder(KEY)
ALICE = {"iss": "i", "sub": "alice", "client_id": "app"}

HEADERS = st.binary(max_size=300).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["iss", "sub", "azp"]), inner),
    max_leaves=8,
)
CLAIMS = JSON | st.dictionaries(st.sampled_from(["iss", "sub", "client_id", "azp", "exp"]), JSON)
TOKENS = st.builds(lambda claims: f"Bearer {jwt(claims)}", CLAIMS | st.binary(max_size=60))


def test_a_credential_is_recognised_and_cannot_be_read():
    bound = BINDER.bind("Bearer secret")
    assert "secret" not in bound
    assert BINDER.matches(bound, "Bearer secret")
    for other in ("Bearer secre", "Bearer Secret", "", None, "Bearer secret ", "\udcff"):
        assert not BINDER.matches(bound, other)
    assert not CredentialBinder(KEY[::-1]).matches(bound, "Bearer secret")


def test_a_session_without_authorization_is_no_session_of_one_who_has_some():
    anonymous = BINDER.bind(None)
    assert BINDER.compare(anonymous, None) is Likeness.SAME
    assert BINDER.compare(anonymous, token_of()) is Likeness.OTHER
    assert BINDER.compare(BINDER.bind(token_of()), None) is Likeness.OTHER
    assert BINDER.compare(BINDER.bind(""), None) is Likeness.OTHER
    assert BINDER.compare(anonymous, "") is Likeness.OTHER


@pytest.mark.parametrize(
    ("first", "second", "likeness"),
    [
        (token_of(n=1), token_of(n=1), Likeness.SAME),
        (token_of(n=1), token_of(n=2, exp=10**10, scope="more"), Likeness.RENEWED),
        (token_of(n=1), token_of(n=2).replace("Bearer", "bearer "), Likeness.RENEWED),
        (token_of(n=1), forged(n=1), Likeness.RENEWED),  # a claim and no proof
        (token_of(), token_of("bob"), Likeness.OTHER),
        (token_of(), token_of("Alice"), Likeness.OTHER),
        (token_of(), token_of(iss="https://other.example"), Likeness.OTHER),
        (token_of(), token_of(iss=None), Likeness.OTHER),
        (token_of(), token_of(client_id="other"), Likeness.OTHER),
        (token_of(), token_of(client_id=None), Likeness.OTHER),
        (token_of(client_id=None, azp="app"), token_of(), Likeness.RENEWED),
        (token_of(client_id=None, azp="a"), token_of(client_id=None, azp="b"), Likeness.OTHER),
        (token_of(client_id=""), token_of(client_id=None), Likeness.OTHER),
        (token_of("\ud800"), token_of("\ud800", n=2), Likeness.RENEWED),
        (token_of("\ud800"), token_of("\ufffd"), Likeness.OTHER),
        ("Bearer opaque", "Bearer other", Likeness.OTHER),
        ("Bearer opaque", token_of(), Likeness.OTHER),
        (token_of(), "Bearer opaque", Likeness.OTHER),
        (token_of(n=1).replace("Bearer", "DPoP"), token_of(n=2).replace("Bearer", "DPoP"), Likeness.OTHER),
    ],
)
def test_a_token_is_the_same_or_of_the_same_holder_or_somebody_elses(first, second, likeness):
    bound = BINDER.bind(first)
    assert BINDER.compare(bound, second) is likeness
    assert BINDER.matches(bound, second) is (likeness is Likeness.SAME)
    assert "alice" not in bound


def test_a_header_that_reads_as_a_holder_does_not_have_the_holders_hash():
    _, _, holder = BINDER.bind(token_of()).partition(".")
    assert BINDER.bind(holder_of(token_of()).decode()) != holder


def test_hashes_of_another_key_are_nobodys():
    other = CredentialBinder(KEY[::-1])
    assert other.compare(BINDER.bind(token_of()), token_of()) is Likeness.OTHER


def test_a_credential_of_before_holders_were_kept_goes_on_with_its_token_alone():
    old, _, holder = BINDER.bind(token_of(n=1)).partition(".")
    assert (len(old), len(holder)) == (64, 64)
    assert BINDER.compare(old, token_of(n=1)) is Likeness.SAME
    assert BINDER.compare(old, token_of(n=2)) is Likeness.OTHER


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ..",
        "Bearer a.b.c",
        f"Bearer {jwt(ALICE)}.x",
        f"Bearer {jwt(ALICE)} ",
        f"Bearer {jwt(ALICE)}, Bearer {jwt(ALICE)}",
        f"Basic {jwt(ALICE)}",
        f"{jwt(ALICE)}",
        f"Bearer {jwt(ALICE).rpartition('.')[0]}.",  # unsigned
        f"Bearer x.{part(b'x')}x.signature",  # no base64: a length that cannot be
        *(
            f"Bearer {jwt(claims)}"
            for claims in (
                b"",
                b"\xff",
                b"null",
                b"[]",
                b'"sub"',
                b"{",
                b'{"sub":"a"}}',
                b'{"sub":"alice","sub":"bob"}',
                b'{"sub":"alice","x":{"y":1,"y":2}}',
                b'{"sub":' + b"9" * 5_000 + b"}",
                b'{"sub":"a","x":' + b"[" * 10_000 + b"]" * 1_000 + b"}",
                b'{"sub":"a","x":' + b'{"x":' * 2_000,
                {},
                {**ALICE, "sub": ""},
                {**ALICE, "sub": None},
                {**ALICE, "sub": 1},
                {**ALICE, "sub": ["alice"]},
                {**ALICE, "sub": {"alice": 1}},
                {**ALICE, "sub": True},
                {**ALICE, "iss": 1},
                {**ALICE, "iss": ["i"]},
                {**ALICE, "client_id": {}},
                {**ALICE, "azp": 1},
                {"iss": "i", "client_id": "app"},
                {**ALICE, "groups": "x" * MAX_READ_TOKEN_BYTES},
            )
        ),
    ],
)
def test_a_token_that_does_not_plainly_name_its_holder_has_none(authorization):
    assert holder_of(authorization) is None
    bound = BINDER.bind(authorization)
    assert len(bound) == 64
    assert BINDER.compare(bound, authorization) is Likeness.SAME
    assert BINDER.compare(bound, token_of()) is Likeness.OTHER
    assert BINDER.compare(BINDER.bind(token_of()), authorization) is Likeness.OTHER


def test_a_token_is_read_up_to_its_limit():
    empty = len(token_of(fill=""))
    fill = "x" * ((MAX_READ_TOKEN_BYTES - empty) * 3 // 4 - 3)
    assert MAX_READ_TOKEN_BYTES - 8 < len(token_of(fill=fill)) <= MAX_READ_TOKEN_BYTES
    assert holder_of(token_of(fill=fill)) == holder_of(token_of())
    assert holder_of(token_of(fill=fill + "x" * 9)) is None


@pytest.mark.parametrize("n", range(20))
def test_a_spoilt_token_says_the_same_and_is_not_genuine(n):
    spoilt = spoil_signature(token_of(n=n))
    assert is_genuine(token_of(n=n))
    assert not is_genuine(spoilt)
    assert spoilt.rpartition(".")[0] == token_of(n=n).rpartition(".")[0]
    assert len(spoilt) == len(token_of(n=n))
    assert BINDER.compare(BINDER.bind(token_of(n=n)), spoilt) is Likeness.RENEWED
    assert spoil_signature(spoilt) != spoilt


def test_what_is_not_signed_cannot_be_spoilt():
    with pytest.raises(ValueError, match="no signed token"):
        spoil_signature("Bearer opaque")


@given(HEADERS | TOKENS, HEADERS | TOKENS | st.none())
def test_no_header_can_make_it_fail(first, second):
    bound = BINDER.bind(first)
    assert BINDER.compare(bound, first) is Likeness.SAME
    if first != second:
        assert BINDER.compare(bound, second) is not Likeness.SAME
    if holder_of(first) is not None:
        assert holder_of(spoil_signature(first)) == holder_of(first)


@given(CLAIMS, CLAIMS)
def test_tokens_are_alike_exactly_when_they_name_the_same_holder(first, second):
    def named(claims):
        if not isinstance(claims, dict):
            return None
        iss, sub, client_id, azp = (claims.get(name) for name in ("iss", "sub", "client_id", "azp"))
        if not sub or not all(each is None or isinstance(each, str) for each in (iss, sub, client_id, azp)):
            return None
        return iss, sub, azp if client_id is None else client_id

    one, other = (f"Bearer {jwt(claims)}" for claims in (first, second))
    likeness = BINDER.compare(BINDER.bind(one), other)
    if json.dumps(first) == json.dumps(second):
        assert likeness is Likeness.SAME
    elif named(first) is None or named(second) is None or named(first) != named(second):
        assert likeness is Likeness.OTHER
    else:
        assert likeness is Likeness.RENEWED


@given(st.text(min_size=1), st.text(min_size=1))
def test_nobody_is_taken_for_another_subject(one, other):
    likeness = BINDER.compare(BINDER.bind(token_of(one)), token_of(other, n=2))
    assert likeness is (Likeness.RENEWED if one == other else Likeness.OTHER)
