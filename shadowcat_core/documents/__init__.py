"""Files that people write: read within bounds, checked, and every mistake told with its line and what is allowed."""

from shadowcat_core.documents.document import Document, Where, field_name
from shadowcat_core.documents.formats import Format, nearest
from shadowcat_core.documents.reading import read_document

__all__ = ["Document", "Format", "Where", "field_name", "nearest", "read_document"]
