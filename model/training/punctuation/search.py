"""Train the config's variants one after another and keep the one with the least held-out loss (sources weighed by their shares).

    cd model/training; python3 -m punctuation.search punctuation/default.toml DATA --work FOLDER --out OUT --minutes M

OUT/punctuation.tar: the daemon's folder `punctuation` of the best so far and scores.json with every variant's scores; replaced
whenever a variant is done, and once a minute with the first one's present state. Logs go to standard output.
"""
import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
import tomllib


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("config")
    ap.add_argument("data")
    ap.add_argument("--work", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--minutes", type=float, required=True, help="for all variants together, their starts included")
    ap.add_argument("--set", nargs="*", default=[], help="for every variant, after its own")
    ap.add_argument("--workers", default="6")
    a = ap.parse_args()
    with open(a.config, "rb") as f:
        conf = tomllib.load(f)
    shares, variants = conf["sources"], conf["variants"]
    end = time.time() + 60 * a.minutes
    os.makedirs(a.out, exist_ok=True)
    scores, best = {}, None

    def loss(name):
        held = scores[name]["held_out"]
        return sum(shares[s] * held[s]["loss"] for s in shares) / sum(shares.values())

    def keep(name):
        """Take in the variant's present scores; write the best one so far."""
        nonlocal best
        path = os.path.join(a.work, name, "scores.json")
        if not os.path.exists(path):
            return
        with open(path) as f:
            scores[name] = json.load(f)
        scores[name]["weighted_loss"] = loss(name)
        best = min(scores, key=loss)
        with open(os.path.join(a.work, "scores.json"), "w") as f:
            json.dump({"best": best, "variants": scores}, f, indent=1)
        tar = os.path.join(a.out, "punctuation.tar")
        with tarfile.open(tar + ".part", "w") as t:
            t.add(os.path.join(a.work, best, "punctuation"), "punctuation")
            t.add(os.path.join(a.work, "scores.json"), "scores.json")
        os.replace(tar + ".part", tar)

    for i, (name, variant) in enumerate(variants.items()):
        share = (end - time.time()) / (len(variants) - i)
        allowance = 15 / 60                                # minutes: start, evaluation
        if share < 60 * allowance + 10:
            break
        print(f"== {name} {variant}, {share:.0f} s", flush=True)
        run = subprocess.Popen([sys.executable, "-m", "punctuation.train", a.config, a.data, "--out", os.path.join(a.work, name),
                                "--minutes", str(share / 60 - allowance), "--steps", str(variant["steps"]), "--workers", a.workers,
                                "--set", *variant.get("set", []), *a.set])
        while True:
            try:
                code = run.wait(60)
                break
            except subprocess.TimeoutExpired:
                if not i:
                    keep(name)
        print(f"== {name} ended with {code}", flush=True)
        if code == 0:
            keep(name)
    if best is None:
        sys.exit("no variant was trained; the messages above say why")
    print(f"best: {best}, weighted held-out loss {loss(best):.4f}", flush=True)


if __name__ == "__main__":
    main()
