"""A rules file is read as it is meant, or refused with the line, the field and what would be allowed there."""

from pathlib import Path

import pytest

from shadowcat_core.documents import read_document
from shadowcat_core.errors import RulesError
from shadowcat_core.interceptors.rules import load_rules, parse_rules
from shadowcat_core.limits import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_DEPTH, MAX_DOCUMENT_VALUES, MAX_RULE_PATTERN_CHARS

YAML, JSON = Path("guard.yaml"), Path("guard.json")


def problems(text: str | bytes, path: Path = YAML) -> list[str]:
    with pytest.raises(RulesError) as caught:
        parse_rules(text.encode() if isinstance(text, str) else text, path)
    assert all(line.startswith(str(path)) for line in str(caught.value).splitlines())
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a: 1\nb: [x, 'y', \"z\"]", {"a": 1, "b": ["x", "y", "z"]}),
        (
            "a: yes\nb: on\nc: true\nd: False\ne: ~\nf:",
            {"a": "yes", "b": "on", "c": True, "d": False, "e": None, "f": None},
        ),
        ("a: 0x1f\nb: 0o17\nc: -5\nd: +5\ne: 1.5e3\nf: 017", {"a": 31, "b": 15, "c": -5, "d": 5, "e": 1500.0, "f": 17}),
        ("a: 1_000\nb: 123456789012345678901234567890", {"a": 1000, "b": 123456789012345678901234567890}),
        ("a: 2026-07-28\nb: 12:30:45", {"a": "2026-07-28", "b": "12:30:45"}),
        ("1: a\ntrue: b\nnull: c\n<<: d\n=: e", {"1": "a", "true": "b", "null": "c", "<<": "d", "=": "e"}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
        ("\ufeffa: Grüße", {"a": "Grüße"}),
        ("", None),
        ("# nothing", None),
    ],
)
def test_yaml_is_read_as_json_values(text, data):
    assert read_document(text.encode(), YAML).data == data


def test_json_is_read_with_its_tabs_and_escapes():
    text = '{\t"a":\t"\\u00e9\\/\\ud83d\\ude00\\t",\n\t"b": [1e3, -0.5, null]\n}'
    document = read_document(text.encode(), JSON)
    assert document.data == {"a": "é/😀\t", "b": [1000.0, -0.5, None]}
    assert document.line(("b", 1)) == 2
    assert document.line(("b", 1, "not", "there")) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", ":1: not YAML: "),
        ("rules:\n  - a: b\n   c: d", ":3: not YAML: "),
        ("a: 1\na: 2", ":2: 'a' is there twice"),
        ("rules:\n- !python/object:os.system x", ":2: the tag !python/object:os.system means nothing here"),
        ("a: !!set {x}", "the tag tag:yaml.org,2002:set means nothing here"),
        ("a: !!binary aGk=", "the tag tag:yaml.org,2002:binary means nothing here"),
        ("a: .nan", ":1: .nan is no number of JSON"),
        ("a:\n  -.inf", ":2: -.inf is no number of JSON"),
        ("a: !!int x", "x is no whole number of JSON"),
        ("? [a, b]\n: c", ":1: a name is one word"),
        ("a: &x [*x]", f"nested deeper than {MAX_DOCUMENT_DEPTH} levels"),
        ("a: *nobody", ":1: not YAML: found undefined alias"),
        ("a\tb: {\t}: c", "not YAML"),
        ("a: \x07", "not YAML: unacceptable character"),
        ("--- a\n--- b", "not YAML: "),
        ("[" * 5_000, "nested too deep"),
        ("{a: " * 150 + "1" + "}" * 150, f"nested deeper than {MAX_DOCUMENT_DEPTH} levels"),
        (b"a: b\nc: \xff\n", ":2: not UTF-8"),
        (b"a" * (MAX_DOCUMENT_BYTES + 1), "4,194,305 bytes are over the limit of 4,194,304"),
        ("[]", "a rules file has `rules:` at its top"),
        ("", "a rules file has `rules:` at its top"),
        ("just a text", ":1: a rules file has `rules:` at its top"),
    ],
)
def test_what_is_no_document_of_ours_is_refused_with_its_line(text, says):
    (line,) = problems(text)
    assert says in line


def test_a_short_file_cannot_unfold_into_a_large_one():
    laughs = "\n".join([
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]",
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)),
    ])  # fmt: skip
    (line,) = problems(laughs)
    assert f"more than {MAX_DOCUMENT_VALUES:,} values" in line


LONG_PATTERN = "a" * (MAX_RULE_PATTERN_CHARS + 1)
RULE = "rules:\n  - when: {%s}\n    do: {%s}\n"


