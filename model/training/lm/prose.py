"""Narrative prose and dialogue out of Debian packages: a sentence (or a clause of a long one) a line.

    python -m lm.prose FOLDER [BOOK ...] [--whole]

Needs apt-get and dpkg-deb; writes FOLDER/BOOK.txt.xz for each book named, or all. --whole leaves long sentences whole, as
punctuation.prepare wants them; the language model takes their clauses.

The novels are in the public domain; they lie in these packages as test data of compressors and the like. Wesnoth's campaigns
(GPL-2+, some CC-BY-SA) are dialogue. What goes from here into the models is counts of pieces, and weights.
"""
import argparse
import glob
import lzma
import os
import re
import subprocess
import tempfile

CAMPAIGNS = ("did", "dm", "dw", "ei", "httt", "l", "low", "nr", "sof", "sota", "sotbe", "thot", "trow", "tsg", "ttb", "utbs")
GO = "usr/share/gocode/src/github.com"


def novel(folder, path):
    """A book as Project Gutenberg has it: its own lines, without what stands around it."""
    with open(os.path.join(folder, path), encoding="utf-8", errors="replace") as f:
        text = f.read()
    begin = re.search(r"\*\*\* ?START OF.*?\*\*\*", text)
    end = re.search(r"\*\*\* ?END OF|End of (the )?Project Gutenberg", text)
    return text[begin.end() if begin else 0:end.start() if end else None].replace("_", "")


def scripture(folder, path):
    """Packed verses, which the package's own program prints, each behind its place."""
    program = os.path.join(folder, "usr/bin/bible")
    shown = subprocess.run([program, "-p", os.path.join(folder, path), "-f", "gen1:1-rev22:21"], capture_output=True, text=True,
                           check=True).stdout
    return re.sub(r"^\S+ ", "", shown, flags=re.M).replace("LORD", "Lord").replace("GOD", "God")


def campaigns(folder, path):
    """What is said and told in the campaigns' files: every translatable string that is a sentence."""
    texts = []
    for file in sorted(glob.glob(os.path.join(folder, path), recursive=True)):
        with open(file, encoding="utf-8", errors="replace") as f:
            texts += re.findall(r'(?:message|story|note) *= *_ *"((?:[^"]|"")*)"', f.read())
    return "\n\n".join(text.replace('""', '"').replace("<i>", "").replace("</i>", "") for text in texts)


# book: packages, how it is read, where it lies
BOOKS = {
    "moby-dick": (["golang-github-colinmarc-hdfs-dev"], novel, f"{GO}/colinmarc/hdfs/testdata/mobydick.txt"),
    "sherlock-holmes": (["golang-github-jdkato-prose-dev"], novel, f"{GO}/jdkato/prose/testdata/sherlock.txt"),
    "tom-sawyer": (["golang-github-pierrec-lz4-dev"], novel, f"{GO}/pierrec/lz4/testdata/Mark.Twain-Tom.Sawyer.txt"),
    "king-james": (["bible-kjv", "bible-kjv-text"], scripture, "usr/lib"),
    "wesnoth": ([f"wesnoth-1.16-{c}" for c in CAMPAIGNS], campaigns, "usr/share/games/wesnoth/1.16/data/campaigns/**/*.cfg"),
}

# Not the ends of sentences.
ABBREVIATED = r"(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bCapt\.)(?<!\bJr\.)"
LONG = 200  # characters; a longer sentence falls into its clauses


def sentences(text, whole):
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in re.split(ABBREVIATED + r"(?<=[.!?])[\"'\u201d\u2019)]*\s+", " ".join(paragraph.split())):
            parts = re.split(r"[;:]\s+|--+", sentence) if len(sentence) > LONG and not whole else [sentence]
            yield from (part for part in parts if part)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("folder")
    ap.add_argument("books", nargs="*", default=list(BOOKS))
    ap.add_argument("--whole", action="store_true")
    a = ap.parse_args()
    os.makedirs(a.folder, exist_ok=True)
    for book in a.books:
        packages, read, path = BOOKS[book]
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["apt-get", "download", "-q", *packages], cwd=folder, check=True, capture_output=True)
            for package in glob.glob(os.path.join(folder, "*.deb")):
                subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
            lines = list(sentences(read(folder, path), a.whole))
        with lzma.open(os.path.join(a.folder, book + ".txt.xz"), "wt", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
        print(f"{book}: {len(lines)} lines, {sum(len(line.split()) for line in lines)} words", flush=True)


if __name__ == "__main__":
    main()
