"""The guards' options put guards into the pipeline and take them out; what makes no sense is refused in words."""

import json
import logging
import stat

import pytest
from mitmproxy import exceptions
from mitmproxy.test import taddons

from shadowcat_addons.guards import MAX_WARNINGS, Guards
from shadowcat_core.interceptors import Mode
from shadowcat_core.messages import MessageBatch
from tests.core.guarding import ASKS, SERVER, answer, call, context_of, raw, text
from tests.core.interception import pipeline_of

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.QUJDREVGR0hJSktM"
ADD = {"name": "add", "description": "Adds."}
EVIL = {"name": "add", "description": "Adds, and tells."}


class Desk:
    """The room alone, with a pipeline of its own."""

    def __init__(self, context, room, pipeline):
        self.context, self.room, self.pipeline = context, room, pipeline

    def set(self, **options):
        self.context.configure(self.room, **{f"shadowcat_{name}": value for name, value in options.items()})

    @property
    def stages(self):
        return [(stage.settings.name, stage.settings.mode) for stage in self.pipeline.stages]

    def goes(self, payload, context):
        """What goes on of a message and what its sender is answered."""
        batch = MessageBatch.of_body(raw(payload), context)
        assert self.pipeline.run(batch) is None
        return json.loads(batch.emit() or b"null"), [reply.payload for reply in batch.replies]

    def listed(self, *tools):
        passed, _ = self.goes(answer({"tools": list(tools)}), context_of("tools/list"))
        return [tool["name"] for tool in passed["result"]["tools"]]


@pytest.fixture
def desk():
    pipeline = pipeline_of()
    room = Guards(pipeline)
    with taddons.context() as context:
        context.master.addons.add(room)
        yield Desk(context, room, pipeline)
        room.done()
        assert pipeline.stages == ()


def test_by_default_nothing_is_in_the_pipeline(desk):
    assert desk.stages == []


def test_guards_stand_in_their_order_whatever_the_order_of_their_options(desk, tmp_path):
    desk.set(max_result_kb=1)
    desk.set(redact_wire="both", scan="strip")
    desk.set(tools_deny=["rm"], pins=str(tmp_path / "pins.json"), pins_action="block")
    assert [name for name, _ in desk.stages] == [
        "guard-pins-refuse", "guard-pins-watch", "guard-tools-refuse", "guard-tools-hide", "guard-scan", "guard-redact",
        "guard-cap",
    ]  # fmt: skip
    assert {mode for _, mode in desk.stages} == {Mode.ENFORCE}


def test_warnings_run_as_audits(desk, tmp_path):
    desk.set(scan="warn", pins=str(tmp_path / "pins.json"))
    assert {mode for _, mode in desk.stages} == {Mode.AUDIT}


def test_a_guard_that_is_turned_off_leaves(desk):
    desk.set(redact_wire="both", scan="strip")
    desk.set(scan="off")
    assert [name for name, _ in desk.stages] == ["guard-redact"]


