#!/usr/bin/env python3
"""Word and character error rates of transcripts.

    wer.py [--errors] [--words-only] REF.tsv HYP_DIR

REF.tsv holds `id<TAB>text` lines; HYP_DIR holds one `id.json` each, an object with a "text" string. A missing file
counts as a transcript without words. Needs nothing but Python.

Both sides are normalised alike: capitals; digits spelled out; Mr, Mrs and Dr spelled out; hyphens are spaces; all
other punctuation goes but the apostrophe inside a word. British and American spellings stay as they are. Characters
are counted with one space between words, as is usual; --words-only leaves them out: of ten minutes in one piece they
take two minutes.
"""

import argparse
import collections
import json
import pathlib
import random
import re
import sys
import unicodedata

ONES = (
    "ZERO ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE TEN ELEVEN TWELVE THIRTEEN FOURTEEN FIFTEEN SIXTEEN SEVENTEEN "
    "EIGHTEEN NINETEEN"
).split()
TENS = "- - TWENTY THIRTY FORTY FIFTY SIXTY SEVENTY EIGHTY NINETY".split()
SCALES = ((10**12, "TRILLION"), (10**9, "BILLION"), (10**6, "MILLION"), (10**3, "THOUSAND"))
ORDINALS = {
    "ONE": "FIRST",
    "TWO": "SECOND",
    "THREE": "THIRD",
    "FIVE": "FIFTH",
    "EIGHT": "EIGHTH",
    "NINE": "NINTH",
    "TWELVE": "TWELFTH",
}
TITLES = {"MR": "MISTER", "MRS": "MISSUS", "DR": "DOCTOR"}
MONEY = {"$": "DOLLAR", "£": "POUND", "€": "EURO"}

NUMBER = re.compile(r"([$£€]?)(\d{1,3}(?:,\d{3})+|\d+)((?:\.\d+)?)(ST|ND|RD|TH|'?S)?\b(%?)")


