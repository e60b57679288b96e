"""The messages of one chunk: lazily decoded, editable by position, re-emitted with unchanged bytes as they came.

No I/O. Interceptors know this module and nothing of the transport below it.
"""

from shadowcat_core.messages.answers import RpcError
from shadowcat_core.messages.batch import MessageBatch
from shadowcat_core.messages.edits import Act, Change
from shadowcat_core.messages.message import Content, Message, MessageContext
from shadowcat_core.messages.routing import burst_hints, proves_method, proves_methods, sole_hint

__all__ = [
    "Act",
    "Change",
    "Content",
    "Message",
    "MessageBatch",
    "MessageContext",
    "RpcError",
    "burst_hints",
    "proves_method",
    "proves_methods",
    "sole_hint",
]
