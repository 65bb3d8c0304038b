"""How large the columns of a Parquet file become, told before anything is decompressed.

A kilobyte of zstd can hold 30 MB, and Parquet's reader cannot be given a limit. But each page says in
its header what it becomes, and the reader refuses one that becomes more. Footer and headers are read
here, in Thrift's compact protocol: pyarrow's view of a column chunk ends the process where the size
statistics in it are wrong (`Definition level histogram size mismatch`, pyarrow 25).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from charkha.serving.dialects.tables import Unsafe

_MOST_FOOTER = 1 << 20  # bytes; that of 200 columns in ten row groups is 300,000
_MOST_PAGES = 20_000  # each costs 20 µs; a page has a megabyte where nobody says otherwise
_DEEPEST = 12  # structs and lists in each other; Parquet has eight
_DATA_PAGE, _DATA_PAGE_V2 = 5, 8  # fields of PageHeader
_DELTA_BYTE_ARRAY, _DICTIONARIES = 7, (2, 8)  # of Encoding
_BYTE_ARRAY = 6  # of Type


class Sizes(NamedTuple):
    """What is to be known of a file before it is read."""

    rows: list[int]  # of each row group
    size: int  # bytes of the columns that are wanted, once they are decompressed
    texts: set[str]  # those of them that have a dictionary of texts


def file_sizes(data: memoryview, names: set[str]) -> Sizes:
    """Return how large a file becomes.

    Args:
        data: the file.
        names: of the columns that are wanted.

    Raises:
        Unsafe: it cannot be read, or has an encoding that repeats values without limit.
    """
    try:
        groups = _footer(data)[4]
        rows = [group[3] for group in groups]
        if not all(isinstance(count, int) and count >= 0 for count in rows):
            raise Unsafe("its row groups cannot be counted")
        size, pages, texts = 0, 0, set()
        for group in groups:
            for chunk in group[1] if group[3] else ():
                about = chunk[3]
                path = b".".join(about[3]).decode()
                if path not in names:
                    continue
                more, more_pages, has_dictionary = _chunk(data, about)
                size, pages = size + more, pages + more_pages
                if pages > _MOST_PAGES:
                    raise Unsafe("it has too many pages; write larger ones")
                if has_dictionary and about[1] == _BYTE_ARRAY:
                    texts.add(path)
    except (IndexError, KeyError, TypeError, ValueError) as e:
        raise Unsafe("its metadata cannot be read") from e
    return Sizes(rows, size, texts)


def _footer(data: memoryview) -> dict[int, Any]:
    length = int.from_bytes(data[-8:-4], "little")
    if bytes(data[-4:]) != b"PAR1" or length > len(data) - 8:
        raise Unsafe("it does not end as a file should")
    if length > _MOST_FOOTER:
        raise Unsafe("its metadata is too large; write fewer row groups")
    return _Thrift(data[-8 - length : -8]).struct()


def _chunk(data: memoryview, about: dict[int, Any]) -> tuple[int, int, bool]:
    """Return bytes and number of the pages of a column chunk, and whether it has a dictionary."""
    at, length, dictionary = about[9], about[7], about.get(11, 0)
    if 0 < dictionary < at:
        at = dictionary
    end = at + length
    if at < 0 or length < 0 or end > len(data):
        raise Unsafe("a column lies outside of the file")
    size, pages, has_dictionary = 0, 0, False
    while at < end and pages <= _MOST_PAGES:
        thrift = _Thrift(data, at)
        header = thrift.struct()
        inflated, compressed = header[2], header[3]
        at = thrift.at + compressed
        if inflated < 0 or compressed < 0 or at > len(data):
            raise Unsafe("a page lies outside of its column")
        encodings = [header[_DATA_PAGE][2]] if _DATA_PAGE in header else []
        encodings += [header[_DATA_PAGE_V2][4]] if _DATA_PAGE_V2 in header else []
        if _DELTA_BYTE_ARRAY in encodings:
            raise Unsafe("it has columns in DELTA_BYTE_ARRAY, which is not read here")
        has_dictionary |= any(encoding in _DICTIONARIES for encoding in encodings)
        size, pages = size + inflated, pages + 1
    return size, pages, has_dictionary


class _Thrift:
    """Reads Thrift's compact protocol; a field that comes twice, which readers disagree on, is refused."""

    def __init__(self, data: memoryview, at: int = 0) -> None:
        self._data, self.at = data, at

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Return {number of the field: value}."""
        if depth > _DEEPEST:
            raise Unsafe("its metadata is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            number = number + (kind >> 4) if kind >> 4 else self._zigzag()
            if number in fields:
                raise Unsafe("its metadata has a field twice")
            kind &= 15
            fields[number] = kind == 1 if kind < 3 else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2 | 3:  # in a list: truth, a byte
                return self._byte()
            case 4 | 5 | 6:  # 16, 32, 64 bits
                return self._zigzag()
            case 7:  # a double
                return self._take(8)
            case 8:
                return self._take(self._varint())
            case 9 | 10:
                return self._list(depth + 1)
            case 12:
                return self.struct(depth + 1)
        raise Unsafe("its metadata has a part that Parquet does not know")

    def _list(self, depth: int) -> list[Any]:
        if depth > _DEEPEST:
            raise Unsafe("its metadata is nested too deeply")
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        if count > len(self._data) - self.at:
            raise Unsafe("a list is longer than the metadata")
        return [self._value(head & 15, depth) for _ in range(count)]

    def _zigzag(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)

    def _varint(self) -> int:
        number = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise Unsafe("a number in its metadata is too long")

    def _byte(self) -> int:
        byte = self._data[self.at]
        self.at += 1
        return byte

    def _take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self._data):
            raise Unsafe("a text is longer than the metadata")
        start, self.at = self.at, end
        return bytes(self._data[start:end])
