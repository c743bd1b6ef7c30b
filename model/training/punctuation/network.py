"""The recogniser's blocks (network.py) over an embedding of word pieces, with a head for casing and marks."""
import torch
import torch.nn.functional as F

from network import Encoder
from punctuation.spoken import CASES, MARKS


class Punctuator(Encoder):
    """forward(pieces (rows, L)) -> logits (rows, L, cases + marks), []. Where piece t ends a word, its logits are about the
    word that ended `words_ahead` words before."""

    def __init__(self, pieces, d, layers, drop=0.0):
        self.pieces = pieces
        super().__init__(len(CASES) + len(MARKS), d, layers, look=0, drop=drop)

    def front(self):
        return {"backbone.embeddings.weight": torch.randn(self.pieces, self.d)}

    def embed(self, pieces):
        return F.dropout(self.p("backbone.embeddings.weight")[pieces], self.drop, self.training)

    def export_state(self):
        drop = ("features.mean", "features.inv_std")
        return {k.replace("ctc_head.", "head."): v for k, v in super().export_state().items() if k not in drop}
