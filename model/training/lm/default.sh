#!/usr/bin/env bash
# Builds the default model's language model: some minutes.
# usage: lm/default.sh TEXT SPEECH PROSE MODEL      from model/training, where `python` has numpy and sentencepiece
#   TEXT: wordnet-examples.txt.xz, ...        SPEECH: folders with packs.tsv
#   PROSE: what lm/prose.py writes; fetched where it is not there        MODEL: the folder of tokens.txt
# Never from a development or test set: --avoid drops what shares six words in a row with one.
set -euo pipefail
text=$1 speech=$2 prose=$3 model=$4
[ -d "$prose" ] || python -m lm.prose "$prose"
arpa=$(mktemp)
trap 'rm -f "$arpa"' EXIT

# The weights were found by the perplexity of dev-clean-a: twice as much for transcripts of speech, or a third for the
# dictionary, was worse; those of the books from jane-austen to matthew-henry were not searched. Perplexity of dev-clean-a: 710 a
# word. --least kept the file below 20 MB when the books were fewer; with these it has 41 MB.
python -m lm.build \
  "$text/wordnet-examples.txt.xz:1" "$text/gcide.txt.xz:0.8" "$text/endless-sky.txt.xz:1" "$text/fortunes.txt.xz:1" \
  "$text/anarchism-faq.txt.xz:0.7" "$text/nltk-state_union.txt.xz:1" "$text/nltk-inaugural.txt.xz:1" \
  "$text/nltk-genesis.txt.xz:1" "$text/nltk-masc.txt.xz:1" \
  "$prose/moby-dick.txt.xz:1.2" "$prose/sherlock-holmes.txt.xz:1.2" "$prose/tom-sawyer.txt.xz:1.2" \
  "$prose/jane-austen.txt.xz:1.2" "$prose/poe.txt.xz:1.2" "$prose/huckleberry-finn.txt.xz:1.2" "$prose/alice.txt.xz:1.2" \
  "$prose/opticks.txt.xz:0.8" "$prose/treasury-of-david.txt.xz:0.6" "$prose/matthew-henry.txt.xz:0.6" \
  "$prose/king-james.txt.xz:0.6" "$prose/wesnoth.txt.xz:1" \
  "$speech/librispeech-train100-3spk/packs.tsv:1.5" "$speech/pseudo-train100-251spk/packs.tsv:1.5" \
  "$speech/kathleen-arctic/packs.tsv:1.5" "$speech/matthes-ljprompts/packs.tsv:2" \
  --tokenizer tokenizer.model --order 5 --least 0,0.8,1.6,2.4,3 --out "$arpa" \
  --avoid "$speech/dev-clean-a/packs.tsv" "$speech/speechocean762-test/packs.tsv" --check "$speech/dev-clean-a/packs.tsv"
python -m lm.pack "$arpa" "$model/tokens.txt" "$model/lm.safetensors"
