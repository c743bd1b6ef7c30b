#!/usr/bin/env bash
# Builds the default model's language model from the project's text: some minutes, 2 GB of memory.
# usage: lm/default.sh TEXT SPEECH MODEL      from model/training, where `python` has numpy and sentencepiece
#   TEXT: wordnet-examples.txt.xz, ...        SPEECH: folders with packs.tsv        MODEL: the folder of tokens.txt
# Never from a development or test set: --avoid drops what shares six words in a row with one.
set -euo pipefail
text=$1 speech=$2 model=$3
arpa=$(mktemp)
trap 'rm -f "$arpa"' EXIT

# The dictionary is large and unlike speech, so it weighs little; transcripts of speech weigh most.
python -m lm.build \
  "$text/wordnet-examples.txt.xz:1" "$text/gcide.txt.xz:0.6" "$text/endless-sky.txt.xz:1" "$text/fortunes.txt.xz:1" \
  "$text/anarchism-faq.txt.xz:0.5" "$text/nltk-state_union.txt.xz:1" "$text/nltk-inaugural.txt.xz:1" \
  "$text/nltk-genesis.txt.xz:1" "$text/nltk-masc.txt.xz:2" \
  "$speech/librispeech-train100-3spk/packs.tsv:4" "$speech/pseudo-train100-251spk/packs.tsv:4" \
  "$speech/kathleen-arctic/packs.tsv:4" "$speech/matthes-ljprompts/packs.tsv:2" \
  --tokenizer tokenizer.model --order 5 --least 0,1,2,3,4 --out "$arpa" \
  --avoid "$speech/dev-clean-a/packs.tsv" "$speech/speechocean762-test/packs.tsv" --check "$speech/dev-clean-a/packs.tsv"
python -m lm.pack "$arpa" "$model/tokens.txt" "$model/lm.safetensors"
