"""RNC "method 1" (Rob Northen Compression), as files of the early nineties are packed.

A file is an 18-byte header (big-endian: "RNC", 1, 4 bytes size unpacked, 4 bytes size packed, 2 + 2 bytes checksums, 1 byte
leeway, 1 byte number of blocks) and blocks. A block has three Huffman codes (for lengths of literals, distances, lengths of
matches), a count, and then literals and matches in turn. Bits come from little-endian 16-bit words, lowest first; literals lie
between these words, as bytes.
"""
import struct

HEADER = 18  # bytes


class Bits:
    def __init__(self, data, at):
        self.data, self.at = data, at                  # at: where the newest word in the buffer came from
        self.buffer, self.count = self.word(), 16
        self.read(2)                                   # two flags that say nothing about the data

    def word(self):
        return int.from_bytes(self.data[self.at:self.at + 2], "little")

    def drop(self, n):
        self.buffer >>= n
        self.count -= n
        if self.count < 16:
            self.at += 2
            self.buffer |= self.word() << self.count
            self.count += 16

    def read(self, n):
        value = self.buffer & ((1 << n) - 1)
        self.drop(n)
        return value

    def literals(self, n):
        """n bytes from before the newest word, which is read anew behind them."""
        found = self.data[self.at:self.at + n]
        self.at += n
        self.count -= 16
        self.buffer = (self.buffer & ((1 << self.count) - 1)) | self.word() << self.count
        self.count += 16
        return found


class Code:
    """A canonical Huffman code; its values count bits: v >= 2 stands for 2^(v-1) and v-1 more bits."""

    def __init__(self, bits):
        lengths = [bits.read(4) for _ in range(bits.read(5))]
        longest, code = max(lengths, default=0), 0
        self.mask, self.table = (1 << longest) - 1, [None] * (1 << longest)   # by the next bits: (bits of the code, value)
        for length in range(1, longest + 1):
            for value, its in enumerate(lengths):
                if its == length:
                    for bits_ahead in range(int(f"{code:0{length}b}"[::-1], 2), 1 << longest, 1 << length):
                        self.table[bits_ahead] = length, value
                    code += 1
            code <<= 1

    def read(self, bits):
        found = self.table[bits.buffer & self.mask]
        if found is None:
            raise ValueError("RNC data: no code of the Huffman table fits")
        bits.drop(found[0])
        return found[1] if found[1] < 2 else 1 << (found[1] - 1) | bits.read(found[1] - 1)


def unpack(data):
    """What `data` (bytes from the header on) holds; ValueError if that is not what its header says."""
    if data[:4] != b"RNC\1":
        raise ValueError("RNC data: does not begin with RNC and 1")
    size, packed = struct.unpack(">II", data[4:12])
    bits, out = Bits(data[:HEADER + packed], HEADER), bytearray()
    while len(out) < size:
        literals, distances, lengths = Code(bits), Code(bits), Code(bits)
        for left in range(bits.read(16) - 1, -1, -1):
            n = literals.read(bits)
            if n:
                out += bits.literals(n)
            if left:
                start, n = len(out) - 1 - distances.read(bits), 2 + lengths.read(bits)
                if start < 0:
                    raise ValueError("RNC data: a match begins before the data")
                for i in range(start, start + n):      # what it writes may be what it copies
                    out.append(out[i])
    if len(out) != size:
        raise ValueError(f"RNC data: {len(out)} bytes, the header says {size}")
    return bytes(out)
