"""Other pronunciations of phonemised sentences (misaki's symbols, which Kokoro reads): as people say them in running speech, and with accents.

A dictionary's pronunciation is what a phonemiser gives, one for all who speak. Here each utterance draws a carefulness, with which sounds are
left out, reduced and drawn together as English does it (Shockey 2003, Sound Patterns of Spoken English), and now and then an accent: a few
habits such as foreign and regional speakers have (Swan and Smith 2001, Learner English; Wells 1982, Accents of English). Words keep their number
and their order; the text stays.
"""
import re

VOWEL = "[AIOQWYaæɐɑɒeəɛɜiɪɔuʊʌᵊᵻ]"
END = r"(?=$|[ ;:,.!?—…\"()“”])"                           # of a word
MARK = "[ˈˌ]?"
SOUND = re.compile(r"[^\W\d_ˈˌːʰ]")

# (what, by what, how likely at the least careful)
CASUAL = [(re.compile(p), to, likely) for p, to, likely in (
    (r"(?<= )[æaə]nd" + END, "ən", 0.8),
    (r"(?<= )ən" + END, "n", 0.3),
    (r"(?<= )tuː?" + END, "tə", 0.6),
    (r"(?<= )fɔ(ɹ|ː)" + END, r"fə\1", 0.6),
    (r"(?<= )[ʌɒ]v" + END, "əv", 0.7),
    (r"(?<= )əv(?= [^" + VOWEL[1:] + ")", "ə", 0.4),
    (r"(?<= )fɹ[ʌɒ]m" + END, "fɹəm", 0.6),
    (r"(?<= )w[ʌɒ]z" + END, "wəz", 0.7),
    (r"(?<= )w(ɜɹ|ɜː)" + END, "wə", 0.4),
    (r"(?<= )(ð)[æa]t" + END, r"\1ət", 0.4),
    (r"(?<= )(ð)ɛm" + END, r"\1əm", 0.5),
    (r"(?<= )juː?" + END, "jə", 0.5),
    (r"(?<= )h(?=(ɪz|ɪm|ɜɹ|ɜː|æd|ad|æz|az|æv|av|iː?)" + END + ")", "", 0.6),
    (r"(?<=[nslkfpʃʧzvð])[td](?= [^hˈˌ" + VOWEL[1:] + ")", "", 0.7),     # last night, and then
    (r"d j(?=" + MARK + "[uəɔ])", "ʤ ", 0.5),               # would you
    (r"t j(?=" + MARK + "[uəɔ])", "ʧ ", 0.5),
    (r"n(?= " + MARK + "[pbm])", "m", 0.5),                 # in Paris
    (r"n(?= " + MARK + "[kɡ])", "ŋ", 0.5),
    (r"s(?= " + MARK + "[ʃj])", "ʃ", 0.4),
    (r"(?<=" + VOWEL + ")t(?=" + VOWEL + ")", "T", 0.4),    # water
    (r"(?<=[ɪi])ŋ" + END, "n", 0.3),
    (r"(?<=[pbtdkɡfvszʃmn])ə(?=[ln]" + VOWEL + ")", "", 0.4),  # fam(i)ly
    (r"(?<![ˈˌɹ])[ɪᵻʌɛ](?=[^ ]*[ˈˌ])", "ə", 0.3),           # before the stress
)]

# Habits: each a list of (what, by what), which go together
ACCENTS = [[(re.compile(p), to) for p, to in habit] for habit in (
    [("θ", "t"), ("ð", "d")], [("θ", "s"), ("ð", "z")], [("θ", "f"), ("ð(?! )", "v")], [("ð", "d")],
    [("w", "v")], [("v", "w")], [("v", "b")], [("ɹ", "r")], [("ɹ", "ɾ")], [("ɹ", "ʁ")], [("l" + END, "ʊ")],
    [("ɪ", "i")], [("ɪ(?!ŋ)", "ɛ")], [("i(?=[^ː]|$)", "ɪ")], [("æ", "ɛ")], [("[æa](?!ɪ)", "a")], [("ʌ", "a")], [("ʌ", "ʊ")], [("ʊ", "u")], [("u", "ʊ")],
    [("ɑ", "ɔ")], [("ɔ(?![ɹː])", "ɑ")], [("ɛ", "æ")], [("ɛ", "e")], [("A", "eː")], [("A", "I")], [("[OQ]", "oː")], [("I", "Y")], [("W", "aː")],
    [("ɜɹ", "ɜː"), (f"(?<={VOWEL})ɹ(?!{MARK}{VOWEL})", "")],                    # no r but before vowels
    [("ɜ[ːɹ]", "ɛɹ")], [("ɜː", "ɜɹ"), ("ɔː", "ɔɹ")],
    [("h", "")], [("h", "x")], [("z", "s")], [("ʃ", "s")], [("ʧ", "ʃ"), ("ʤ", "ʒ")], [("ʤ", "j")], [("ʒ", "ʤ")],
    [(f"z{END}", "s"), (f"d{END}", "t"), (f"b{END}", "p"), (f"ɡ{END}", "k"), (f"v{END}", "f"), (f"ʤ{END}", "ʧ")],
    [("ŋ", "ŋɡ")], [("ŋ", "n")], [(r"(?<= )s(?=[tpkmnl])", "ɛs")], [(f"(?<=[kptdbɡ])[td]{END}", "")],
    [("[əᵊɐ](?!ɹ)", "a")], [("ə(?=[nlm])", "ɛ")], [("ᵻ", "i")], [("p", "pʰ"), ("k", "kʰ")], [("T", "t")], [("j(?=u)", "")],
)]


def part(r, phonemes, pattern, to, likely):
    """Some of what the pattern finds replaced."""
    return pattern.sub(lambda m: m.expand(to) if r.random() < likely else m.group(), phonemes)


def pronounced(r, phonemes, share):
    """r: random.Random; share: of the utterances that get an accent; twice as many are careless -> phonemes, of as many words."""
    new = " " + phonemes
    if r.random() < 2 * share:
        care = r.random()
        for pattern, to, likely in CASUAL:
            new = part(r, new, pattern, to, likely * care)
    if r.random() < share:
        strong = r.uniform(0.3, 1.0)
        for habit in r.sample(ACCENTS, r.choice((1, 2, 3, 4, 6))):
            for pattern, to in habit:
                new = part(r, new, pattern, to, strong)
    return " ".join(a if SOUND.search(a) else b for a, b in zip(new[1:].split(" "), phonemes.split(" ")))
