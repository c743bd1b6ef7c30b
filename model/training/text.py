"""Tokens (a SentencePiece unigram model; 0 is CTC's blank, piece i is token i + 1) and word errors.

    python text.py --out tokenizer.model --vocab 400 FILE ...     FILE: packs.tsv or jobs.tsv (.xz too), text in the fifth column
"""
import argparse
import lzma
import os
import tempfile


class Tokens:
    def __init__(self, model):
        import sentencepiece
        self.sp = sentencepiece.SentencePieceProcessor(model_file=model)
        self.size = self.sp.vocab_size() + 1

    def encode(self, text):
        return [i + 1 for i in self.sp.encode(text)]

    def decode(self, tokens):
        return self.sp.decode([i - 1 for i in tokens])

    def pieces(self):
        return [self.sp.id_to_piece(i) for i in range(self.sp.vocab_size())]


def best_path(frames):
    """argmax tokens a frame -> tokens: repeats merged, blanks dropped."""
    return [int(k) for i, k in enumerate(frames) if k and (i == 0 or k != frames[i - 1])]


def distance(a, b):
    d = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        p, d[0] = d[0], i
        for j, y in enumerate(b, 1):
            p, d[j] = d[j], min(d[j] + 1, d[j - 1] + 1, p + (x != y))
    return d[-1]


def wer(refs, hyps):
    errors = sum(distance(r.split(), h.split()) for r, h in zip(refs, hyps))
    return 100.0 * errors / max(1, sum(len(r.split()) for r in refs))


def main():
    import sentencepiece
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("files", nargs="+")
    ap.add_argument("--out", required=True)
    ap.add_argument("--vocab", type=int, default=400)
    a = ap.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "text")
        with open(path, "w", encoding="utf-8") as f:
            for name in a.files:
                for line in (lzma.open if name.endswith(".xz") else open)(name, "rt", encoding="utf-8"):
                    f.write(" ".join(line.rstrip("\n").split("\t")[4].upper().split()) + "\n")
        stem = os.path.splitext(a.out)[0]
        sentencepiece.SentencePieceTrainer.train(
            input=path, model_prefix=stem, vocab_size=a.vocab, model_type="unigram", character_coverage=1.0, bos_id=-1, eos_id=-1,
            unk_id=0, minloglevel=2, input_sentence_size=400000, shuffle_input_sentence=True, num_threads=2)
        os.replace(stem + ".model", a.out)
        os.remove(stem + ".vocab")


if __name__ == "__main__":
    main()
