"""Adversarial objectives and the gradient penalty."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

from util.errors import table_entry

GAN_MODES = {
    "vanilla": "cross-entropy on D's logits (Goodfellow et al. 2014)",
    "lsgan": "squared distance of D's output to the label (Mao et al. 2017)",
    "wgangp": "difference of D's mean outputs, with a gradient penalty on D (Gulrajani et al. 2017)",
}


class GANLoss(nn.Module):
    """Compare D's logits (N, 1, h, w), one for each patch, with one label for all.

    Called as `loss(prediction, target_is_real)`; returns a scalar.
    """

    def __init__(self, gan_mode: str, target_real_label: float = 1.0, target_fake_label: float = 0.0):
        super().__init__()
        table_entry(GAN_MODES, gan_mode, "gan_mode")
        self.gan_mode = gan_mode
        self.register_buffer("real_label", torch.tensor(target_real_label))
        self.register_buffer("fake_label", torch.tensor(target_fake_label))

    def get_target_tensor(self, prediction: torch.Tensor, target_is_real: bool) -> torch.Tensor:
        """Expand the label for real or fake to the prediction's shape."""
        label = self.real_label if target_is_real else self.fake_label
        return label.to(prediction.dtype).expand_as(prediction)

    def forward(self, prediction: torch.Tensor, target_is_real: bool) -> torch.Tensor:
        if self.gan_mode == "wgangp":
            return -prediction.mean() if target_is_real else prediction.mean()
        target = self.get_target_tensor(prediction, target_is_real)
        if self.gan_mode == "lsgan":
            return F.mse_loss(prediction, target)
        return F.binary_cross_entropy_with_logits(prediction, target)


def cal_gradient_penalty(netD, real_data, fake_data, device, type="mixed", constant=1.0, lambda_gp=10.0):
    """Penalise D where its gradient's norm differs from `constant` (Gulrajani et al. 2017, equation 3).

    Real and fake are (N, C, H, W); `type` says where D is probed: on `real`, on `fake`, or on one random `mixed` point
    between the two for each sample. Returns lambda_gp * mean((||g||_2 - constant)^2) and the gradients (N, C*H*W), or
    (0.0, None) when `lambda_gp` is not positive.
    """
    if lambda_gp <= 0:
        return 0.0, None
    if type == "mixed":
        shape = (real_data.shape[0],) + (1,) * (real_data.dim() - 1)
        alpha = torch.rand(shape, device=device, dtype=real_data.dtype)
        points = (alpha * real_data + (1 - alpha) * fake_data).detach()
    elif type in ("real", "fake"):
        points = real_data if type == "real" else fake_data
    else:
        raise ValueError(f"type is {type!r}; allowed: real, fake, mixed")
    points.requires_grad_(True)
    # The sum's gradient holds each sample's own gradient, as long as D looks at samples one by one.
    (gradients,) = torch.autograd.grad(netD(points).sum(), points, create_graph=True)
    gradients = gradients.flatten(1)
    penalty = ((gradients + 1e-16).norm(2, dim=1) - constant).square().mean() * lambda_gp
    return penalty, gradients
