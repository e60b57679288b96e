"""The two shapes of an interceptor, and how it declares what it cares for."""

from collections.abc import Awaitable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Protocol, Self, runtime_checkable

from shadowcat_core.interceptors.declarations import check_declared
from shadowcat_core.interceptors.verdicts import Verdict
from shadowcat_core.jsonrpc import Kind
from shadowcat_core.mcp import Direction
from shadowcat_core.messages import Message, MessageBatch


@runtime_checkable
class Interceptor(Protocol):
    """Judges one message at a time. May be sync or async, and may declare its `Interest`."""

    def intercept(self, message: Message) -> Verdict | Awaitable[Verdict]: ...


@runtime_checkable
class BatchInterceptor(Protocol):
    """Judges and edits the messages of one chunk together. May be sync or async, and may declare its `Interest`."""

    def intercept_batch(self, batch: MessageBatch) -> Awaitable[None] | None: ...


_STARTS_OF_DOCUMENTS: Final = (b"{", b"[")
_IN_FRONT: Final = b"\0\xff\xfe\xef\xbb\xbf \t\r\n"  # blanks, and what other encodings put before and between letters


@dataclass(frozen=True, slots=True)
class Interest:
    """What an interceptor cares for; it is not called for anything else, which is not even parsed.

    Read from the interceptor's attributes `methods`, `kinds`, `direction` and `exact`, each of them optional.
    """

    methods: AbstractSet[str] | None = None
    kinds: AbstractSet[Kind] | None = None
    direction: Direction | None = None
    exact: bool = True
    """Whether it decides something, and so must not be deceived. False is for those who only watch: quicker, as
    messages are routed by their hints alone (see `jsonrpc.classify`)."""

    @classmethod
    def of(cls, interceptor: object) -> Self:
        """Read the interest of an interceptor.

        Raises:
            ValueError: it makes no sense: one string in the place of a collection, a kind that there is not.
        """
        declared = {name: getattr(interceptor, name, None) for name in ("methods", "kinds", "direction")}
        check_declared(declared)
        methods, kinds, direction = declared.values()
        return cls(
            None if methods is None else frozenset(methods),
            None if kinds is None else frozenset(map(Kind, kinds)),
            None if direction is None else Direction(direction),
            bool(getattr(interceptor, "exact", True)),
        )

    @property
    def is_general(self) -> bool:
        """True when it wants every message of its direction."""
        return self.methods is None and self.kinds is None

    def find(self, batch: MessageBatch) -> Sequence[tuple[int, Message]]:
        """Find what may be of interest in a batch of its direction. Who is `exact` asks each whether it `wants` it."""
        if not self.exact:
            return batch.where(self.methods, self.kinds)
        return batch.where() if self.methods is None else batch.candidates(self.methods)

    def wants(self, message: Message) -> bool:
        """True when a message, read exactly, is of interest."""
        return (self.methods is None or message.method in self.methods) and (
            self.kinds is None or message.kind in self.kinds
        )


def is_unroutable(message: Message) -> bool:
    """True for what is no JSON-RPC message to us, and might be one to an endpoint that reads more leniently.

    NaN, other encodings than UTF-8, comments, depth without end, names in capitals: endpoints differ. Text that does
    not begin like a JSON document, such as a server's talk or the URL of an `endpoint` event, is none to anybody.
    """
    if message.kind is not Kind.INVALID or (message.is_json and message.method is not None):
        return False
    return message.raw.lstrip(_IN_FRONT).startswith(_STARTS_OF_DOCUMENTS)
