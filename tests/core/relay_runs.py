"""What the client of a call has, against what the runs of that call have sent. A reference model's judgement."""


def fits(received, ends, *, told, runs, is_answered) -> bool:
    """Say whether a client may have received this.

    `ends` are those of the server's streams that are still there, `told` is all that any run has said before its
    answer. What may run twice is sent again when its stream breaks off (`docs/upstreams.md`, "Answers that break off"):
    then what a run before has said comes first, as far as it has reached the proxy, and the run that answers is whole.
    """
    if runs <= 1:
        return any(received == (end.sent if is_answered else end.sent[: len(received)]) for end in ends)
    if not is_answered:
        return _in_order(received, told)
    wholes = [end.sent for end in ends if received[-len(end.sent) :] == end.sent]
    return any(_in_order(received[: -len(whole)], told) for whole in wholes)


def _in_order(received, told) -> bool:
    rest = iter(told)
    return all(payload in rest for payload in received)
