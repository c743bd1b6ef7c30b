"""Narrative prose and dialogue out of Debian's packages: a sentence (or a clause of a long one) a line.

    python -m lm.prose FOLDER [BOOK ...] [--whole]

Needs apt-get and dpkg-deb; writes FOLDER/BOOK.txt.xz for each book named, or all. --whole leaves long sentences whole, as
punctuation.prepare and synth.passages want them; the language model takes their clauses.

The books are in the public domain; they lie in these packages as test data of compressors, as examples of stemmers and the like.
Wesnoth's campaigns (GPL-2+, some CC-BY-SA) are dialogue. What goes from here into the models is counts of pieces, and weights.
../README.md has the table.
"""
import argparse
import glob
import html
import lzma
import os
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib

CAMPAIGNS = ("did", "dm", "dw", "ei", "httt", "l", "low", "nr", "sof", "sota", "sotbe", "thot", "trow", "tsg", "ttb", "utbs")
GO = "usr/share/gocode/src/github.com"
STEM = "usr/share/doc/liblingua-stem-perl/examples"
SWORD = "usr/share/sword/modules/comments/zcom"


def bare(text):
    """A book as Project Gutenberg has it, without what stands around it, pictures' titles and emphasis."""
    begin = re.search(r"\*\*\* ?START OF.*?\*\*\*|^\*END.THE SMALL PRINT.*", text, re.M)
    end = re.search(r"\*\*\* ?END OF|End of (the )?Project Gutenberg", text, re.I)
    text = text[begin.end() if begin else 0:end.start() if end else None]
    return re.sub(r"\[[^\]]*\]", " ", text).replace("_", "")


def novel(folder, path):
    with open(os.path.join(folder, path), encoding="utf-8", errors="replace") as f:
        return bare(f.read())


def typeset(folder, path):
    """A book whose words are divided at the ends of its lines."""
    return re.sub(r"(?<=[a-z])-\n(?=[a-z])", "", novel(folder, path))


def zipped(folder, path):
    """The only file of an archive."""
    with zipfile.ZipFile(os.path.join(folder, path)) as archive:
        return bare(archive.read(archive.namelist()[0]).decode("utf-8", "replace").replace("\r", ""))


def volumes(folder, path):
    """Several books in one file, each between the notices that Project Gutenberg had in the nineties."""
    with open(os.path.join(folder, path), encoding="iso-8859-1") as f:
        return bare("\n\n".join(re.findall(r"^\*END.THE SMALL PRINT.*\n((?s:.*?))^End of The Project", f.read(), re.M)))


def r_lines(folder, path):
    """The lines of the books of an R package: character vectors in R's serialisation (R Internals, 1.8), each packed by zlib."""
    with open(os.path.join(folder, path), "rb") as f:
        packed = f.read()
    texts = []
    while packed:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(packed[4:])             # after its size
        packed = unpacker.unused_data
        version, = struct.unpack_from(">i", data, 2)
        place = 14 if version == 2 else 18 + struct.unpack_from(">i", data, 14)[0]
        kind, count = struct.unpack_from(">ii", data, place)
        if kind & 255 != 16:                               # no character vector
            continue
        place += 8
        lines = []
        for _ in range(count):
            size, = struct.unpack_from(">i", data, place + 4)
            lines.append(data[place + 8:place + 8 + size].decode("utf-8"))
            place += 8 + size
        texts.append("\n".join(lines))
    return "\n\n".join(texts).replace("_", "")


def sword(folder, path):
    """A commentary as the SWORD project packs it: blocks of OSIS, by an index of (place, packed size, size)."""
    text = ""
    for index in sorted(glob.glob(os.path.join(folder, path, "*t.?zs")), reverse=True):
        with open(index, "rb") as f, open(index[:-1] + "z", "rb") as g:
            packed = g.read()
            text += "".join(zlib.decompress(packed[at:at + size]).decode("utf-8")
                            for at, size, _ in struct.iter_unpack("<III", f.read()))
    text = re.sub(r"<(title|table|note|reference|list)\b.*?</\1>", " ", text, flags=re.S)
    text = re.sub(r'<hi type="bold">.*?</hi>', " ", text, flags=re.S)                     # the verse's number
    text = re.sub(r'\u2014\s*<hi type="italic">.*?</hi>', " ", text, flags=re.S)           # who said it
    text = html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<div[^>]*>", "\n\n", text)))
    return re.sub(r"\([\s;:,.]*\)|\bVer(ses?|s)?\.? *\d[\d, -]*\.?", "", text)


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
    "jane-austen": (["r-cran-janeaustenr"], r_lines, "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"),
    "poe": (["liblingua-stem-perl"], volumes, f"{STEM}/collected_works_poe.txt"),
    "huckleberry-finn": (["liblingua-stem-perl"], typeset, f"{STEM}/huckfinn.txt"),
    "alice": (["pyro4-examples"], zipped, "usr/share/doc/pyro4/examples/distributed-computing2/alice.zip"),
    "opticks": (["golang-github-andybalholm-brotli-dev"], novel, f"{GO}/andybalholm/brotli/testdata/Isaac.Newton-Opticks.txt"),
    "treasury-of-david": (["sword-comm-tdavid"], sword, f"{SWORD}/tdavid"),
    "matthew-henry": (["sword-comm-mhcc"], sword, f"{SWORD}/mhcc"),
    "king-james": (["bible-kjv", "bible-kjv-text"], scripture, "usr/lib"),
    "wesnoth": ([f"wesnoth-1.16-{c}" for c in CAMPAIGNS], campaigns, "usr/share/games/wesnoth/1.16/data/campaigns/**/*.cfg"),
}

# Not the ends of sentences.
ABBREVIATED = r"(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bCapt\.)(?<!\bJr\.)"
# A paragraph that is a chapter's number, and its title where that stands beside it.
HEADING = re.compile(r"\s*(chapter|letter|part|book|volume|act|scene) +([ivxlc]+|\d+)([.:][^\n]*)?\s*$", re.I)
LONG = 200  # characters; a longer sentence falls into its clauses


def sentences(text, whole):
    for paragraph in re.split(r"\n\s*\n", text):
        if HEADING.match(paragraph) or not re.search("[a-z]", paragraph):
            continue
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
            for package in packages:
                subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True, capture_output=True)
                archive, = glob.glob(os.path.join(folder, package + "_*.deb"))
                subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
            lines = list(sentences(read(folder, path), a.whole))
        if not lines:
            sys.exit(f"{book}: no text at {path} of {', '.join(packages)}: has the package changed?")
        with lzma.open(os.path.join(a.folder, book + ".txt.xz"), "wt", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
        print(f"{book}: {len(lines)} lines, {sum(len(line.split()) for line in lines)} words", flush=True)


if __name__ == "__main__":
    main()
