"""Words to pieces, by the longest piece that fits, from left to right (Schuster and Nakajima 2012; BERT's WordPiece)."""
PAUSE, UNKNOWN = 0, 1
SPECIAL = ["<pause>", "<unk>"]


class Pieces:
    def __init__(self, pieces):
        self.pieces = pieces
        self.ids = {p: i for i, p in enumerate(pieces)}
        self.longest = max(map(len, pieces))

    def __len__(self):
        return len(self.pieces)

    def encode(self, word):
        """A lower case word -> ids. U+2581 begins the first piece; a letter that no piece holds is <unk>."""
        s, at, out = "\u2581" + word, 0, []
        while at < len(s):
            for end in range(min(len(s), at + self.longest), at, -1):
                if s[at:end] in self.ids:
                    out.append(self.ids[s[at:end]])
                    at = end
                    break
            else:
                out.append(UNKNOWN)
                at += 2 if at == 0 else 1
        return out

    def write(self, path):
        with open(path, "w", encoding="utf-8") as f:
            f.writelines(f"{p} {i}\n" for i, p in enumerate(self.pieces))

    @staticmethod
    def read(path):
        with open(path, encoding="utf-8") as f:
            return Pieces([line.rstrip("\n").rsplit(" ", 1)[0] for line in f])
