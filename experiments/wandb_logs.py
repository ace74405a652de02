"""What is readable of an offline log of W&B whose process was killed.

`wandb sync` (0.31) never takes a log for uploaded that ends within a record, and gives up on one that ends in zeros, as
a file can after the machine went down. Such an end is cut off before.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

_HEADER = 7  # bytes: of the file, and of every chunk
_BLOCK = 2**15  # bytes, which no chunk crosses
_ENDS_A_RECORD = (1, 4)  # kinds of chunks: a whole record, the last part of one


def cut_unreadable_end(log: Path) -> int:
    """Cuts off what follows the last whole record of a log.

    Returns:
        How many bytes are left, 0 if there is no record, and the file is as it was.
    """
    content = log.read_bytes()
    end = end_of_records(content)
    if 0 < end < len(content):
        with log.open("r+b") as file:
            file.truncate(end)
    return end


def end_of_records(content: bytes) -> int:
    """Returns where the last whole record ends, 0 if there is none.

    The format is LevelDB's: after the file's header, chunks of a checksum (CRC-32 of kind and data), a length, a kind
    and the data. Where a block has no room for a chunk's header it is filled with zeros.
    """
    position, end = _HEADER, 0
    while content.startswith(b":W&B") and position + _HEADER <= len(content):
        room = _BLOCK - position % _BLOCK
        if room < _HEADER:
            position += room
            continue
        checksum, length, kind = struct.unpack_from("<IHB", content, position)
        data = content[position + _HEADER : position + _HEADER + length]
        if len(data) < length or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            break
        position += _HEADER + length
        if kind in _ENDS_A_RECORD:
            end = position
    filling = -end % _BLOCK
    if end and filling < _HEADER and not any(content[end : end + filling]):  # it belongs to the block
        end = min(end + filling, len(content))
    return end
