"""Jobs that were phonemised already -> jobs in fresh voices and speeds, as many times over as wanted.

    python -m synth.revoice JOBS.tsv[.xz]:COPIES ... --out jobs.tsv [--seed 2] [--accents 0.3]

COPIES may be a fraction: 0.5 takes a random half. A sentence heard in five voices is worth five: the voice is what
synthetic speech has least of. Phonemes stay, so a British voice may speak American ones and the other way round; unless --accents,
the share of utterances that get one (accents.py), says otherwise.
"""
import argparse
import random

from synth.accents import pronounced
from synth.passages import job, opener, speed, voices


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("jobs", nargs="+")
    ap.add_argument("--out", required=True)
    ap.add_argument("--seed", type=int, default=2)
    ap.add_argument("--accents", type=float, default=0.0)
    a = ap.parse_args()
    r = random.Random(a.seed)
    lines = []
    for spec in a.jobs:
        path, copies = spec.rsplit(":", 1)
        had = [line.rstrip("\n").split("\t") for line in opener(path)]
        whole = int(float(copies))
        part = r.sample(had, round((float(copies) - whole) * len(had)))
        lines += had * whole + part
    r.shuffle(lines)
    with open(a.out, "w", encoding="utf-8") as f:
        for i, (_, phonemes, _, _, text) in enumerate(lines):
            f.write(job(f"r{i:07d}", pronounced(r, phonemes, a.accents), voices(r), speed(r), text))
    print(f"{len(lines)} jobs")


if __name__ == "__main__":
    main()
