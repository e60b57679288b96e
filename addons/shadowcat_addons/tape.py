"""Records every exchange that Shadowcat recognises on a tape: one file for each run of the proxy."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, overload

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader

from shadowcat_core import __version__
from shadowcat_core.errors import TapeError
from shadowcat_core.exchange import Exchange
from shadowcat_core.interceptors import VerdictRecord
from shadowcat_core.limits import MiB
from shadowcat_core.tape.recorder import Mode, Recorder
from shadowcat_core.tape.records import Chunk, End, Header, Note, Open, Request, Response, Verdict
from shadowcat_core.tape.redaction import HeaderRedactor
from shadowcat_core.tape.writer import new_tape_path

logger = logging.getLogger(__name__)

DRAIN_S = 5.0
"""How long a closing proxy waits for the disk. The queue holds 10 MB by default: a second's work for a slow disk."""

MODES: Final[dict[str, Mode]] = {"zero-latency": "background", "standard": "standard"}

OURSELVES: Final = "shadowcat"
"""Who answers for a server that cannot (`upstream_errors`), in the place of an interceptor's name."""
SERVER_FAILED: Final = ("reset", "error")
"""How an exchange ends whose client is there and whose server is not."""

OPTIONS: Final = (
    "shadowcat_tape",
    "shadowcat_tape_mode",
    "shadowcat_tape_compress",
    "shadowcat_tape_buffer_records",
    "shadowcat_tape_flush_ms",
    "shadowcat_tape_queue_mb",
    "shadowcat_redact_headers",
)


