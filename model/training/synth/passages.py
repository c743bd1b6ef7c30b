"""Turn plain English sentences into jobs for synthesis: phonemes, a blend of voices, a speed, and the words said.

    python -m synth.passages TEXT[:SHARE] ... --out jobs.tsv [--join 35] [--avoid packs.tsv ...] [--skip old-jobs.tsv.xz] [--limit N]

A job is one line: id, phonemes, voices, speed, TEXT (tab separated). TEXT holds capitals and apostrophes alone; whatever
cannot be said that way (digits, symbols, abbreviations) is left out, since a wrong transcript costs more than a missing
one. Numbers come from a generator, already spelled out. --join makes passages as long as people read them out of running text
(LibriSpeech's have 10 to 35 words): neighbouring sentences together, a long one in its clauses. A passage that shares six words in
a row with a file named by --avoid (the development and test sets), or is one of their sentences, is dropped.
"""
import argparse
import collections
import lzma
import random
import re

ENGLISH = ("af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_nova af_river af_sarah af_sky am_adam am_echo "
           "am_eric am_fenrir am_liam am_michael am_onyx am_puck am_santa bf_alice bf_emma bf_isabella bf_lily bm_daniel "
           "bm_fable bm_george bm_lewis").split()
FOREIGN = ("ef_dora em_alex em_santa ff_siwis hf_alpha hf_beta hm_omega hm_psi if_sara im_nicola jf_alpha jf_gongitsune "
           "jf_nezumi jf_tebukuro jm_kumo pf_dora pm_alex pm_santa zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi zm_yunjian "
           "zm_yunxi zm_yunxia zm_yunyang").split()
TITLES = {"Mr.": "Mister", "Mrs.": "Missus", "Dr.": "Doctor", "Ms.": "Miss", "St.": "Saint", "Prof.": "Professor", "Capt.": "Captain",
          "Col.": "Colonel", "Gen.": "General", "Rev.": "Reverend"}
UNSAYABLE = {"etc", "viz", "esq", "vol", "fig", "inc", "corp", "tis"}   # abbreviations, and what the phonemiser gets wrong
# words that it gets right: with a vowel, and an apostrophe at most where it shortens
SAID = re.compile(r"(?=.*[aeiouy])[a-z]+('(s|re|ve|ll|d|m)|n't)?|o'clock|ma'am|hmm|shh")
ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen").split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()


def opener(path):
    return (lzma.open if path.endswith(".xz") else open)(path, "rt", encoding="utf-8", errors="replace")


def words_said(path):
    """How often each word is in the TEXT, the fifth column, of jobs or packs."""
    said = collections.Counter()
    for line in opener(path):
        said.update(line.rstrip("\n").split("\t")[4].split())
    return said


def sayable(word):
    if len(word) < 2:
        return word in "AaIOo"
    return not word.isupper() and SAID.fullmatch(word.lower())


def clean(line):
    """A sentence, or a part of one, fit to be spoken; or None."""
    s = " ".join(line.replace("\u2019", "'").replace("\u2018", "'").replace("\u201c", '"').replace("\u201d", '"')
                 .replace("\u2014", ", ").replace("--", ", ").replace("\u2026", "...").split())
    for k, v in TITLES.items():
        s = s.replace(k + " ", v + " ")
    s = s.strip('"()[] ')
    if not re.fullmatch(r"[A-Za-z' ,;:.!?\"()-]+", s):
        return None
    words = s.split()
    for i, w in enumerate(words):
        core = w.strip(",;:.!?\"()'-")
        if "." in core or core.lower() in UNSAYABLE or not all(sayable(x.strip("'")) for x in core.split("-")):
            return None
        if i + 1 < len(words) and w.endswith(".") and words[i + 1][:1].islower():
            return None                                    # an abbreviation, most likely
    return s


def passages(lines, most, r):
    """Lines of running text -> passages that are clean. most: words of a passage at most; 0: each line is one."""
    said, count, enough = [], 0, 0                         # of the passage that is being joined
    for line in lines:
        clauses = re.split(r"(?<=[;:])\s+|--+|\u2014", line) if 0 < most < len(line.split()) else [line]
        for part in clauses:
            s = clean(part)
            n = len(s.split()) if s else 0
            if said and (not n or count + n > most or count >= enough):
                yield " ".join(said)
                said, count = [], 0
            if n:
                if not said:
                    enough = r.uniform(0, most)
                said.append(s)
                count += n
    if said:
        yield " ".join(said)


def fits(s):
    """Neither a word alone nor more than a voice says well in one go."""
    return 2 <= len(s.split()) <= 45 and len(s) <= 300


def transcript(s):
    t = re.sub(r"[^A-Z' ]", " ", s.upper())
    return " ".join(w.strip("'") for w in t.split() if w.strip("'"))