@pytest.mark.parametrize(
    ("when", "do", "says"),
    [
        ("methd: x", "block: x", [":2: rules[0].when.methd: unknown field; did you mean 'method'?; allowed: all, "]),
        ("kind: reqest", "block: x", [":2: rules[0].when.kind: 'reqest' is not allowed; did you mean 'request'?",
                                      "allowed: request, notification, response, error, invalid"]),
        ("kind: []", "block: x", ["rules[0].when.kind: ", "at least 1 item"]),
        ("direction: in", "block: x", ["rules[0].when.direction: 'in' is not allowed; allowed: c2s, s2c"]),
        ("transport: udp", "block: x", ["allowed: http, stdio"]),
        ("method: 3", "block: x", ["rules[0].when.method: input should be a valid string"]),
        ("params: {path: x}", "block: x", ["'path' is neither a JSON pointer nor a JSONPath; write /path or $.path"]),
        ("params: {'$.a[': x}", "block: x", ["'$.a[' is no JSONPath: unexpected end of query"]),
        ("params: {'$[?match(@.a, @.b)]': x}", "block: x", ["use `matches` in the place of match() and search()"]),
        ("params: {'$..a..b..c': x}", "block: x", ["has more than 2 descents (..)"]),
        ("params: {/a: {}}", "block: x", ["rules[0].when.params./a: say what the value must be: equals, one_of, "]),
        ("params: {/a: {matchs: x}}", "block: x", ["params./a.matchs: unknown field; did you mean 'matches'?"]),
        ("params: {/a: {matches: '('}}", "block: x", ["'(' is no regular expression: error: unclosed"]),
        ("params: {/a: {matches: '(?=a)'}}", "block: x", ["look-around", "is not supported"]),
        (f"params: {{/a: {{matches: {LONG_PATTERN}}}}}", "block: x", ["1,001 characters; 1,000 may"]),
        ("params: {/a: {matches: 'a{1000}{1000}{100}'}}", "block: x", ["is no regular expression: ", "size limit"]),
        ('params: {/a: {matches: "\\ud800"}}', "block: x", ["is no regular expression"]),
        ("params: {/a: {gt: x}}", "block: x", ["params./a.gt: input should be a number"]),
        ("params: {/a: {gt: true}}", "block: x", ["params./a.gt: input should be a number"]),
        ("params: {/a: {exists: false, equals: 1}}", "block: x", ["leave `exists: false` alone"]),
        ("header: {x: {}}", "block: x", ["header.x: say what the text must be: glob, matches, exists"]),
        ("header: [x]", "block: x", ["rules[0].when.header: input should be a valid dictionary"]),
        ("session: {exists: false, glob: x}", "block: x", ["leave `exists: false` alone"]),
        ("size: 3", "block: x", ["rules[0].when.size: fields are expected here: gt, gte, lt, lte"]),
        ("size: {}", "block: x", ["compare the size with one of gt, gte, lt, lte"]),
        ("size: {gt: 1.5}", "block: x", ["rules[0].when.size.gt: "]),
        ("not: {sise: {gt: 1}}", "block: x", ["rules[0].when.not.sise: unknown field; did you mean 'size'?"]),
        ("any: []", "block: x", ["rules[0].when.any: "]),
        ("any: [{nth: 1}]", "block: x", ["rules[0].when.any[0].nth: unknown field"]),
        ("nth: 0", "block: x", ["rules[0].when.nth", "greater than or equal to 1"]),
        ("nth: {every: 2, first: 1}", "block: x", ["exactly one of at, every, first, after must be given"]),
        ("nth: {per: session}", "block: x", ["exactly one of at, every, first, after must be given"]),
        ("nth: {every: 2, per: host}", "block: x", ["'host' is not allowed; allowed: rule, session, stream"]),
        ("probability: 1.1", "block: x", ["rules[0].when.probability: ", "less than or equal to 1"]),
        ("", "blok: x", [":3: rules[0].do.blok: unknown field; did you mean 'block'?"]),
        ("", "block: x, delay: 1", [":3: rules[0].do: exactly one of continue, ", "inject must be given"]),
        ("", "", ["rules[0].do: exactly one of continue, "]),
        ("", "pause: {timeout_s: 1, on_timeout: 3}", ["rules[0].do.pause.on_timeout: fields are expected here: block"]),
        ("", "block: {code: x}", ["rules[0].do.block.code: input should be a valid integer"]),
        ("", "block: {resaon: x}", ["do.block.resaon: unknown field; did you mean 'reason'?; allowed: code, data"]),
        ("", "block: '{{ parms }}'", ["rules[0].do.block: no template: there is no 'parms'; there are direction"]),
        ("", "block: {data: [{a: '{{'}]}", ["rules[0].do.block.data: no template: "]),
        ("", "modify: {}", ["give `set` and `remove`, or else `content`"]),
        ("", "modify: {set: {/a: 1}, content: {}}", ["give `set` and `remove`, or else `content`"]),
        ("", "modify: {set: {a: 1}}", ["'a' is neither a JSON pointer nor a JSONPath"]),
        ("", "modify: {remove: $.a}", ["rules[0].do.modify.remove", "is neither a JSON pointer"]),
        ("", "mock: {}", ["exactly one of result, error must be given"]),
        ("", "mock: {error: {message: x}}", ["rules[0].do.mock.error: the field 'code' is missing"]),
        ("", "delay: -1", ["rules[0].do.delay", "greater than 0"]),
        ("", "delay: 3601", ["rules[0].do.delay", "less than or equal to 3600"]),
        ("", "delay: soon", ["rules[0].do.delay: fields are expected here: reason, seconds"]),
        ("", "pause: {}", ["rules[0].do.pause: the field 'timeout_s' is missing"]),
        ("", "pause: {timeout_s: 1, on_timeout: delay}", ["on_timeout", "allowed: block, continue, mock, modify"]),
        ("", "inject: {}", ["give messages to send `before` or `after`"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_rule_is_told_with_its_place(when, do, says):
    text = "\n".join(problems(RULE % (when, do)))
    for part in says:
        assert part in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ruls: []", [":1: ruls: unknown field; did you mean 'rules'?", "the field 'rules' is missing"]),
        ("rules:\n- do: block", [":2: rules[0]: the field 'when' is missing"]),
        ("rules:\n- when: {}", [":2: rules[0]: the field 'do' is missing"]),
        ("rules: {}", ["rules: input should be a valid list"]),
        ("rules: []\nversion: 2", [":2: version: 2 is not allowed; allowed: 1"]),
        ("rules: []\nmode: dry", [":2: mode: 'dry' is not allowed; allowed: enforce, audit"]),
        ("rules: []\nfail: clsed", ["did you mean 'closed'?"]),
        ("rules: []\nseed: x", [":2: seed: "]),
        ("rules:\n- {name: a, when: {}, do: block}\n- {name: a, when: {}, do: block}",
         [":3: rules[1].name: 'a' is the name of rules[0] too"]),
        ("rules:\n- {name: rule-2, when: {}, do: block}\n- {when: {}, do: block}",
         [":3: rules[1]", "'rule-2' is the name"]),
        ("rules:\n- {name: '', when: {}, do: block}", ["rules[0].name: "]),
        ("rules: []\ntests:\n- {given: {}, expect: blocked}", [":3: tests[0].expect", "did you mean 'block'?"]),
        ("rules: []\ntests:\n- {given: {}, expect: {}}", ["expect one of verdict, rule, sent, replied"]),
        ("rules: []\ntests:\n- {given: [], expect: block}", ["tests[0].given: "]),
        ("rules:\n- {name: guard, when: {}, do: block}\ntests:\n- {given: {}, expect: {rule: gard}}",
         [":4: tests[0].expect.rule: there is no rule 'gard'; did you mean 'guard'?"]),
        ("rules: []\ntests:\n- {given: {}, expect: {rule: gard}}", ["there is no rule 'gard'"]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_told_with_its_place(text, says):
    told = "\n".join(problems(text))
    for part in says:
        assert part in told


def test_all_problems_are_told_at_once_up_to_fifty():
    lines = problems("rules:\n" + "- {when: {a: 1}, do: blok}\n" * 40)
    assert len(lines) == 51
    assert lines[0] == (
        "guard.yaml:2: rules[0].when.a: unknown field; allowed: all, any, direction, error, header, kind, method, not, "
        "nth, params, probability, result, server, session, size, target, transport"
    )
    assert lines[-1].startswith("guard.yaml: and ")


def test_too_many_rules_are_refused():
    assert "10,001" in problems("rules: [" + "{when: {}, do: block}," * 10_001 + "]")[0].replace("10001", "10,001")


def test_rules_get_names_by_their_number():
    file = parse_rules(
        b"rules:\n- {when: {}, do: block}\n- {name: b, when: {}, do: block}\n- {when: {}, do: block}", YAML
    )
    assert [rule.name for rule in file.rules] == ["rule-1", "b", "rule-3"]


@pytest.mark.parametrize(("name", "says"), [("none.yaml", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_an_error_of_the_same_kind(name, says, tmp_path):
    with pytest.raises(RulesError, match=says) as caught:
        load_rules(tmp_path / name)
    assert caught.value.path == tmp_path / name
    assert caught.value.problems[0].line is None


def test_a_file_is_loaded_from_where_it_is(tmp_path):
    (tmp_path / "guard.yaml").write_text("rules:\n- when: {method: ping}\n  do: block\n")
    assert load_rules(tmp_path / "guard.yaml").rules[0].when.method == ["ping"]
