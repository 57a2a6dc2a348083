#!/usr/bin/env python3
# Reads the text in a picture of a text screen that was drawn with a bitmap font: a cell of 8 by 16 pixels a character,
# each in one colour on another. What is no character of the font is a space.
# usage: tests/pc/picture_text.py PICTURE.png FONT.bgf      FONT: bterm's, as Debian's installer has it (bogl.h)
import struct
import sys
import zlib


def read_png(path):
    """Width and rows of a PNG with 8 bits each of red, green, blue (PNG specification, 5 and 9)."""
    with open(path, 'rb') as f:
        data = f.read()
    at, packed = 8, b''
    while at < len(data):
        length, kind = struct.unpack('>I4s', data[at:at + 8])
        if kind == b'IHDR':
            width, height, depth, colour = struct.unpack('>IIBB', data[at + 8:at + 18])
            assert (depth, colour) == (8, 2), 'not a picture of ringside screenshot'
        elif kind == b'IDAT':
            packed += data[at + 8:at + 8 + length]
        at += length + 12
    data, stride = zlib.decompress(packed), width * 3
    rows, above = [], bytes(stride)
    for y in range(height):
        kind, row = data[y * (stride + 1)], bytearray(data[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        if kind:
            for i in range(stride):
                left, up, corner = (row[i - 3] if i >= 3 else 0), above[i], (above[i - 3] if i >= 3 else 0)
                if kind == 4:
                    p = left + up - corner
                    near = min((left, up, corner), key=lambda value: abs(p - value))
                row[i] = row[i] + (0, left, up, (left + up) // 2, near if kind == 4 else 0)[kind] & 0xff
        rows.append(bytes(row))
        above = rows[-1]
    return width, rows


def read_font(path):
    """The font's characters by their pixels: sixteen bytes, the leftmost pixel in the highest bit."""
    with open(path, 'rb') as f:
        data = f.read()
    # After the magic the structure as it was in memory, with offsets for pointers.
    height, mask, offset, index, content = struct.unpack('<4x8xIIQQQ', data[:44])
    assert data[:4] == b'BGF1' and height == 16
    characters = {}
    for low in range(0x20, 0x7f):
        i = struct.unpack_from('<I', data, offset + 4 * low)[0]
        while True:
            entry, glyph = struct.unpack_from('<II', data, index + 4 * i)
            if not entry:
                break
            if entry & ~mask == 0 and entry & mask == 8:
                rows = struct.unpack_from('<16I', data, content + 4 * glyph)
                characters[bytes(row >> 24 for row in rows)] = chr(low)
            i += 2
    return characters


def cell(rows, x, y):
    """A cell's pixels as the font has them, for the colour of its first pixel as background; None: many colours."""
    background, ink, bits = rows[y][x * 3:x * 3 + 3], None, bytearray()
    for row in rows[y:y + 16]:
        byte = 0
        for i in range(x * 3, x * 3 + 24, 3):
            pixel = row[i:i + 3]
            byte <<= 1
            if pixel != background:
                if ink not in (None, pixel):
                    return None
                ink = pixel
                byte |= 1
        bits.append(byte)
    return bytes(bits)


def main():
    width, rows = read_png(sys.argv[1])
    font = read_font(sys.argv[2])
    for y in range(0, len(rows) - 15, 16):
        print(''.join(font.get(cell(rows, x, y), ' ') for x in range(0, width - 7, 8)).rstrip())


main()
