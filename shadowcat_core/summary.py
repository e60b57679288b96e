"""One exchange in one line, for the comment column: what was asked, how it went, how long it took. No I/O.

tools/call echo → ok · 12 ms · 4 messages
tools/call rollback → ✗ tool error · 42 ms
tools/call delete_all → ✗ error … · 1 ms · blocked by no-deletes
"""

from shadowcat_core.exchange import Exchange
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.mcp import RecognitionKind
from shadowcat_core.messages import Message
from shadowcat_core.transcript import duration_text, error_text, is_failure, is_tool_error, printable, size_text, title

UPSTREAM_LABEL = "mcp.upstream"
"""The upstream that has an exchange, or had it last. Beside `labels`: it is known to whoever leads the exchange."""
HTTP_ACCEPTED = 202
_BROKEN = {"reset": "→ ✗ server hung up", "error": "→ ✗ broke off", "killed": "→ ✗ killed"}
_STREAMS = {
    RecognitionKind.STREAM: "server stream",
    RecognitionKind.SSE_STREAM: "HTTP+SSE stream",
    RecognitionKind.SESSION_END: "end of session",
}


def summary(exchange: Exchange, now_ns: int) -> str:
    """Say what an exchange is and how it stands at a moment of the registry's clock."""
    asked = _asked(exchange)
    # What is held says mostly what was asked already.
    parts = [] if asked in (exchange.held or "") else [f"{asked} {_outcome(exchange)}"]
    if exchange.requests or exchange.messages:
        parts.append(duration_text((exchange.ended_ns or now_ns) - exchange.started_ns))
    # One answer to one request goes without saying, once it is there.
    if exchange.messages > 1 or (exchange.messages and (not exchange.requests or exchange.ended_ns is None)):
        parts.append(f"{exchange.messages} message{'' if exchange.messages == 1 else 's'}")
    parts += [deed if times == 1 else f"{deed} ×{times}" for deed, times in exchange.deeds.items()]
    if exchange.held is not None:
        parts.insert(0, f"⏸ held: {exchange.held}")
    return printable(" · ".join(parts))


def labels(exchange: Exchange) -> dict[str, str]:
    """What is known of an exchange, as names and texts that mitmproxy's filters and flow files can hold."""
    recognition = exchange.recognition
    known = {
        "mcp.kind": recognition.kind if recognition.is_mcp else None,
        "mcp.era": recognition.era,
        "mcp.version": recognition.protocol_version,
        "mcp.session": recognition.session_id,
        "mcp.method": " ".join(message.method for message in exchange.asked if message.method),
        "mcp.target": " ".join(message.target for message in exchange.requests if message.target),
        "mcp.id": " ".join(str(message.id) for message in exchange.requests),
    }
    return {name: printable(str(text)) for name, text in known.items() if text}


def exchange_failed(exchange: Exchange) -> bool:
    """Say whether an exchange failed: an error, a tool's own failure, or an HTTP status that is one."""
    if any(is_failure(answer) or answer.kind is Kind.INVALID for answer in _answers(exchange)):
        return True
    return _is_refused(exchange) or (exchange.broke_off in _BROKEN and is_unanswered(exchange))


def ended_unsaid(exchange: Exchange) -> bool:
    """Say whether an exchange that is over went wrong without a message that tells so."""
    if _is_refused(exchange):
        return exchange.messages == 0
    if exchange.status == HTTP_ACCEPTED or exchange.listens or _unread_bytes(exchange):
        return False
    return is_unanswered(exchange)


def is_unanswered(exchange: Exchange) -> bool:
    """Say whether a call of the exchange waits for its answer, or waited in vain."""
    return any(call.answer is None and call.cancelled_ns is None for call in exchange.calls)


def _is_refused(exchange: Exchange) -> bool:
    return exchange.status is not None and exchange.status >= 400


def _unread_bytes(exchange: Exchange) -> int:
    """What passed without being looked at: too large, or in a coding that nobody knows."""
    return 0 if exchange.tap is None else exchange.tap.metrics.unwatched_bytes


def _asked(exchange: Exchange) -> str:
    asked = list(exchange.asked)
    if not asked:
        return _STREAMS.get(exchange.recognition.kind, "event stream")
    words = _name(asked[0])
    return words if len(asked) == 1 else f"{words} +{len(asked) - 1}"


def _name(message: Message) -> str:
    if message.kind is Kind.INVALID:
        return "not JSON-RPC"
    return title(message) or f"answer #{message.id}"


def _answers(exchange: Exchange) -> list[Message]:
    return [call.answer for call in exchange.calls if call.answer is not None]


def _outcome(exchange: Exchange) -> str:
    answers = _answers(exchange)
    for answer in answers:
        if answer.kind is Kind.ERROR:
            return f"→ ✗ error {error_text(answer)}"
        if answer.kind is Kind.INVALID:
            return "→ ✗ unreadable answer"
        if answer.kind is Kind.RESPONSE and is_tool_error(answer.payload):
            return "→ ✗ tool error"
    if _is_refused(exchange):
        return f"→ ✗ HTTP {exchange.status}"
    if exchange.calls and len(answers) == len(exchange.calls):
        return "→ ok"
    if exchange.ended_ns is None:
        return "…"
    if exchange.status == HTTP_ACCEPTED:
        return "→ accepted"
    if exchange.broke_off == "client_closed":
        return "→ client left"
    if exchange.listens or exchange.recognition.kind in _STREAMS or not exchange.asked:
        return "→ closed"
    if unread := _unread_bytes(exchange):
        return f"→ {size_text(unread)} that were not read"
    return _BROKEN.get(exchange.broke_off or "", "→ no answer")