def number(n):
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (" " + ONES[n % 10] if n % 10 else "")
    if n < 1000:
        return ONES[n // 100] + " hundred" + (random.choice([" ", " and "]) + number(n % 100) if n % 100 else "")
    return number(n // 1000) + " thousand" + (" " + number(n % 1000) if n % 1000 else "")


def spoken_number(r):
    k = r.random()
    if k < 0.45:
        d = [r.choice(ONES[:10]) if r.random() > 0.06 else "oh" for _ in range(r.randint(2, 8))]
        return (", " if r.random() < 0.3 else " ").join(d) + "."
    if k < 0.6:
        return f"{number(r.randint(1, 12))} {r.choice(['fifteen', 'thirty', 'forty five', 'oh five', number(r.randint(10, 59))])} {r.choice(['in the morning', 'in the evening', 'today', 'tomorrow'])}."
    if k < 0.75:
        return f"in {r.choice(['eighteen', 'nineteen', 'seventeen', 'twenty'])} {number(r.randint(10, 99))}."
    if k < 0.9:
        return f"{number(r.randint(0, 99999))} {r.choice(['dollars', 'people', 'miles', 'pounds', 'years', 'men', 'days', 'feet'])}."
    return f"number {number(r.randint(0, 999))}, {r.choice(['please', 'thank you', 'chapter', 'page'])} {number(r.randint(1, 99))}."


def voices(r):
    """A single voice, a blend, or a mild extrapolation away from another; the weights add up to one."""
    def pick():
        return r.choice(FOREIGN) if r.random() < 0.18 else r.choice(ENGLISH)
    k = r.random()
    if k < 0.25:
        return pick()
    if k < 0.65:
        n = r.choice([2, 2, 3])
        w = [r.gammavariate(1.2, 1) for _ in range(n)]
        mix = [(pick(), x / sum(w)) for x in w]
    elif k < 0.85:
        a = r.uniform(0.1, 0.4)
        mix = [(pick(), 1 + a), (pick(), -a)]
    else:                                                  # a base voice, pushed a little along several others
        w = [r.gauss(0, 0.18) for _ in range(5)]
        mix = [(pick(), 1 - sum(w))] + [(pick(), x) for x in w]
    return "+".join(f"{n}:{x:.3f}" for n, x in mix)


def speed(r):
    return min(1.45, max(0.68, r.lognormvariate(0.0, 0.15)))


def job(name, phonemes, voice, rate, text):
    """The line that synth.py reads."""
    return f"{name}\t{phonemes}\t{voice}\t{rate:.3f}\t{text}\n"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("text", nargs="+", help="file of sentences (.xz too), with :SHARE to take part of it")
    ap.add_argument("--out", required=True)
    ap.add_argument("--join", type=int, default=0, metavar="WORDS", help="passages of up to so many words, out of running text")
    ap.add_argument("--avoid", nargs="*", default=[], help="packs.tsv of sets that must not be learnt")
    ap.add_argument("--skip", nargs="*", default=[], help="jobs whose sentences are there already")
    ap.add_argument("--numbers", type=int, default=6000)
    ap.add_argument("--limit", type=int, default=10 ** 9)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    from hibari.g2p import G2P
    r = random.Random(a.seed)
    random.seed(a.seed)
    grams, whole, seen = set(), set(), set()
    for p in a.avoid:
        for line in opener(p):
            w = line.rstrip("\n").split("\t")[4].split()
            whole.add(" ".join(w))
            grams.update(tuple(w[i:i + 6]) for i in range(len(w) - 5))
    for p in a.skip:
        for line in opener(p):
            seen.add(line.rstrip("\n").split("\t")[4])
    todo, dropped = [], 0
    for spec in a.text:
        path, share = (spec.rsplit(":", 1) + ["1"])[:2] if ":" in spec else (spec, "1")
        n = 0
        for s in passages(opener(path), a.join, r):
            if r.random() > float(share) or not fits(s):
                continue
            t = transcript(s)
            if not t or t in seen:
                continue
            w = t.split()
            if t in whole or any(tuple(w[i:i + 6]) in grams for i in range(len(w) - 5)):
                dropped += 1
                continue
            seen.add(t)
            todo.append((s, t))
            n += 1
        print(path.split("/")[-1], n, flush=True)
    for _ in range(a.numbers):
        s = spoken_number(r)
        if transcript(s) not in whole:
            todo.append((s, transcript(s)))
    r.shuffle(todo)
    todo = todo[:a.limit]
    print(f"{len(todo)} passages, {dropped} dropped for sharing words with a test set", flush=True)
    g2p = [G2P(british=False), G2P(british=True)]
    with open(a.out, "w", encoding="utf-8") as f:
        for i, (s, t) in enumerate(todo):
            v = voices(r)
            british = v.startswith("b") or r.random() < 0.12
            try:
                ph = g2p[british](s)
            except Exception as e:
                print("skip", t, e)
                continue
            if len(ph) > 480 or "\t" in ph or "❓" in ph:
                continue
            f.write(job(f"n{i:06d}", ph, v, speed(r), t))


if __name__ == "__main__":
    main()
