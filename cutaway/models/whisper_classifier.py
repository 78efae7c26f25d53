"""Whisper's encoder with a head that tells sounds apart: a projection, the mean over time, and a layer for the labels.

Modules are named like the tensors of transformers' `WhisperForAudioClassification`, whose weighted sum over layers is not here.

B batch, F mel bands, M mel frames, S positions (M / 2), D model width, L labels.
"""

import torch
from torch import Tensor, nn

from cutaway.models.decoder import initialise
from cutaway.models.whisper_config import WhisperConfig
from cutaway.models.whisper_encoder import Encoder


class WhisperClassifier(nn.Module):
    """A classifier of sounds with random weights; its configuration has `labels`."""

    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.projector = nn.Linear(config.d_model, config.classifier_proj_size)
        self.classifier = nn.Linear(config.classifier_proj_size, len(config.labels))
        initialise(self, config.init_std)
        self.encoder.set_positions()

    def tie(self) -> None:
        """Nothing is shared."""

    @property
    def trunk(self) -> Encoder:
        """All but the head."""
        return self.encoder

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers, in order."""
        return self.encoder.layers

    @property
    def context(self) -> int:
        """The most positions, half as many as mel frames."""
        return self.config.max_source_positions

    def source_positions(self, mel_BFM: Tensor) -> int:
        """S: one position per two frames."""
        return self.encoder.positions(mel_BFM)

    def forward(self, mel_BFM: Tensor) -> Tensor:
        """Final hidden states, B × S × D, after the last norm; arguments and errors as in `whisper_encoder.Encoder.forward`."""
        everywhere = torch.ones(1, 1, 1, self.source_positions(mel_BFM), dtype=torch.bool, device=mel_BFM.device)
        return self.encoder(mel_BFM, everywhere)

    def label_logits(self, h_BSD: Tensor) -> Tensor:
        """Scores of every label, B × L, from the mean over time, silence included."""
        return self.classifier(self.projector(h_BSD).mean(1))
