"""`shadowcat tape`: what people and scripts see of tapes."""

import json
import sys

import pytest
from click.testing import CliRunner

from shadowcat_core.cli import main
from shadowcat_core.cli import tape as tape_module
from shadowcat_core.tape.encoding import encode
from shadowcat_core.tape.records import Chunk, End, Gap, Note, Open, Unknown
from shadowcat_core.tape.writer import open_private
from tests.core.tape_conversations import JSON, at, event, pipe, post, reply, rpc, session, tape_of
from tests.core.tape_parts import ORIGIN_NS, header


def run(*arguments):
    return CliRunner().invoke(main, ["tape", *map(str, arguments)])


def lines_of(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def save(tmp_path):
    def save_bytes(data, name="a.tape.jsonl"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return save_bytes


@pytest.fixture
def path(save):
    return save(tape_of(session()))


def test_show_prints_one_line_a_message(path):
    result = run("show", path)
    assert result.exit_code == 0
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert len(lines) == 12
    assert lines[2] == "    0.030 s → tools/call #7 echo · 96 B"
    assert lines[6] == "    0.047 s ← result #7 tools/call echo · 54 B · 17 ms"
    assert "no such tool" in lines[9]


def test_show_says_which_round_of_a_call_a_message_belongs_to(save):
    params = {"name": "order"}
    records = [
        *post(1, 0, rpc(id=1, method="tools/call", params=params), session=None),
        *reply(1, 1, [rpc(id=1, result={"resultType": "input_required", "requestState": "s"})], JSON),
        *post(2, 9, rpc(id=2, method="tools/call", params=params | {"requestState": "s"}), session=None),
        *reply(2, 11, [rpc(id=2, result={"content": [{"type": "text", "text": "done"}]})], JSON),
    ]
    path = save(tape_of(records))
    assert [line.split(" s ")[1].split(" · ")[0::3] for line in run("show", path).stdout.splitlines()] == [
        ["→ tools/call #1 order"],
        ["← result #1 tools/call order input required"],
        ["→ tools/call #2 order"],
        ["← result #2 tools/call order done", "round 2"],
    ]
    assert [row["round"] for row in lines_of(run("show", path, "--json"))] == [1, 1, 2, 2]


def test_show_picks_by_words(path):
    result = run("show", path, "method:tools/call", "status:error")
    assert len(result.stdout.splitlines()) == 2
    assert len(run("show", path, "-kind:notification").stdout.splitlines()) == 10


def test_show_prints_payloads_as_they_were(path):
    lines = run("show", path, "id:7", "--payload").stdout.splitlines()
    assert lines[1].encode() == rpc(id=7, method="tools/call", params={"name": "echo", "arguments": {}})


def test_show_gives_scripts_one_object_a_message(path):
    rows = lines_of(run("show", path, "exchange:5", "--json"))
    assert [row["kind"] for row in rows] == ["request", "error"]
    assert rows[1] == {
        "t": 62_000, "exchange": 5, "dir": "s2c", "kind": "error", "method": "tools/call", "id": "8",
        "target": "missing", "status": "error", "bytes": 83, "round": 1, "duration_us": 2_000,
        "session": "[REDACTED:mcp-session-id:0a1b2c3d]", "event_id": None,
    }  # fmt: skip
    (row,) = lines_of(run("show", path, "id:7", "dir:c2s", "--json", "--payload"))
    assert row["payload"]["params"]["name"] == "echo"


def test_show_gives_the_text_of_what_is_no_json(save):
    rows = lines_of(run("show", save(tape_of(pipe())), "--json", "--payload"))
    assert rows[0]["text"] == "starting up"
    assert (rows[0]["kind"], rows[0]["status"]) == ("invalid", "invalid")


def test_show_raw_prints_records(path):
    result = run("show", path, "--raw", "exchange:3")
    lines = result.stdout.splitlines()
    assert len(lines) == 7
    assert "open [3]" in lines[0]
    assert "← chunk [3] text='event: message" in lines[3]
    records = lines_of(run("show", path, "--raw", "kind:chunk", "exchange:3", "--json"))
    assert [record["t"] for record in records] == [41_000, 42_000, 47_000]


def test_show_raw_knows_records_without_an_exchange(save):
    records = [Note(at(0), None, "hello"), Unknown(at(1), "weather", {"sky": "blue"})]
    lines = run("show", save(tape_of(records)), "--raw").stdout.splitlines()
    assert "note" in lines[0]
    assert "text='hello'" in lines[0]
    assert "weather" in lines[1]


def test_control_characters_of_a_tape_do_not_reach_the_terminal(save):
    evil = "\x1b]0;owned\x07\u202e"
    records = [
        *post(1, 0, rpc(id=1, method=f"m{evil}")),
        *reply(1, 1, [rpc(id=1, error={"code": 1, "message": evil})], [("Content-Type", "application/json")]),
        Gap(at(5), 1, 1, evil, [1]),
    ]
    path = save(tape_of([*records, Chunk(at(9), 1, "s2c", evil.encode())]))
    for arguments in (["show"], ["show", "--raw"], ["show", "--payload"], ["stats"], ["verify"], ["ls"]):
        output = run(*arguments, path).output
        assert not set(output) & {"\x1b", "\x07", "\u202e"}, arguments


@pytest.mark.parametrize("words", [["colour:red"], ["--raw", "method:x"], ["--jsn"]])
def test_a_wrong_word_is_a_usage_error_that_says_what_is_possible(path, words):
    result = run("show", path, *words)
    assert result.exit_code == 2
    assert "there are" in result.stderr
    assert result.stdout == ""


def test_stats_counts_by_method(path):
    result = run("stats", path)
    assert result.exit_code == 0
    calls = next(line for line in result.stdout.splitlines() if "tools/call" in line).split()
    assert calls == ["tools/call", "3", "2", "2.0", "17.0", "17.0", "2", "452", "B"]
    assert "12 messages in 6 exchanges" in result.stdout


def test_stats_gives_scripts_the_same(path):
    (found,) = lines_of(run("stats", path, "--json"))
    assert (found["messages"], found["exchanges"], found["records"], found["chunks"]) == (12, 6, 30, 8)
    assert found["methods"][0] == {
        "method": "tools/call", "count": 3, "errors": 2, "p50_ms": 2.0, "p95_ms": 17.0, "max_ms": 17.0,
        "events": 2, "bytes": 452,
    }  # fmt: skip
    assert found["methods"][3]["p50_ms"] is None


def test_names_that_look_like_markup_are_printed_as_they_are(save):
    request = rpc(id=1, method="[/x] [bold]:tada:", params={})
    result = run("stats", save(tape_of([*post(1, 0, request), *reply(1, 5, [], JSON)])))
    assert result.exit_code == 0, result.output
    assert "[/x] [bold]:tada:" in result.stdout


def test_stats_names_what_has_no_method_and_what_is_missing(save):
    records = [
        *post(1, 0, rpc(id=1, result={})),
        *post(2, 0, b"hello"),
        Gap(at(5), 7, 1_500, "the queue was full", [2]),
        End(at(6), 2, "eof"),
    ]
    result = run("stats", save(tape_of(records)))
    assert "(unknown request)" in result.stdout
    assert "(not JSON-RPC)" in result.stdout
    assert "7 records are missing (1.5 KB)" in result.stdout


def test_verify_of_a_whole_tape_ends_with_0(path):
    result = run("verify", path)
    assert result.exit_code == 0
    assert result.stdout.startswith("whole · 6 exchanges, 30 records")
    assert "without an end: exchange 2" in result.stdout


def test_verify_of_a_tape_with_gaps_ends_with_3(save):
    gap = Gap(at(5), 7, 1_500, "the queue was full", [2, 3])
    path = save(tape_of([gap, *session()]))
    result = run("verify", path)
    assert result.exit_code == 3
    assert "gap at 0.005 s: 7 records (1.5 KB) of 2 exchanges: the queue was full" in result.stdout
    (found,) = lines_of(run("verify", path, "--json"))
    assert (found["state"], found["lost_records"], found["gaps"]) == ("gaps", 7, [[5_000, 7, 1_500, gap.reason]])


def test_verify_of_a_cut_off_tape_ends_with_3(save):
    path = save(tape_of(session())[:-7])
    result = run("verify", path)
    assert result.exit_code == 3
    assert "the end is cut off" in result.stdout
    assert "the end of the tape is cut off" in run("show", path).stderr


def test_verify_of_a_damaged_tape_ends_with_4(save):
    lines = tape_of(session()).splitlines(keepends=True)
    path = save(b"".join([*lines[:4], b"?\n", *lines[5:]]))
    result = run("verify", path)
    assert result.exit_code == 4
    assert "line 5: not JSON" in result.stdout
    (found,) = lines_of(run("verify", path, "--json"))
    assert found["state"] == "damaged"
    assert found["damages"][0][0] == 5
    shown = run("show", path)
    assert shown.exit_code == 0
    assert "1 damaged lines were left out, the first is line 5" in shown.stderr


def test_verify_of_what_is_no_tape_ends_with_4(save):
    result = run("verify", save(b"hello\n"))
    assert result.exit_code == 4
    assert "line 1: not JSON" in result.stderr


def test_verify_names_exchanges_without_a_beginning_and_unknown_kinds(save):
    records = [Chunk(at(n), n, "s2c", b"x") for n in range(1, 13)] + [Unknown(at(20), "weather")]
    result = run("verify", save(tape_of(records)))
    assert "without a beginning: exchange 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 …" in result.stdout
    assert "1 records of kinds that this version does not know" in result.stdout


@pytest.mark.parametrize("command", ["show", "stats"])
def test_what_is_no_tape_ends_with_1(save, command):
    result = run(command, save(b"hello\n"))
    assert result.exit_code == 1
    assert "line 1: not JSON" in result.stderr


@pytest.mark.parametrize("command", ["show", "stats", "verify", "ls"])
def test_a_missing_file_is_a_usage_error(tmp_path, command):
    result = run(command, tmp_path / "none")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_ls_lists_a_directory(save, tmp_path):
    save(tape_of(session()), "b.tape.jsonl")
    save(tape_of(pipe())[:-3], "a.tape.jsonl")
    save(b"?", "broken.tape.jsonl")
    save(b"", "notes.txt")
    result = run("ls", tmp_path)
    assert result.exit_code == 0
    names = [line.split()[0].rpartition("/")[2] for line in result.stdout.splitlines()[1:]]
    assert names == ["a.tape.jsonl", "b.tape.jsonl", "broken.tape.jsonl"]
    assert "cut off" in result.stdout
    assert "2026-11-21 07:32:00" in result.stdout
    assert "broken.tape.jsonl" in result.stderr


def test_ls_gives_scripts_one_array(save, tmp_path):
    save(tape_of(session()), "b.tape.jsonl")
    save(b"?", "broken.tape.jsonl")
    (objects,) = lines_of(run("ls", tmp_path, "--json"))
    assert objects[0]["exchanges"] == 6
    assert objects[0]["state"] == "whole"
    assert "nothing was recorded" in objects[1]["error"]


def test_ls_of_a_directory_without_tapes_says_what_a_tape_is_called(tmp_path):
    assert ".tape.jsonl" in run("ls", tmp_path).stderr


def test_a_compressed_tape_is_read_like_any_other(tmp_path):
    import zstandard

    compress = zstandard.ZstdCompressor().compress
    path = tmp_path / "a.tape.jsonl.zst"
    file = open_private(path)
    file.write(compress(tape_of([])) + compress(encode(session(), ORIGIN_NS)))
    file.close()
    assert run("verify", path).exit_code == 0
    assert len(run("show", path).stdout.splitlines()) == 12


def test_a_large_number_survives_the_way_to_a_script(save):
    big = 2**70
    records = [*post(1, 0, b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % big)]
    (row,) = lines_of(run("show", save(tape_of(records)), "--json"))
    assert row["id"] == big


class Terminal:
    """Makes stderr a terminal for the progress bar, and time pass with every look at the clock."""

    def __init__(self, monkeypatch, seconds):
        self.now = 0.0
        self.seconds = seconds
        self.written = []
        monkeypatch.setattr(tape_module, "monotonic", self.monotonic)
        monkeypatch.setattr(tape_module, "Progress", self.progress)

    def monotonic(self):
        self.now += self.seconds
        return self.now

    def progress(self, *columns, **options):
        from io import StringIO

        from rich.console import Console
        from rich.progress import Progress

        options["console"] = Console(file=StringIO(), force_terminal=True, width=100)
        options["disable"] = False
        bar = Progress(*columns, **options, auto_refresh=False)
        self.written.append(bar.console.file)
        return bar


@pytest.mark.parametrize(("seconds", "shown"), [(0.1, False), (3.0, True)])
def test_a_bar_appears_only_when_it_takes_long(path, monkeypatch, seconds, shown):
    terminal = Terminal(monkeypatch, seconds)
    assert run("stats", path).exit_code == 0
    assert ("a.tape.jsonl" in terminal.written[0].getvalue()) == shown


def test_on_a_terminal_the_table_has_its_width(path, monkeypatch):
    monkeypatch.setattr(sys.stdout.__class__, "isatty", lambda _self: True, raising=False)
    assert "tools/call" in run("stats", path).stdout


def test_events_belong_to_the_call_whose_answer_they_precede(save):
    stream = [event(1, method="notifications/message", params={}), event(2, id=1, result={}), event(3, method="late")]
    records = [*post(1, 0, rpc(id=1, method="work")), *reply(1, 1, stream, [("Content-Type", "text/event-stream")])]
    (found,) = lines_of(run("stats", save(tape_of(records)), "--json"))
    assert next(about for about in found["methods"] if about["method"] == "work")["events"] == 1


def test_a_tape_without_anything_is_whole(save):
    path = save(tape_of([]))
    assert run("verify", path).exit_code == 0
    assert run("show", path).stdout == ""
    assert "0 messages" in run("stats", path).stdout


def test_the_header_of_a_test_tape_is_a_real_one(save):
    opened = Open(at(0), 1, "f", "GET", "http://h/", "HTTP/1.1", [])
    (found,) = lines_of(run("ls", save(tape_of([opened])), "--json"))[0]
    assert found["created"] == header().created
