"""Tests of wer.py: `python3 -m unittest test_wer` here, or pytest from anywhere."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import wer  # noqa: E402


class Normalise(unittest.TestCase):
    def check(self, text, expected):
        self.assertEqual(wer.normalise(text), expected, text)

    def test_case_and_punctuation(self):
        self.check("  Hello, world -- it's me!  ", "HELLO WORLD IT'S ME")
        self.check("a well-known_thing… (really?)", "A WELL KNOWN THING REALLY")
        self.check("", "")
        self.check(" '' . ", "")

    def test_apostrophes_stay_only_inside_words(self):
        self.check("'Tis o’clock, the boys' ‘quoted’ word", "TIS O'CLOCK THE BOYS QUOTED WORD")

    def test_accents_and_titles(self):
        self.check("Mr. Brontë met Mrs. Day & Dr Café", "MISTER BRONTE MET MISSUS DAY AND DOCTOR CAFE")
        self.check("St. Mrs'", "ST MISSUS")

    def test_spelling_variants_are_left_alone(self):
        self.check("colour color", "COLOUR COLOR")

    def test_cardinals(self):
        self.check("0 7 13 40 42", "ZERO SEVEN THIRTEEN FORTY FORTY TWO")
        self.check("100 101 342", "ONE HUNDRED ONE HUNDRED AND ONE THREE HUNDRED AND FORTY TWO")
        self.check("1,000 2,001", "ONE THOUSAND TWO THOUSAND AND ONE")
        self.check("12,345,678", "TWELVE MILLION THREE HUNDRED AND FORTY FIVE THOUSAND SIX HUNDRED AND SEVENTY EIGHT")
        self.check("007 9" + "0" * 15, "ZERO ZERO SEVEN NINE" + " ZERO" * 15)

    def test_years(self):
        self.check("1803, 1891, 1900", "EIGHTEEN O THREE EIGHTEEN NINETY ONE NINETEEN HUNDRED")
        self.check("2005 2024 1,803", "TWO THOUSAND AND FIVE TWENTY TWENTY FOUR ONE THOUSAND EIGHT HUNDRED AND THREE")
        self.check("the 1930s and '40s", "THE NINETEEN THIRTIES AND FORTIES")

    def test_ordinals(self):
        self.check("1st 2nd 3rd 4th", "FIRST SECOND THIRD FOURTH")
        self.check("12th 20th 21st 100th", "TWELFTH TWENTIETH TWENTY FIRST ONE HUNDREDTH")

    def test_other_numbers(self):
        self.check("3.14 5% $1 £2.50", "THREE POINT ONE FOUR FIVE PERCENT ONE DOLLAR TWO POINT FIVE ZERO POUNDS")
        self.check("10:30 H2O B12 end 3.", "TEN THIRTY H2O B TWELVE END THREE")

    def test_is_stable(self):
        once = wer.normalise("Dr. O'Neil's 21st of 1,234 - 'twas $5.")
        self.assertEqual(wer.normalise(once), once)


class Edits(unittest.TestCase):
    def check(self, reference, hypothesis, *expected):
        self.assertEqual(wer.edits(reference.split(), hypothesis.split()), expected)

    def test_counts(self):
        self.check("a b c", "a b c", 0, 0, 0, 3)
        self.check("a b c", "a x c", 1, 0, 0, 3)
        self.check("a b c", "a c", 0, 1, 0, 3)
        self.check("a b c", "a b x c", 0, 0, 1, 3)
        self.check("a b c", "", 0, 3, 0, 3)
        self.check("", "a b", 0, 0, 2, 0)
        self.check("the cat sat on the mat", "cat sat in the the mat", 1, 1, 1, 6)

    def test_is_minimal(self):
        def distance(r, h):  # the definition, without memory
            if not r or not h:
                return len(r) + len(h)
            if r[0] == h[0]:
                return distance(r[1:], h[1:])
            return 1 + min(distance(r[1:], h), distance(r, h[1:]), distance(r[1:], h[1:]))

        for r, h in (("abcab", "bacb"), ("kitten", "sitting"), ("aabb", "bbaa"), ("abc", "xyzabc")):
            counts = wer.edits(r, h)
            self.assertEqual(sum(counts[:3]), distance(r, h), (r, h))
            self.assertEqual(counts.length - counts.deleted + counts.inserted, len(h))

    def test_rate(self):
        self.assertEqual(wer.rate(wer.Counts(1, 1, 0, 4)), 0.5)
        self.assertEqual(wer.rate(wer.Counts(0, 0, 0, 0)), 0.0)
        self.assertEqual(wer.rate(wer.Counts(0, 0, 3, 0)), 1.0)


class Score(unittest.TestCase):
    def test_sums_over_words_not_over_utterances(self):
        result = wer.score({"a": "ONE", "b": "TWO THREE FOUR"}, {"a": "1", "b": "two three"})
        self.assertEqual(result.wer, 1 / 4)
        self.assertEqual(result.cer, 5 / 17)  # " FOUR" of "ONE" and "TWO THREE FOUR"
        self.assertLessEqual(result.low, result.wer)
        self.assertGreaterEqual(result.high, result.wer)

    def test_missing_is_deleted(self):
        result = wer.score({"a": "ONE", "b": "TWO THREE"}, {"a": "ONE"})
        self.assertEqual(result.missing, ["b"])
        self.assertEqual(result.words, wer.Counts(0, 2, 0, 3))


class CommandLine(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "ref.tsv").write_text("a\tIT IS TEN\nb\tYES\n", encoding="utf-8")
        (self.folder / "a.json").write_text(json.dumps({"text": "It is 10.", "words": []}), encoding="utf-8")

    def run_it(self, *options):
        command = [sys.executable, str(HERE / "wer.py"), *options, str(self.folder / "ref.tsv"), str(self.folder)]
        return subprocess.run(command, capture_output=True, text=True)

    def test_prints_rates_and_names_what_is_missing(self):
        done = self.run_it("--errors")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("WER 25.00 %", done.stdout)
        self.assertIn("4 words: 0 substituted, 1 deleted, 0 inserted", done.stdout)
        self.assertIn("b  1 of 1", done.stdout)
        self.assertIn("missing: 1 of 2 (b", done.stderr)

    def test_refuses_what_is_not_a_transcript(self):
        (self.folder / "b.json").write_text("[]", encoding="utf-8")
        done = self.run_it()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("b.json", done.stderr)


if __name__ == "__main__":
    unittest.main()
