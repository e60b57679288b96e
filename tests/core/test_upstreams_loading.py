"""A file of upstreams is read as it is meant, or refused with the line, the field and what would be allowed there."""

from pathlib import Path

import pytest

from shadowcat_core.errors import UpstreamsError
from shadowcat_core.limits import MAX_RETRY_ATTEMPTS, MAX_RING_WEIGHT, MAX_ROUTES, MAX_UPSTREAMS
from shadowcat_core.upstreams import StoreAddress, StoreKind, load_upstreams, parse_upstreams

YAML, TOML = Path("up.yaml"), Path("up.toml")
ONE = "routes:\n- upstreams:\n  - {name: a, url: 'http://h:1'}\n"


def problems(text: str, path: Path = YAML) -> list[str]:
    with pytest.raises(UpstreamsError) as caught:
        parse_upstreams(text.encode(), path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(str(path)) for line in lines)
    return lines


def test_what_is_not_said_has_a_default():
    file = parse_upstreams(ONE.encode(), YAML)
    (route,) = file.routes
    assert (route.name, route.path, route.host, route.balance) == ("route-1", "/mcp", None, "round_robin")
    assert (route.hash_by, route.sticky) == ("Mcp-Name", True)
    assert (route.timeouts.connect_s, route.timeouts.first_byte_s) == (5, 300)
    assert route.health.active is None
    assert (route.health.passive.failures, route.health.passive.window_s, route.health.passive.share) == (3, 30, 0.5)
    assert (route.health.backoff.base_s, route.health.backoff.max_s, route.health.backoff.jitter) == (0.5, 15, 0.5)
    assert (route.retry.attempts, route.retry.methods, route.retry.tools) == (3, [], [])
    assert route.retry.trust_hints is True
    assert (file.sessions.store, file.sessions.on_outage) == ("memory", "open")
    assert (file.sessions.idle_s, file.sessions.lifetime_s) == (1800, 604800)
    (upstream,) = route.upstreams
    assert (upstream.weight, upstream.headers) == (1, {})


