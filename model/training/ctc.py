"""Losses on the logits of rows of one length: CTC; the consistency of two augmented views (CR-CTC, Yao et al. 2024); peak-first
regularisation, which brings pieces out earlier (Tian et al. 2023); what a teacher said; and what a listener heard."""
import torch
import torch.nn.functional as F

import native


class _CTC(torch.autograd.Function):
    host = False

    @staticmethod
    def forward(ctx, logits, labels, lens):
        """logits (rows, T, V); labels (rows, U) int32, 0 is blank; lens (rows,) int32 -> loss (rows,)"""
        x = logits.contiguous()
        rows, T, V = x.shape
        U = labels.shape[1]
        lse = torch.empty(rows, T, device=x.device)
        ab = torch.empty(2, rows, T, 2 * U + 1, device=x.device)
        loss = torch.empty(rows, device=x.device)
        grad = torch.empty_like(x)
        p = native.ptr
        native.check(native.library("host" if _CTC.host else "cuda").sw_ctc(p(x), p(labels), p(lens), p(lse), p(ab), p(loss), p(grad), rows, T, V, U,
                                                      int(x.dtype == torch.bfloat16), native.stream(x)), "ctc")
        ctx.save_for_backward(grad)
        return loss

    @staticmethod
    def backward(ctx, g):
        return ctx.saved_tensors[0] * g[:, None, None].to(ctx.saved_tensors[0].dtype), None, None


def ctc(logits, labels, lens):
    """-> the loss of every row; a target that does not fit costs nothing."""
    if logits.is_cuda or _CTC.host:
        return _CTC.apply(logits, labels, lens)
    T = torch.full((logits.shape[0],), logits.shape[1], dtype=torch.long)
    return F.ctc_loss(F.log_softmax(logits.float(), -1).transpose(0, 1), labels.long(), T, lens.long(), reduction="none",
                      zero_infinity=True)


def consistency(logits):
    """Rows 0..n/2 and n/2..n are two views of the same audio: how far (KL) each is from the other, held fixed. A sum."""
    lp = F.log_softmax(logits.float(), -1)
    a, b = lp.chunk(2)
    other = torch.cat([b, a]).detach()
    return (other.exp() * (other - lp)).sum()


def peak_first(logits):
    """How far (KL) each frame is from the frame after it, held fixed: peaks move towards the front. A sum over rows and frames."""
    lp = F.log_softmax(logits.float(), -1)
    after = lp[:, 1:].detach()
    return (after.exp() * (after - lp[:, :-1])).sum()


def imitation(logits, said):
    """How far (KL) each frame is from a teacher's log probabilities. A sum."""
    return (said.exp() * (said - F.log_softmax(logits.float(), -1))).sum()


def heard(foretold, told):
    """How far each frame (..., width) is from what a listener made of it: mean distance, and -log sigmoid of the cosine (DistilHuBERT; Chang et
    al. 2022). A sum over frames."""
    foretold = foretold.float()
    return ((foretold - told).abs().mean(-1) - F.logsigmoid(F.cosine_similarity(foretold, told, dim=-1))).sum()
