"""Contrastive losses: a row's own partner against the partners of the other rows.

B rows, N further candidates, D width; all vectors have length one.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def info_nce(
    a_BD: Tensor,
    b_BD: Tensor,
    temperature: float | Tensor,
    negatives_ND: Tensor | None = None,
    two_sided: bool = False,
    alike_BC: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """−log softmax of the similarity to the own partner, summed over rows (van den Oord et al. 2018, eq. 4).

    Args:
        negatives_ND: hard negatives; every row is compared with all of them.
        two_sided: the mean of a finding b and b finding a, without the hard negatives (Radford et al. 2021).
        alike_BC: true where a candidate (the partners, then the hard negatives) is as right as a row's own; it is left out.

    Returns:
        The loss, and the share of rows whose own partner is the nearest.
    """
    candidates_CD = b_BD if negatives_ND is None else torch.cat((b_BD, negatives_ND))
    with torch.autocast(a_BD.device.type, enabled=False):  # a bfloat16 cosine over a small temperature is far off
        scores_BC = a_BD.float() @ candidates_CD.float().T / temperature
    own_B = torch.arange(len(a_BD), device=a_BD.device)
    if alike_BC is not None:
        others_BC = ~torch.eye(*scores_BC.shape, dtype=torch.bool, device=scores_BC.device)
        scores_BC = scores_BC.masked_fill(alike_BC & others_BC, -torch.inf)
    loss = cross_entropy(scores_BC, own_B, reduction="sum")
    if two_sided:
        loss = (loss + cross_entropy(scores_BC[:, : len(b_BD)].T, own_B, reduction="sum")) / 2
    return loss, (scores_BC.argmax(-1) == own_B).float().mean()
