#!/usr/bin/env bash
# Builds the default model's two language models, over pieces and over words: some minutes, 8 GB of memory.
# usage: lm/default.sh TEXT SPEECH PROSE MODEL      from model/training, where `python` has numpy and sentencepiece
#   TEXT: wordnet-examples.txt.xz, ...        SPEECH: folders with packs.tsv
#   PROSE: what lm/prose.py and lm/sphinx.py write; made where it is not there        MODEL: the folder of tokens.txt
# Needs Debian's package pocketsphinx-en-us. Never from a development or test set: --avoid drops what shares six words in a row
# with one.
set -euo pipefail
text=$1 speech=$2 prose=$3 model=$4
[ -d "$prose" ] || python -m lm.prose "$prose"
[ -f "$prose/sphinx.tsv" ] ||
  python -m lm.sphinx /usr/share/pocketsphinx/model/en-us/en-us.lm.bin "$prose/sphinx.tsv" --words 40000000
arpa=$(mktemp)
trap 'rm -f "$arpa"' EXIT

# The weights were found by the perplexity of dev-clean-a, in coarse steps: twice as much for transcripts of speech, half or twice as much
# for the novels, a third for the dictionary, three times as much for the trigram's text were worse; half for the books about the Bible
# changed little. --least saves time; --most is what goes into 22 MB.
sources=(
  "$text/wordnet-examples.txt.xz:1" "$text/gcide.txt.xz:0.8" "$text/endless-sky.txt.xz:1" "$text/fortunes.txt.xz:1"
  "$text/anarchism-faq.txt.xz:0.7" "$text/nltk-state_union.txt.xz:1" "$text/nltk-inaugural.txt.xz:1"
  "$text/nltk-genesis.txt.xz:1" "$text/nltk-masc.txt.xz:1"
  "$prose/moby-dick.txt.xz:2.4" "$prose/sherlock-holmes.txt.xz:2.4" "$prose/tom-sawyer.txt.xz:2.4"
  "$prose/jane-austen.txt.xz:2.4" "$prose/poe.txt.xz:2.4" "$prose/huckleberry-finn.txt.xz:2.4" "$prose/alice.txt.xz:2.4"
  "$prose/opticks.txt.xz:0.6" "$prose/treasury-of-david.txt.xz:1" "$prose/matthew-henry.txt.xz:1"
  "$prose/king-james.txt.xz:0.8" "$prose/wesnoth.txt.xz:1" "$prose/sphinx.tsv:0.15"
  "$speech/librispeech-train100-3spk/packs.tsv:1.5" "$speech/pseudo-train100-251spk/packs.tsv:1.5"
  "$speech/kathleen-arctic/packs.tsv:1.5" "$speech/matthes-ljprompts/packs.tsv:2"
)
checked=(--avoid "$speech/dev-clean-a/packs.tsv" "$speech/speechocean762-test/packs.tsv" --check "$speech/dev-clean-a/packs.tsv")
python -m lm.build "${sources[@]}" "${checked[@]}" --tokenizer tokenizer.model --order 5 --least 0,0,1.5,2.4,2.4 --most 1800000 --out "$arpa"
python -m lm.pack "$arpa" "$model/tokens.txt" "$model/lm.safetensors"
python -m lm.build "${sources[@]}" "${checked[@]}" --words 60000 --order 3 --least 0,1,1.5 --most 500000 --out "$arpa"
python -m lm.pack "$arpa" --words "$model/words.safetensors"
