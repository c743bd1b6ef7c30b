"""Written English to what a recogniser would hear of it: words, and for each its casing and the mark after it.

    label = case * len(MARKS) + mark        case: 0 lower, 1 Capitalised, 2 CAPITALS (two letters or more)
"""
import re

CASES = ["lower", "capitalised", "capitals"]
MARKS = ["", ",", ".", "?", "!", ":", ";"]
ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen").split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth", "twelve": "twelfth"}
TITLES = {"Mr.": "Mister", "Mrs.": "Missus", "Dr.": "Doctor", "Ms.": "Miss", "St.": "Saint", "Prof.": "Professor", "Gen.": "General",
          "Sen.": "Senator", "Rep.": "Representative", "No.": "Number", "vs.": "versus", "Jr.": "Junior", "Sr.": "Senior"}


def cardinal(n):
    """0 to 999,999,999,999 in words."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (" " + ONES[n % 10] if n % 10 else "")
    for size, name in ((10 ** 9, "billion"), (10 ** 6, "million"), (1000, "thousand"), (100, "hundred")):
        if n >= size:
            return f"{cardinal(n // size)} {name}" + (" " + cardinal(n % size) if n % size else "")


def ordinal(n):
    head, _, last = cardinal(n).rpartition(" ")
    last = ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return f"{head} {last}".strip()


def year(n):
    if n % 1000 < 10:
        return cardinal(n)
    head, tail = divmod(n, 100)
    return cardinal(head) + " " + ("hundred" if not tail else "oh " + ONES[tail] if tail < 10 else cardinal(tail))


def number(text):
    """A written number's words, or None: 1,234  1999  3.5  4th  50%  $2.50  $3"""
    money = re.fullmatch(r"\$(\d[\d,]*)(?:\.(\d\d))?", text)
    if money:
        dollars, cents = int(money[1].replace(",", "")), int(money[2] or 0)
        if dollars >= 10 ** 12:
            return None
        return (f"{cardinal(dollars)} dollar{'s' * (dollars != 1)}" +
                (f" and {cardinal(cents)} cent{'s' * (cents != 1)}" if cents else ""))
    percent = re.fullmatch(r"([\d,.]+)%", text)
    if percent:
        return (inner := number(percent[1])) and inner + " percent"
    if re.fullmatch(r"\d{1,4}(st|nd|rd|th)", text):
        return ordinal(int(text[:-2]))
    if re.fullmatch(r"\d+\.\d+", text):
        whole, part = text.split(".")
        return f"{cardinal(int(whole[:12]))} point {' '.join(ONES[int(d)] for d in part)}"
    if re.fullmatch(r"1[1-9]\d\d|20[0-2]\d", text):
        return year(int(text))
    if re.fullmatch(r"\d{1,3}(,\d{3}){1,3}|\d{1,9}", text):
        return cardinal(int(text.replace(",", "")))
    return None


def case_of(word):
    letters = re.sub("[^A-Za-z]", "", word)
    if len(letters) > 1 and letters.isupper():
        return 2
    return int(letters[:1].isupper())


def labelled(sentence):
    """-> [(word, label)], or None where the sentence holds what can't be said this way. Words are lower case letters with
    apostrophes."""
    s = sentence.translate({0x2018: "'", 0x2019: "'", 0x201c: '"', 0x201d: '"', 0x2014: " , ", 0x2013: " , ", 0x2026: "."})
    for written, said in TITLES.items():
        s = re.sub(rf"(?<!\S){re.escape(written)}(?=\s)", said, s)
    s = re.sub(r"\.( ?\.)+", ".", s).replace("--", " , ").replace(" - ", " , ")
    s = re.sub(r"[\"()\[\]{}*_`]|(?<!\w)'|'(?!\w)", " ", s)
    s = re.sub(r"(?<=[A-Za-z])[-/](?=[A-Za-z])", " ", s).replace("&", " and ")
    out = []
    for token in s.split():
        core, marks = re.fullmatch(r"(.*?)([,.?!:;]*)", token).groups()
        if re.fullmatch(r"([A-Za-z]\.)+[A-Za-z]", core) and marks.startswith("."):      # U.S.
            marks = marks[1:]
            words = [(c.lower(), int(c.isupper())) for c in core.split(".")]
        elif re.search(r"\d", core):
            said = number(core)
            if said is None:
                return None
            words = [(w, 0) for w in said.split()]
        elif re.fullmatch(r"[A-Za-z]+('[A-Za-z]+)*", core):
            words = [(core.lower(), case_of(core))]
        elif core:
            return None
        else:
            words = []
        if not out and words and words[0][1] == 0 and re.search(r"\d", core):
            words[0] = (words[0][0], 1)                    # a number that begins a sentence
        out += [[w, c, 0] for w, c in words]
        if marks and out:
            strongest = next((m for m in "?!.:;," if m in marks), "")
            out[-1][2] = max(out[-1][2], MARKS.index(strongest)) if strongest == "," else MARKS.index(strongest)
    return [(w, c * len(MARKS) + m) for w, c, m in out]