def cardinal(n):
    """1101 -> ONE THOUSAND ONE HUNDRED AND ONE, as read aloud."""
    if n >= 10**15:
        return " ".join(ONES[int(d)] for d in str(n))
    for size, name in SCALES:
        if n >= size:
            rest = n % size
            join = " AND " if 0 < rest < 100 else " "
            return f"{cardinal(n // size)} {name}" + (join + cardinal(rest) if rest else "")
    if n >= 100:
        return f"{ONES[n // 100]} HUNDRED" + (f" AND {cardinal(n % 100)}" if n % 100 else "")
    if n >= 20:
        return TENS[n // 10] + (f" {ONES[n % 10]}" if n % 10 else "")
    return ONES[n]


def year(n):
    """1803 -> EIGHTEEN O THREE, 1900 -> NINETEEN HUNDRED."""
    high, low = divmod(n, 100)
    tail = "HUNDRED" if low == 0 else f"O {ONES[low]}" if low < 10 else cardinal(low)
    return f"{cardinal(high)} {tail}"


def change_last(words, change):
    head, _, last = words.rpartition(" ")
    return f"{head} {change(last)}".strip()


def plural(word):
    return word[:-1] + "IES" if word.endswith("Y") else word + ("ES" if word.endswith("X") else "S")


def ordinal(word):
    return ORDINALS.get(word) or (word[:-1] + "IETH" if word.endswith("Y") else word + "TH")


def spell(match):
    money, whole, fraction, suffix, percent = match.groups()
    n = int(whole.replace(",", ""))
    # Four bare digits of these centuries are nearly always a year in read speech.
    is_year = len(whole) == 4 and (1100 <= n < 2000 or 2010 <= n < 2100) and not money and not fraction
    if len(whole) > 1 and whole[0] == "0":
        words = " ".join(ONES[int(d)] for d in whole)  # 007
    else:
        words = year(n) if is_year else cardinal(n)
    if fraction:
        words += " POINT " + " ".join(ONES[int(d)] for d in fraction[1:])
    if suffix:
        words = change_last(words, plural if suffix.endswith("S") else ordinal)
    if money:
        words += f" {MONEY[money]}" + ("" if whole == "1" and not fraction else "S")
    return f" {words}{' PERCENT' if percent else ''} "


def normalise(text):
    text = unicodedata.normalize("NFKD", text.replace("’", "'").replace("‘", "'")).upper()
    text = "".join(c for c in text if not unicodedata.combining(c)).replace("&", " AND ")
    text = NUMBER.sub(spell, text)
    text = re.sub(r"[^\w']|_", " ", text)
    words = (word.strip("'") for word in text.split())
    return " ".join(TITLES.get(word, word) for word in words if word)


Counts = collections.namedtuple("Counts", "substituted deleted inserted length")


def edits(reference, hypothesis):
    """Counts of one cheapest alignment of two sequences; on a tie, a substitution before a deletion or an insertion."""
    # Each cell is (errors, substituted, deleted, inserted); one row at a time is enough for the counts.
    row = [(j, 0, 0, j) for j in range(len(hypothesis) + 1)]
    for i, r in enumerate(reference, 1):
        above, row = row, [(i, 0, i, 0)]
        for j, h in enumerate(hypothesis, 1):
            e, s, d, n = above[j - 1]
            if r == h:
                row.append(above[j - 1])
                continue
            best = (e + 1, s + 1, d, n)
            e, s, d, n = above[j]
            if e + 1 < best[0]:
                best = (e + 1, s, d + 1, n)
            e, s, d, n = row[j - 1]
            if e + 1 < best[0]:
                best = (e + 1, s, d, n + 1)
            row.append(best)
    return Counts(*row[-1][1:], len(reference))


def total(counts):
    return Counts(*(sum(column) for column in zip(*counts))) if counts else Counts(0, 0, 0, 0)


def rate(counts):
    wrong = counts.substituted + counts.deleted + counts.inserted
    return wrong / counts.length if counts.length else float(wrong > 0)


def interval(counts, draws=1000):
    """95 % of the rate over resampled utterances: how far the choice of utterances alone moves it."""
    chance = random.Random(1)
    rates = sorted(rate(total(chance.choices(counts, k=len(counts)))) for _ in range(draws))
    return rates[draws // 40], rates[-1 - draws // 40]


Score = collections.namedtuple("Score", "wer low high cer words missing utterances")


def score(references, hypotheses, with_characters=True):
    """References and hypotheses by id, as raw text; `words` are the summed counts, `utterances` each one's. cer is None
    without characters."""
    words, characters, each = [], [], {}
    for name, text in references.items():
        r, h = normalise(text), normalise(hypotheses.get(name, ""))
        each[name] = edits(r.split(), h.split())
        words.append(each[name])
        if with_characters:
            characters.append(edits(r, h))
    missing = [name for name in references if name not in hypotheses]
    return Score(rate(total(words)), *interval(words), rate(total(characters)) if with_characters else None, total(words), missing, each)


def read_references(path):
    rows = (line.rstrip("\n").split("\t") for line in open(path, encoding="utf-8") if line.strip())
    try:
        return {name: text for name, text in rows}
    except ValueError:
        raise SystemExit(f"{path}: every line must be an id, a tab and a text") from None


def read_hypotheses(folder, names):
    """The texts that are there; a file that is there but is not a transcript is an error, not an empty transcript."""
    texts = {}
    for name in names:
        path = pathlib.Path(folder) / f"{name}.json"
        if not path.exists():
            continue
        try:
            texts[name] = str(json.loads(path.read_text(encoding="utf-8"))["text"])
        except (ValueError, KeyError, TypeError) as error:
            raise SystemExit(f'{path}: not an object with a "text" string ({error!r})') from None
    return texts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", action="store_true", help="list the utterances with errors, the worst first")
    parser.add_argument("--words-only", action="store_true", help="no character errors")
    parser.add_argument("reference", metavar="REF.tsv")
    parser.add_argument("hypotheses", metavar="HYP_DIR")
    args = parser.parse_args()
    references = read_references(args.reference)
    hypotheses = read_hypotheses(args.hypotheses, references)
    if not hypotheses:
        raise SystemExit(f"{args.hypotheses}: no transcript named as in {args.reference}")
    result = score(references, hypotheses, not args.words_only)
    if args.errors:
        for name, counts in sorted(result.utterances.items(), key=lambda item: -sum(item[1][:3])):
            if sum(counts[:3]):
                print(f"{name}  {sum(counts[:3])} of {counts.length}")
                print(f"  ref {normalise(references[name])}\n  hyp {normalise(hypotheses.get(name, ''))}")
    if result.missing:
        print(f"missing: {len(result.missing)} of {len(references)} ({result.missing[0]}, ...)", file=sys.stderr)
    w = result.words
    wer, low, high = (100 * x for x in result[:3])
    characters = "" if result.cer is None else f"  CER {100 * result.cer:.2f} %"
    print(f"WER {wer:.2f} % (95 %: {low:.2f} to {high:.2f}){characters}")
    print(f"{w.length} words: {w.substituted} substituted, {w.deleted} deleted, {w.inserted} inserted")


if __name__ == "__main__":
    main()
