"""The messages of one chunk: lazily decoded, editable by position, re-emitted with unchanged bytes as they came.

No I/O. Interceptors know this module and nothing of the transport below it.
"""

from shadowcat_core.messages.batch import Content, MessageBatch, sole_hint
from shadowcat_core.messages.message import Message, MessageContext

__all__ = ["Content", "Message", "MessageBatch", "MessageContext", "sole_hint"]