class Tape:
    """Feeds a recorder from mitmproxy's hooks; the recorder's thread does everything that takes time."""

    def __init__(self) -> None:
        self._standard = False
        self._recorder: Recorder | None = None
        self._settings: tuple[str, ...] = ()

    @property
    def recorder(self) -> Recorder | None:
        """What writes the tape; None while nothing is recorded."""
        return self._recorder

    def load(self, loader: Loader) -> None:
        loader.add_command("shadowcat.tape", self.tape)
        loader.add_option("shadowcat_tape", str, "", "Record MCP exchanges as tapes in this directory; empty: off.")
        loader.add_option(
            "shadowcat_tape_mode",
            str,
            "zero-latency",
            "Write in the background after the bytes have passed, or (standard) write each record before they pass.",
            choices=tuple(MODES),
        )
        loader.add_option("shadowcat_tape_compress", bool, False, "Compress tapes with zstd.")
        loader.add_option("shadowcat_tape_buffer_records", int, 100, "Records written at a time (zero-latency mode).")
        loader.add_option("shadowcat_tape_flush_ms", int, 100, "Longest wait before a record is written, in ms.")
        loader.add_option(
            "shadowcat_tape_queue_mb",
            int,
            10,
            "Memory for records that wait for the disk, in MB; beyond it records are left out, counted and said.",
        )
        loader.add_option(
            "shadowcat_redact_headers",
            Sequence[str],
            [],
            "Further header names whose values are kept off the tape (the usual secrets always are).",
        )

    def configure(self, _updated: AbstractSet[str]) -> None:
        for name in ("buffer_records", "flush_ms", "queue_mb"):
            if getattr(ctx.options, f"shadowcat_tape_{name}") < 1:
                raise exceptions.OptionsError(f"shadowcat_tape_{name} must be at least 1")
        if ctx.options.shadowcat_tape_mode not in MODES:  # mitmproxy's `choices` do not hold what is set at run time
            raise exceptions.OptionsError(f"shadowcat_tape_mode must be one of {', '.join(MODES)}")
        settings = tuple(str(getattr(ctx.options, name)) for name in OPTIONS)
        if settings != self._settings:  # mitmproxy also calls for options that were set to what they were
            self._settings = settings
            self._standard = ctx.options.shadowcat_tape_mode == "standard"
            self._close()
            if ctx.options.shadowcat_tape:
                self._recorder = self._open()

    def _open(self) -> Recorder:
        options = ctx.options
        now = datetime.now(UTC)
        directory = Path(options.shadowcat_tape).expanduser()
        mode = MODES[options.shadowcat_tape_mode]
        redact = HeaderRedactor(options.shadowcat_redact_headers)
        try:
            path = new_tape_path(directory, now, os.getpid(), compress=options.shadowcat_tape_compress)
            recorder = Recorder(
                path,
                Header(
                    created=now.isoformat(),
                    tool="shadowcat",
                    tool_version=__version__,
                    redaction=redact.profile,
                    mode=mode,
                    origin_ns=time.monotonic_ns(),
                ),
                redact=redact,
                on_failure=lambda exc: logger.error("shadowcat: tape %s: %s (traffic goes on)", path, exc),
                mode=mode,
                flush_records=options.shadowcat_tape_buffer_records,
                flush_ms=options.shadowcat_tape_flush_ms,
                queue_bytes=options.shadowcat_tape_queue_mb * MiB,
            )
        except (OSError, TapeError) as exc:
            raise exceptions.OptionsError(f"shadowcat_tape: cannot record in {directory}: {exc}") from exc
        logger.info("shadowcat: recording on %s", path)
        return recorder

    def _close(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        complete = recorder.close(DRAIN_S)
        if recorder.dropped or not complete:
            logger.warning(
                "shadowcat: tape %s: %d records, %d left out%s",
                recorder.path, recorder.recorded, recorder.dropped, "" if complete else "; the disk is not done",
            )  # fmt: skip

    def done(self) -> None:
        self._close()

    def tape(self) -> str:
        """Say where the tape is, and what is on it."""
        recorder = self._recorder
        if recorder is None:
            return "not recording (set shadowcat_tape to a directory)"
        return f"{recorder.path}: {recorder.recorded} records, {recorder.dropped} left out, {recorder.waiting} waiting"

    def opened(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        recorder = self._recorder
        if recorder is None:
            return
        exchange.on_tape = True
        exchange.sinks_first = self._standard
        exchange.chunk_sinks.append(partial(_put_chunk, recorder.put, exchange.number))
        request, recognition = flow.request, exchange.recognition
        recorder.put(
            Open(
                at_ns=exchange.started_ns,
                exchange=exchange.number,
                flow=flow.id,
                method=request.method,
                url=request.url,
                http_version=request.http_version,
                headers=HeaderPairs(request.headers.fields),
                session=recognition.session_id,
                era=recognition.era,
                protocol_version=recognition.protocol_version,
                client=address(flow.client_conn.peername),
                server=address(flow.server_conn.address),
            )
        )
        if request.raw_content:
            recorder.put(Request(exchange.started_ns, exchange.number, request.raw_content))

    def answering(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        if self._recorder is not None and exchange.on_tape and flow.response is not None:
            self._recorder.put(_head(time.monotonic_ns(), exchange, flow.response))

    def judged(self, record: VerdictRecord) -> None:
        """Record what an interceptor did, with the original."""
        if self._recorder is not None and record.context.exchange_id is not None:
            self._recorder.put(
                Verdict(
                    time.monotonic_ns(),
                    record.context.exchange_id,
                    record.interceptor,
                    record.action,
                    record.reason,
                    record.original,
                    record.result,
                    record.reply,
                    record.mode,
                    record.context.direction.value,
                )
            )

    def faulted(self, exchange: Exchange, by: str, text: str) -> None:
        """Record a fault that was made, where no verdict tells of it."""
        if self._recorder is not None:
            self._recorder.put(Note(time.monotonic_ns(), exchange.number, text, {"by": by}))

    def ended(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        recorder = self._recorder
        if recorder is None or not exchange.on_tape:
            return
        now_ns = time.monotonic_ns()
        response = flow.response
        body = response.raw_content or b"" if response is not None and exchange.tap is None else b""
        if exchange.came is not None:
            body = exchange.came
        if exchange.broke_off is None:
            if body:
                recorder.put(Chunk(now_ns, exchange.number, "s2c", body))
            recorder.put(End(now_ns, exchange.number, "eof"))
            return
        text = "" if flow.error is None else flow.error.msg
        # Who was killed, or left, has got no answer.
        if exchange.answered_by_us and response is not None and exchange.broke_off in SERVER_FAILED:
            recorder.put(Verdict(now_ns, exchange.number, OURSELVES, "answer", text, result=body, direction="s2c"))
            recorder.put(_head(now_ns, exchange, response))
            recorder.put(Chunk(now_ns, exchange.number, "s2c", body))
        recorder.put(End(now_ns, exchange.number, exchange.broke_off, text))


def _head(at_ns: int, exchange: Exchange, response: http.Response) -> Response:
    return Response(at_ns, exchange.number, response.status_code, response.reason, HeaderPairs(response.headers.fields))


def _put_chunk(put: Callable[[Chunk], None], exchange: int, at_ns: int, chunk: bytes) -> None:
    put(Chunk(at_ns, exchange, "s2c", chunk))


class HeaderPairs(Sequence[tuple[str, str]]):
    """Header fields as the tape keeps them, put into text by the thread that writes them, not on the event loop."""

    def __init__(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self._fields = fields

    def __len__(self) -> int:
        return len(self._fields)

    @overload
    def __getitem__(self, index: int) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[str, str]]: ...
    def __getitem__(self, index: int | slice) -> tuple[str, str] | Sequence[tuple[str, str]]:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        name, value = self._fields[index]
        return name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")


def address(peer: tuple[str, int] | None) -> str | None:
    """`host:port`, with an IPv6 address in brackets."""
    if peer is None:
        return None
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
