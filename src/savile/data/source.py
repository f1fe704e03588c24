"""A data file as decoded lines: kind, first bytes, encoding, limits and sha256 are seen to here.

Nothing is guessed and nothing hangs: folders, pipes and devices are refused before they are opened;
a file of another type than its name says is named by its first bytes; `\\r\\n` and `\\r` end lines
like `\\n`; a byte that is not of the encoding stops reading with its line and offset. A `.gz` file
may expand to `MAX_EXPANDED` bytes. Cost: one pass, one block and one line in memory.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from savile.data.rows import hint
from savile.errors import DataError, Problem

BLOCK = 1 << 20
MAX_EXPANDED = 8 << 30
"""Bytes a compressed file may expand to."""
MAX_RATIO = 300
"""Expansion that only a zip bomb reaches (text compresses 3 to 30 times)."""
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "a zip archive (xlsx?)"),
    (b"PAR1", "Parquet"),
    (b"%PDF", "PDF"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file"),
    (b"SQLite format 3", "SQLite"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"ARROW1", "Arrow"),
)
WIDE = (
    (b"\xff\xfe\x00\x00", "UTF-32LE"),
    (b"\x00\x00\xfe\xff", "UTF-32BE"),
    (b"\xff\xfe", "UTF-16LE"),
    (b"\xfe\xff", "UTF-16BE"),
)
ZEROS = (
    ("UTF-32LE", (0.0, 0.7, 1.0, 1.0)),
    ("UTF-32BE", (1.0, 1.0, 0.7, 0.0)),
    ("UTF-16LE", (0.0, 0.7, 0.0, 0.7)),
    ("UTF-16BE", (0.7, 0.0, 0.7, 0.0)),
)
"""The least share of zero bytes at each place of four, in mostly Latin text; 0: none at all."""
WIDE_CODECS = ("utf-16", "utf-32", "utf-7", "iso2022", "cp037", "cp500", "cp273", "hz", "cp1140")
"""Encodings in which a line end is not the byte 0A, or whose bytes depend on what came before."""
SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


class Line(NamedTuple):
    """One line without its end."""

    number: int
    text: str
    ended: bool
    """Whether a line end followed; False only for the last line."""


@dataclass(kw_only=True)
class Source:
    """One file of the user, checked before it is opened."""

    path: Path
    name: str
    """What messages call it."""
    encoding: str = "utf-8"
    max_line: int = 16 << 20
    notes: list[str] = field(default_factory=list)
    sha256: str = ""
    """Of the bytes on disk; known once `lines` is used up."""
    size: int = 0
    _codec: str = "utf-8"
    """The encoding's name as Python writes it."""

    def __post_init__(self) -> None:
        try:
            self._codec = codecs.lookup(self.encoding).name
            b"abcd".decode(self.encoding, "ignore")
        except (LookupError, UnicodeError, ValueError):
            what = f"unknown encoding '{self.encoding}' (data.encoding)"
            raise self.error(what, fix="Use utf-8, cp1252, latin-1, utf-16, …") from None
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise self.error("the file does not exist" + self._nearest()) from None
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror}") from error
        for test, kind in KINDS:
            if test(status.st_mode):
                raise self.error(f"expected a file, found {kind}")
        self.size = status.st_size

    def error(
        self, what: str, line: int | None = None, fix: str = "", context: str = ""
    ) -> DataError:
        """Return a DataError that names this file."""
        where = self.name if line is None else f"{self.name}:{line}"
        return DataError(Problem(where=where, what=what, fix=fix, context=context))

    @property
    def kind(self) -> str:
        """The format by the name: jsonl, json, csv, tsv or parquet."""
        suffixes = [s.lower() for s in self.path.suffixes]
        if suffixes and suffixes[-1] == ".gz":
            suffixes.pop()
        if not suffixes or suffixes[-1] not in SUFFIXES:
            known = ", ".join(SUFFIXES)
            raise self.error(f"the format of the file is not known by its name; expected {known}")
        return SUFFIXES[suffixes[-1]]

    @property
    def compressed(self) -> bool:
        """Whether the name ends in .gz."""
        return self.path.suffix.lower() == ".gz"

    def lines(self) -> Iterator[Line]:
        """Yield decoded lines; `sha256` is set at the end."""
        number, rest = 0, b""
        for block in self._normalized():
            *complete, rest = (rest + block).split(b"\n")
            for raw in complete:
                number += 1
                yield Line(number, self._decode(raw, number), True)
            if len(rest) > self.max_line:
                raise self._long(number + 1)
        if rest:
            yield Line(number + 1, self._decode(rest, number + 1), False)

    def blocks(self) -> Iterator[bytes]:
        """Yield the expanded bytes, hashing what is on disk and seeing that it does not change."""
        digest = hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                before = os.fstat(file.fileno())
                self._check_magic(file.peek(64))
                stream = _expand(file, digest) if self.compressed else _plain(file, digest)
                seen = 0
                for block in stream:
                    seen += len(block)
                    if self.compressed and seen > BLOCK and seen > MAX_RATIO * max(self.size, 1):
                        raise self.error(f"expands more than {MAX_RATIO} times; refused")
                    if seen > MAX_EXPANDED and self.compressed:
                        raise self.error(f"expands to more than {MAX_EXPANDED} bytes; refused")
                    yield block
                after = self.path.stat()
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise self.error(f"the gzip data are cut off or damaged ({error})") from error
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror or error}") from error
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise self.error(
                "the file changed while it was read", fix="Run again when it is complete"
            )
        self.sha256 = digest.hexdigest()

    def _normalized(self) -> Iterator[bytes]:
        """Yield UTF-8 blocks (or of the given 8-bit encoding) whose only line end is `\\n`."""
        held = b""
        first = True
        for block in self._narrow():
            if first:
                first = False
                if block.startswith(codecs.BOM_UTF8):
                    block = block[3:]
                    self.notes.append(f"{self.name}: starts with a byte order mark; ignored")
            block = held + block
            held = b"\r" if block.endswith(b"\r") else b""
            if held:
                block = block[:-1]
            yield block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if held:
            yield b"\n"

    def _narrow(self) -> Iterator[bytes]:
        """Yield bytes as they are, or recoded to UTF-8 when the encoding is a wide one."""
        if not self._codec.startswith(WIDE_CODECS):
            yield from self.blocks()
            return
        decoder = codecs.getincrementaldecoder(self.encoding)()
        try:
            for block in self.blocks():
                yield decoder.decode(block).encode("utf-8")
            yield decoder.decode(b"", final=True).encode("utf-8")
        except UnicodeError as error:
            raise self.error(f"is not {self.encoding}: {error}") from error

    def _decode(self, raw: bytes, number: int) -> str:
        if len(raw) > self.max_line:
            raise self._long(number)
        if 0 in raw:
            at = raw.index(0) + 1
            raise DataError(
                Problem(
                    where=f"{self.name}:{number}:{at}",
                    what="a NUL byte",
                    fix="Is this a text file? Remove the byte",
                )
            )
        encoding = "utf-8" if self._codec.startswith(WIDE_CODECS) else self.encoding
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError as error:
            at = error.start
            fix = ""
            if self._codec in ("utf-8", "utf-8-sig"):
                fix = "If the file is Windows or Latin text, set data.encoding: cp1252"
            what = f"not {self.encoding}: byte 0x{raw[at]:02X} at byte {at + 1} of the line"
            raise self.error(what, number, fix) from error
        except UnicodeError as error:
            raise self.error(f"not {self.encoding}: {error}", number) from error

    def _long(self, number: int) -> DataError:
        size = (
            f"{self.max_line >> 20} MiB" if self.max_line >= 1 << 20 else f"{self.max_line} bytes"
        )
        return self.error(f"line longer than {size} (limit data.max_line)", number)

    def _check_magic(self, head: bytes) -> None:
        kind = self.kind
        if self.compressed:
            if not head.startswith(MAGIC[0][0]) and head:
                raise self.error("the name ends in .gz but the file is not gzip")
            return
        if self._codec in ("utf-8", "utf-8-sig"):
            for mark, name in WIDE:
                if head.startswith(mark):
                    shown = " ".join(f"{byte:02X}" for byte in mark)
                    raise self._wide(f"{name} (BOM {shown})", name[:6])
        for magic, name in MAGIC:
            if head.startswith(magic) and not (kind == "parquet" and name == "Parquet"):
                fix = f"Name it {self.path.name}.gz" if name == "gzip" else ""
                raise self.error(f"the file is {name}, not {kind} as its name says", fix=fix)
        wide = _wide_by_zeros(head)
        if wide and kind != "parquet" and self._codec in ("utf-8", "utf-8-sig"):
            raise self._wide(f"{wide} (by its NUL bytes, there is no BOM)", wide)
        if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
            raise self.error(
                f"the file is HTML, not {kind} as its name says", fix="Download it again"
            )

    def _wide(self, looks_like: str, encoding: str) -> DataError:
        fix = f"Convert it: iconv -f {encoding} -t UTF-8, or set data.encoding: {encoding}"
        return self.error(f"looks like {looks_like}", fix=fix)

    def _nearest(self) -> str:
        try:
            names = sorted(entry.name for entry in self.path.parent.iterdir())[:10_000]
        except OSError:
            return f" (nor does the folder {self.path.parent})"
        return hint(self.path.name, names)


def _wide_by_zeros(head: bytes) -> str | None:
    """Return the wide encoding whose pattern of zero bytes these first bytes have."""
    places = [head[:64][at::4] for at in range(4)]
    shares = [place.count(0) / max(1, len(place)) for place in places]
    for name, least in ZEROS:
        if all(s >= n if n else s == 0 for s, n in zip(shares, least, strict=True)):
            return name
    return None


def _plain(file: BinaryIO, digest: hashlib._Hash) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        digest.update(block)
        yield block


def _expand(file: BinaryIO, digest: hashlib._Hash) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as expanded:
        while block := expanded.read(BLOCK):
            yield block
    file.seek(0)
    while raw := file.read(BLOCK):
        digest.update(raw)