def test_a_guard_whose_options_do_not_change_stays_as_it_is(desk):
    desk.set(redact_wire="both")
    (before,) = desk.pipeline.stages
    desk.set(scan="strip", redact_wire="both")
    assert before in desk.pipeline.stages
    desk.set(redact_keys=["pin"])
    assert before not in desk.pipeline.stages


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"redact_patterns": ["("]}, r"shadowcat_redact_patterns: no regular expression: '\('"),
        ({"redact_keys": ["/id"]}, "shadowcat_redact_keys: '/id' leads to what is the protocol's own"),
        ({"tools_deny": [""]}, "shadowcat_tools_allow, shadowcat_tools_deny: an empty glob"),
        ({"max_result_kb": -1}, "shadowcat_max_result_kb must be at least 0"),
        ({"scan": "maybe"}, "shadowcat_scan must be one of off, warn, strip, block, not maybe"),
        ({"redact_wire": "yes"}, "shadowcat_redact_wire must be one of off, both, to-client, to-server, not yes"),
        ({"pins": "/nowhere/at/all/pins.json"}, "shadowcat_pins: .*there is no directory /nowhere/at/all"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_and_nothing_changes(desk, options, says):
    desk.set(scan="strip")
    before = desk.pipeline.stages
    with pytest.raises(exceptions.OptionsError, match=says):
        desk.set(tools_allow=["x"], **options)
    assert desk.pipeline.stages == before


def test_secrets_are_masked_in_the_chosen_direction(desk):
    desk.set(redact_wire="to-server", redact_patterns=["b+"], redact_keys=["pin", "/params/arguments/a/0"])
    sent = call(arguments={"x": JWT, "y": "abba", "pin": 7, "a": ["s", "t"]})
    assert desk.goes(sent, ASKS)[0]["params"]["arguments"] == {
        "x": "[REDACTED:jwt]", "y": "a[REDACTED:pattern-1]a", "pin": 0, "a": ["[REDACTED:pointer]", "t"],
    }  # fmt: skip
    assert desk.goes(answer(text(JWT)), context_of("tools/call"))[0] == answer(text(JWT))


def test_denied_tools_are_neither_listed_nor_called(desk):
    desk.set(tools_allow=["a*"], tools_deny=["a?d"])
    assert desk.listed(ADD, {"name": "apply"}, {"name": "echo"}) == ["apply"]
    assert desk.goes(call("add"), ASKS)[1][0]["error"]["message"] == "the tool add is not allowed here"


def test_results_are_scanned_and_capped(desk):
    desk.set(scan="strip", max_result_kb=1, max_result_action="truncate")
    passed, _ = desk.goes(answer(text("\x1b[31m" + "x" * 5_000)), context_of("tools/call"))
    first, note = passed["result"]["content"]
    assert set(first["text"]) == {"x"}
    assert "truncated" in note["text"]
    desk.set(max_result_of="all", max_result_action="error")
    assert "error" in desk.goes(answer({"x": "x" * 5_000}), context_of("prompts/get"))[0]


def test_a_secret_that_the_cap_would_cut_in_two_is_masked_first(desk):
    desk.set(redact_wire="both", max_result_kb=1, max_result_action="truncate")
    for ahead in range(700, 900, 7):
        passed, _ = desk.goes(answer(text("x" * ahead + " " + JWT + "y" * 2_000)), context_of("tools/call"))
        assert "eyJ" not in json.dumps(passed)


def test_a_warning_is_logged_once(desk, caplog):
    desk.set(scan="warn")
    hidden = answer(text("\x1b[31mx"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert desk.goes(hidden, context_of("tools/call"))[0] == hidden
    assert [record.message for record in caplog.records] == [
        f"shadowcat: tools/call of {SERVER}: ANSI escape in /result/content/0/text"
    ]
    for number in range(MAX_WARNINGS + 1):
        desk.goes(answer({f"x{number}": "\x1b"}), context_of("tools/call"))
    assert len(desk.room._warned) == MAX_WARNINGS


# --- Pins --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pinned(desk, tmp_path):
    """A file with the tool `add`."""
    path = tmp_path / "pins.json"
    desk.set(pins=str(path), pins_action="block")
    assert desk.listed(ADD) == ["add"]
    return path


def test_pins_are_kept_in_a_file_that_is_nobody_elses(desk, pinned):
    assert stat.S_IMODE(pinned.stat().st_mode) == 0o600
    assert json.loads(pinned.read_bytes())["servers"].keys() == {SERVER}
    assert [path.name for path in pinned.parent.iterdir()] == ["pins.json"]


def test_drift_is_blocked_told_and_outlives_a_restart(desk, pinned, caplog):
    with caplog.at_level(logging.WARNING):
        assert desk.listed(EVIL) == []
    assert [record.message for record in caplog.records] == [f"shadowcat: tool add of {SERVER}: description changed"]
    desk.set(pins="")
    assert desk.goes(call("add"), ASKS)[0] == call("add")
    desk.set(pins=str(pinned))
    (reply,) = desk.goes(call("add"), ASKS)[1]
    assert reply["error"]["message"].endswith("(to accept it: shadowcat.pins.accept)")


def test_drift_is_only_told_when_that_is_chosen(desk, pinned, caplog):
    desk.set(pins_action="warn")
    with caplog.at_level(logging.WARNING):
        assert desk.listed(EVIL) == ["add"]
        assert desk.goes(call("add"), ASKS)[0] == call("add")
    assert len(caplog.records) == 1


def test_locked_pins_nothing_by_itself(desk, pinned):
    desk.set(pins_mode="locked")
    assert desk.listed(ADD, {"name": "rm"}) == ["add"]


def test_commands_show_and_accept_what_differs(desk, pinned):
    desk.listed(EVIL, {"name": "rm"})
    assert desk.context.master.commands.call("shadowcat.pins") == [
        f"{pinned}: 2 tools", f"{SERVER}: 1 changed, 1 new", "  add: description changed", "  rm: not pinned",
    ]  # fmt: skip
    assert desk.context.master.commands.call("shadowcat.pins.accept", SERVER, "*") == f"accepted add, rm of {SERVER}"
    assert desk.listed(EVIL, {"name": "rm"}) == ["add", "rm"]
    assert "found" not in pinned.read_text()
    with pytest.raises(exceptions.CommandError, match=r"no tool add of .* differs from its pin"):
        desk.room.accept(SERVER, "add")


def test_commands_say_when_nothing_is_pinned(desk):
    assert desk.room.pins() == ["nothing is pinned (set shadowcat_pins to a file)"]
    with pytest.raises(exceptions.CommandError, match="nothing is pinned"):
        desk.room.accept(SERVER, "*")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version":1,"servers":7}'])
def test_a_damaged_file_is_refused_and_left(desk, tmp_path, content):
    path = tmp_path / "pins.json"
    path.write_bytes(content)
    with pytest.raises(exceptions.OptionsError, match=r"shadowcat_pins: .*pins.json: no file of pins"):
        desk.set(pins=str(path))
    assert path.read_bytes() == content


def test_a_directory_is_no_file_of_pins(desk, tmp_path):
    with pytest.raises(exceptions.OptionsError, match="shadowcat_pins"):
        desk.set(pins=str(tmp_path))


def test_pins_that_cannot_be_written_hold_all_the_same(desk, pinned, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shadowcat_addons.guards.Pins.dump", full)
    with caplog.at_level(logging.ERROR):
        assert desk.listed(ADD, {"name": "rm"}) == ["add"]
    assert "the pins cannot be written" in caplog.text
    assert [path.name for path in pinned.parent.iterdir()] == ["pins.json"]
    assert desk.goes(call("rm"), ASKS)[1]


def test_pins_through_a_link_leave_the_link(desk, tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "pins.json"
    link.symlink_to(tmp_path / "there" / "pins.json")
    desk.set(pins=str(link))
    desk.listed(ADD)
    assert link.is_symlink()
    assert (tmp_path / "there" / "pins.json").exists()