def test_a_kind_of_probe_alone_has_its_defaults():
    file = parse_upstreams(f"{ONE}  health: {{active: ping}}".encode(), YAML)
    active = file.routes[0].health.active
    assert active is not None
    assert (active.kind, active.interval_s, active.timeout_s, active.failures) == ("ping", 10, 3, 2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "up.yaml: a file of upstreams has `routes:` at its top"),
        ("[]", "up.yaml:1: a file of upstreams has `routes:` at its top"),
        ("version: 1", "the field 'routes' is missing"),
        ("routes: []", "up.yaml:1: routes: list should have at least 1 item"),
        ("routes:\n- {}", "up.yaml:2: routes[0]: the field 'upstreams' is missing"),
        ("routes:\n- {upstreams: []}", "routes[0].upstreams: list should have at least 1 item"),
        (ONE + "version: 2", "up.yaml:4: version: 2 is not allowed; allowed: 1"),
        (ONE + "rotues: []", "up.yaml:4: rotues: unknown field; did you mean 'routes'?; allowed: routes, sessions, v"),
        (ONE + "  - {url: 'http://h:2'}", "up.yaml:4: routes[0].upstreams[1]: the field 'name' is missing"),
        (ONE + "  - {name: b}", "up.yaml:4: routes[0].upstreams[1]: the field 'url' is missing"),
        (ONE + "  - {name: '', url: 'http://h'}", "upstreams[1].name: string should have at least 1 character"),
        (ONE + "  - {name: a b, url: 'http://h'}", "upstreams[1].name: string should match pattern"),
        (ONE + "  - {name: \"a\\n\", url: 'http://h'}", "upstreams[1].name: string should match pattern"),
        (ONE + "  - {name: 7, url: 'http://h'}", "upstreams[1].name: input should be a valid string"),
        (ONE + "  - {name: a, url: 'http://h:2'}", "up.yaml:4: routes[0].upstreams[1].name: 'a' is the name of rout"),
        (ONE + "  - {name: b, url: h}", "upstreams[1].url: 'h' is no URL of a server: http://host:port/path"),
        (ONE + "  - {name: b, url: 'ftp://h'}", "'ftp://h' is no URL of a server"),
        (ONE + "  - {name: b, url: 'http://'}", "'http://' is no URL of a server"),
        (ONE + "  - {name: b, url: 'http://h:0'}", "has no port from 1 to 65535"),
        (ONE + "  - {name: b, url: 'http://h:65536'}", "has no port from 1 to 65535"),
        (ONE + "  - {name: b, url: 'http://h:x'}", "has no port from 1 to 65535"),
        (ONE + "  - {name: b, url: 'http://h/?x'}", "has a query or a fragment"),
        (ONE + "  - {name: b, url: 'http://h/#x'}", "has a query or a fragment"),
        (ONE + "  - {name: b, url: 'http://h/a b'}", "visible ASCII characters only"),
        (ONE + "  - {name: b, url: 'http://hö'}", "visible ASCII characters only"),
        (ONE + "  - {name: b, url: 'http://h%20'}", "'h%20' is no host"),
        (ONE + "  - {name: b, url: 'http://[::1'}", "upstreams[1].url: "),
        (ONE + "  - {name: b, url: 'http://h', weight: 0}", "weight: input should be greater than or equal to 1"),
        (ONE + "  - {name: b, url: 'http://h', weight: 1.5}", "weight: input should be a valid integer"),
        (ONE + "  - {name: b, url: 'http://h', weight: 1001}", "weight: input should be less than or equal to 1000"),
        (ONE + "  - {name: b, url: 'http://h', weigth: 1}", "weigth: unknown field; did you mean 'weight'?"),
        (ONE + "  - {name: b, url: 'http://h', headers: {'x y': z}}", "'x y' is no name of a header"),
        (ONE + "  - {name: b, url: 'http://h', headers: {x: \"a\\nb\"}}", "a header's value is one line"),
        (ONE + "  - {name: b, url: 'http://h', headers: {x: ' a'}}", "a header's value is one line"),
        (ONE + "  - {name: b, url: 'http://h', headers: {x: ''}}", "a header's value is one line"),
        (ONE + "  - {name: b, url: 'http://h', headers: {MCP-Session-Id: a}}", "the header MCP-Session-Id says what"),
        (ONE + "  - {name: b, url: 'http://h', headers: {content-length: '1'}}", "cannot be chosen"),
        (ONE + "  balance: random", "'random' is not allowed; allowed: round_robin, least_sessions, hash"),
        (ONE + "  balance: least_session", "did you mean 'least_sessions'?"),
        (ONE + "  path: mcp", "up.yaml:4: routes[0].path: 'mcp' is no path: it begins with /, and has no query"),
        (ONE + "  path: /a?b", "'/a?b' is no path"),
        (ONE + "  path: //a", "'//a' is no path"),
        (ONE + "  host: h:80", "'h:80' is no host: a name or an address without a port"),
        (ONE + "  host: '*'", "'*' is no host"),
        (ONE + "  host: a.*.b", "'a.*.b' is no host"),
        (ONE + "  hash_by: 'a b'", "routes[0].hash_by: 'a b' is no name of a header"),
        (ONE + "  sticky: 1", "routes[0].sticky: input should be a valid boolean"),
        (ONE + "  timeouts: {connect_s: 0}", "routes[0].timeouts.connect_s: input should be greater than"),
        (ONE + "  timeouts: {connect_s: null}", "routes[0].timeouts.connect_s: "),
        (ONE + "  timeouts: 5", "routes[0].timeouts: fields are expected here: connect_s, first_byte_s"),
        (ONE + "  timeouts: {read_s: 5}", "read_s: unknown field; allowed: connect_s, first_byte_s"),
        (ONE + "  health: {active: http}", "health.active: 'http' is not allowed; allowed: tcp, ping, discover"),
        (ONE + "  health: {active: {interval_s: 3}}", "health.active: the field 'kind' is missing"),
        (ONE + "  health: {active: {kind: tcp, interval_s: 0.01}}", "health.active.interval_s: input should be gre"),
        (ONE + "  health: {active: {kind: tcp, failures: 0}}", "health.active.failures: input should be greater"),
        (ONE + "  health: {passive: {failures: 101}}", "passive.failures: input should be less than or equal to 100"),
        (ONE + "  health: {passive: {share: 0}}", "health.passive.share: input should be greater than 0"),
        (ONE + "  health: {backoff: {jitter: 1}}", "health.backoff.jitter: input should be less than or equal to 0.9"),
        (ONE + "  health: {backoff: {base_s: 20}}", "health.backoff: max_s cannot be less than base_s"),
        (ONE + "  retry: {attempts: 0}", "retry.attempts: input should be greater than or equal to 1"),
        (ONE + f"  retry: {{attempts: {MAX_RETRY_ATTEMPTS + 1}}}", "retry.attempts: input should be less than"),
        (ONE + "  retry: {methods: ping}", "routes[0].retry.methods: input should be a valid list"),
        (ONE + "- name: route-1\n  path: /b\n  upstreams: [{name: b, url: 'http://h'}]",
         "up.yaml:4: routes[1].name: 'route-1' is the name of routes[0] too"),
        (ONE + "- path: /mcp/\n  upstreams: [{name: b, url: 'http://h'}]",
         "up.yaml:4: routes[1].path: routes[0] has the same path and host"),
        (ONE + "- path: /b\n  upstreams: [{name: a, url: 'http://h'}]",
         "up.yaml:5: routes[1].upstreams[0].name: 'a' is the name of routes[0].upstreams[0] too"),
        (ONE + "sessions: {store: redis}", "up.yaml:4: sessions.store: no address of a store; allowed: memory, sqlite"),
        (ONE + "sessions: {store: 'sqlite:'}", "sessions.store: no address of a store"),
        (ONE + "sessions: {store: 'redis://'}", "sessions.store: no address of a store"),
        (ONE + "sessions: {store: 'http://h'}", "sessions.store: no address of a store"),
        (ONE + "sessions: {idle_s: 0}", "sessions.idle_s: input should be greater than 0"),
        (ONE + "sessions: {idle_s: .inf}", ".inf is no number of JSON"),
        (ONE + "sessions: {idle_s: 10, lifetime_s: 5}", "sessions: lifetime_s cannot be less than idle_s"),
        (ONE + "sessions: {on_outage: opn}", "'opn' is not allowed; did you mean 'open'?; allowed: open, closed"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_what_is_allowed(text, says):
    assert says in "\n".join(problems(text))


def test_no_secret_is_repeated_by_an_error():
    (line,) = problems(ONE + "  - {name: b, url: 'http://user:hunter2@h'}")
    assert "give the header Authorization" in line
    assert "hunter2" not in line
    (line,) = problems(ONE + "  - {name: b, url: 'http://user:hunter2ö@h'}")
    assert "hunter2" not in line
    (line,) = problems(ONE + "sessions: {store: 'rediss//:hunter2@h'}")
    assert "hunter2" not in line


def test_no_secret_is_shown_with_a_configuration():
    file = parse_upstreams(
        (
            ONE.replace("'}", "', headers: {Authorization: hunter2}}") + "sessions: {store: 'redis://:hunter3@h'}"
        ).encode(),
        YAML,
    )
    assert file.routes[0].upstreams[0].headers == {"Authorization": "hunter2"}
    assert "hunter" not in repr(file)
    assert "hunter" not in repr(file.sessions.address)


def test_toml_says_the_same_with_its_lines():
    text = 'version = 1\n[[routes]]\npath = "/a"\n[[routes.upstreams]]\nname = "a"\nurl = "http://h"\nweigth = 2\n'
    (line,) = problems(text, TOML)
    assert line.startswith("up.toml:7: routes[0].upstreams[0].weigth: unknown field; did you mean 'weight'?")
    good = parse_upstreams(text.replace("weigth", "weight").encode(), TOML)
    assert good.routes[0].upstreams[0].weight == 2


@pytest.mark.parametrize(
    ("count", "routes"), [(MAX_ROUTES + 1, True), (MAX_UPSTREAMS + 1, False)], ids=["routes", "upstreams"]
)
def test_too_many_are_refused(count, routes):
    upstream = "{{name: u{0}, url: 'http://h'}}"
    if routes:
        text = "routes:\n" + "".join(
            f"- {{path: /p{n}, upstreams: [{upstream.format(n)}]}}\n" for n in range(count)
        )  # fmt: skip
    else:
        text = "routes:\n- upstreams: [" + ",".join(upstream.format(n) for n in range(count)) + "]\n"
    assert "list should have at most 1000 items" in problems(text)[0]


def test_a_ring_has_a_weight_that_it_can_carry():
    text = ONE.replace("'}", "', weight: %d}") + "  - {name: b, url: 'http://h:2'}\n  balance: hash\n"
    assert parse_upstreams((text % (MAX_RING_WEIGHT - 1)).encode(), YAML)
    (line,) = problems(text % MAX_RING_WEIGHT)
    assert line == "up.yaml:2: routes[0]: the weights of a hashed route add up to 1,001, over the limit of 1,000"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("memory", StoreAddress(StoreKind.MEMORY)),
        ("sqlite:sessions.db", StoreAddress(StoreKind.SQLITE, "sessions.db")),
        ("sqlite:/var/lib/shadowcat.db", StoreAddress(StoreKind.SQLITE, "/var/lib/shadowcat.db")),
        ("redis://127.0.0.1:6379/1", StoreAddress(StoreKind.REDIS, "redis://127.0.0.1:6379/1")),
        ("rediss://h", StoreAddress(StoreKind.REDIS, "rediss://h")),
        ("unix:///run/redis.sock", StoreAddress(StoreKind.REDIS, "unix:///run/redis.sock")),
    ],
)
def test_a_store_is_told_by_its_address(text, address):
    file = parse_upstreams(f"{ONE}sessions: {{store: '{text}'}}".encode(), YAML)
    assert file.sessions.address == address


def test_what_was_loaded_does_not_change():
    file = parse_upstreams(ONE.encode(), YAML)
    with pytest.raises(ValueError, match="frozen"):
        file.routes[0].balance = "hash"


def test_a_file_is_loaded_from_where_it_is(tmp_path):
    path = tmp_path / "up.yaml"
    path.write_text(ONE)
    assert load_upstreams(path).routes[0].upstreams[0].name == "a"
    with pytest.raises(UpstreamsError, match="No such file or directory"):
        load_upstreams(tmp_path / "none.yaml")
