"""Reads a file that a person wrote, in YAML, JSON or TOML by its suffix, within bounds.

No I/O: bytes are handed in.
"""

from pathlib import Path

from shadowcat_core.documents.document import Document
from shadowcat_core.documents.toml_source import read_toml
from shadowcat_core.documents.yaml_source import read_yaml
from shadowcat_core.limits import MAX_DOCUMENT_BYTES


def read_document(raw: bytes, path: Path) -> Document:
    """Read a file's bytes. `path` is for errors; its suffix tells TOML, and JSON, where tabs are blanks, from YAML.

    Raises:
        DocumentError: it is too large, no UTF-8, not what its suffix says, or says what JSON cannot.
    """
    document = Document(path)
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise document.error(None, f"{len(raw):,} bytes are over the limit of {MAX_DOCUMENT_BYTES:,}")
    if path.suffix == ".json":
        raw = raw.replace(b"\t", b" ")  # YAML has no tabs there, and JSON has none inside its strings
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise document.error(raw.count(b"\n", 0, exc.start) + 1, "not UTF-8") from exc
    read = read_toml if path.suffix == ".toml" else read_yaml
    read(text, document)
    return document
