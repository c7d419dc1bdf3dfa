"""Adaptive instance-batch normalisation (AIBN): statistics of image and batch, mixed.

Legend: N images, C channels, H W height and width of the map, L = H W positions.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from reid_core.errors import ConfigError

__all__ = ["AIBN", "share_mixing"]


class AIBN(nn.Module):
    """Normalisation by a learned mixture of batch and instance statistics.

    Xuan, Zhang, CVPR 2021, section 3.3, as in the official code. With mean m_nc and unbiased
    variance v_nc of channel c of image n over its L positions, and batch statistics

        training:    M_c = mean_n m_nc,   V_c = mean_n (v_nc + m_nc^2) - M_c^2
        evaluation:  M_c, V_c = the running statistics

    and a = alpha clamped to [0, 1]:

        y_ncl = gamma_c (x_ncl - a M_c - (1 - a) m_nc) / sqrt(a V_c + (1 - a) v_nc + eps) + beta_c

    So a = 1 is (almost) batch normalisation and a = 0 instance normalisation; the statistics of the
    image itself matter in evaluation too. Gradient flows through all statistics and, inside
    [0, 1], into alpha.

    Statistics and mixing are float32 under autocast and for half-precision input; the output has
    the type of the input. The official code starts the running variance at 0, this one at 1;
    neither matters where the layer takes a batch norm's statistics.

    Attributes:
        weight: (C,) gamma, starts at 1.
        bias: (C,) beta, starts at 0.
        adaptive_weight: (1,) alpha; the layers of a residual block share one.
        running_mean: (C,), starts at 0.
        running_var: (C,), starts at 1.

    Args:
        num_features: C.
        init: Initial alpha, in [0, 1]; 0.1 is official, so 90 % instance normalisation.
        eps: Added to the mixed variance.
        momentum: Share of a new batch in the running statistics, as in PyTorch.

    Raises:
        ConfigError: When ``init`` lies outside [0, 1].
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, num_features: int, *, init: float = 0.1, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__()
        if not 0 <= init <= 1:
            raise ConfigError(
                f"the initial mixing weight of AIBN is {init}; it must lie in [0, 1], where 0 is "
                "instance and 1 is batch normalisation"
            )
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.adaptive_weight = nn.Parameter(torch.full((1,), float(init)))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    @classmethod
    def from_batchnorm(cls, norm: nn.BatchNorm2d, *, init: float = 0.1) -> AIBN:
        """Return the layer that stands in for a batch norm: its scale, shift and statistics.

        Args:
            norm: With scale, shift and running statistics; not changed.
            init: Initial alpha, in [0, 1].
        """
        layer = cls(norm.num_features, init=init, eps=norm.eps)
        layer = layer.to(norm.weight.device, norm.weight.dtype)
        with torch.no_grad():
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(layer, name).copy_(getattr(norm, name))
        return layer

    def forward(self, feature_map: Tensor) -> Tensor:
        """Normalise a map (N, C, H, W); at least two positions, any number of images.

        Raises:
            ConfigError: When the map has one position, whose variance is not defined.
        """
        height, width = feature_map.shape[-2:]
        if height * width < 2:
            raise ConfigError(
                f"AIBN needs the variance over a map's positions, but a map is {height} x {width}; "
                "use images larger than 16 x 16 pixels, than 32 x 32 with last_stride=2"
            )
        # Integers as limits are more than the ONNX exporter of PyTorch 2.11 can take apart.
        mixing = self.adaptive_weight.clamp(0.0, 1.0)
        if not self.training:
            return self._evaluate(feature_map, mixing)
        output, mean, variance = _TrainingAIBN.apply(
            feature_map, self.weight, self.bias, mixing, self.eps
        )
        with torch.no_grad():
            for running, now in ((self.running_mean, mean), (self.running_var, variance)):
                running.mul_(1 - self.momentum).add_(now, alpha=self.momentum)
        return cast(Tensor, output)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"

    def _evaluate(self, feature_map: Tensor, mixing: Tensor) -> Tensor:
        """Normalise with operations that exporters know, and autograd."""
        mean, variance, centred = _moments(_at_least_float32(feature_map))
        batch_mean = self.running_mean[:, None, None]
        batch_variance = self.running_var[:, None, None]
        shift = mixing * (mean - batch_mean)  # of the map's own mean from the mixed one
        scale = (variance + mixing * (batch_variance - variance) + self.eps).rsqrt()
        scale = scale * self.weight[:, None, None]
        # Where there is no graph that needs it, the map made last is used again.
        output = centred * scale if torch.is_grad_enabled() else centred.mul_(scale)
        return output.add_(shift * scale + self.bias[:, None, None]).to(feature_map.dtype)


def share_mixing(block: nn.Module, *, init: float = 0.1) -> None:
    """Give a residual block one alpha, which all its AIBN layers use, the shortcut's included.

    It is the block's parameter ``adaptive_weight`` and that of each layer, so state dicts hold it
    under several names, as those of the official code do.

    Args:
        block: Changed in place.
        init: Initial alpha, in [0, 1].
    """
    alpha = nn.Parameter(torch.full((1,), float(init)))
    block.register_parameter("adaptive_weight", alpha)
    for part in block.modules():
        if isinstance(part, AIBN):
            part.adaptive_weight = alpha


class _TrainingAIBN(torch.autograd.Function):
    """AIBN in training mode as y = k x + b per image and channel, with the gradient in closed form.

    Autograd would keep and read several tensors of the map's size; this keeps the map alone, and
    reads it about as often as a batch norm does.
    """

    @staticmethod
    def forward(
        ctx: Any, feature_map: Tensor, weight: Tensor, bias: Tensor, mixing: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the output and the batch's statistics, (C,) each, which have no gradient."""
        mean, variance, centred = _moments(_at_least_float32(feature_map))
        mean, variance = mean.flatten(1), variance.flatten(1)  # (N, C), as all but the maps
        batch_mean = mean.mean(dim=0)
        # mean (v + m^2) - M^2 without the difference of large numbers.
        spread = mean - batch_mean
        batch_variance = variance.mean(dim=0) + spread.square().mean(dim=0)
        inverse = (variance + mixing * (batch_variance - variance) + eps).rsqrt()
        scale = weight * inverse
        # The mixed mean is m - a (m - M).
        output = centred.mul_(_spatial(scale)).add_(_spatial(mixing * spread * scale + bias))
        ctx.save_for_backward(
            feature_map, weight, mixing, mean, variance, batch_mean, batch_variance, inverse
        )
        ctx.mark_non_differentiable(batch_mean, batch_variance)
        return output.to(feature_map.dtype), batch_mean, batch_variance

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Tensor, _mean: Tensor, _variance: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        """Return the gradients of the map, of weight, bias and mixing."""
        feature_map, weight, mixing, *statistics = ctx.saved_tensors
        mean, variance, batch_mean, batch_variance, inverse = statistics
        values, gradient = _at_least_float32(feature_map), _at_least_float32(gradient)
        num_images, num_positions = len(values), values.shape[2] * values.shape[3]
        spread = mean - batch_mean
        sums, products = _sums(gradient, values, mean - mixing * spread)

        # With centre u and mixed variance s: y = gamma (x - u) (s + eps)^(-1/2) + beta.
        grad_weight = (products * inverse).sum(dim=0)
        grad_bias = sums.sum(dim=0)
        grad_centre = -sums * weight * inverse
        grad_mixed = -products * weight * inverse.pow(3) / 2
        # u = m - a (m - M), s = v - a (v - V).
        excess = variance - batch_variance
        grad_mixing = -(grad_centre * spread + grad_mixed * excess).sum().reshape(1)
        # M and V as above; the derivative of V by M vanishes.
        grad_batch_mean = (mixing * grad_centre).sum(dim=0) / num_images
        grad_batch_variance = (mixing * grad_mixed).sum(dim=0) / num_images
        grad_mean = (1 - mixing) * grad_centre + grad_batch_mean + 2 * spread * grad_batch_variance
        grad_variance = (1 - mixing) * grad_mixed + grad_batch_variance
        # dm/dx = 1 / L, dv/dx = 2 (x - m) / (L - 1).
        slope = 2 * grad_variance / (num_positions - 1)
        grad_map = values * _spatial(slope)
        grad_map.add_(_spatial(grad_mean / num_positions - slope * mean))
        grad_map.addcmul_(gradient, _spatial(weight * inverse))
        return grad_map.to(feature_map.dtype), grad_weight, grad_bias, grad_mixing, None


def _moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and unbiased variance over positions, (N, C, 1, 1) each, and values - mean.

    The variance is that of the centred values, so a mean far from zero costs no precision.
    """
    mean = values.mean(dim=(2, 3), keepdim=True)
    centred = values - mean
    # Not torch.var_mean, which takes some ten times as long on a CPU.
    norm = torch.linalg.vector_norm(centred, dim=(2, 3), keepdim=True)
    return mean, norm.square() / (values.shape[2] * values.shape[3] - 1), centred


def _sums(first: Tensor, second: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Return sum_l first_l and sum_l first_l (second_l - centre), (N, C) each, over positions l.

    Args:
        first: (N, C, H, W) float32 or float64.
        second: (N, C, H, W), same type.
        centre: (N, C), same type.
    """
    on_cpu = first.device.type == "cpu"
    return (_fused_sums if on_cpu else _plain_sums)(first, second, centre)


def _plain_sums(first: Tensor, second: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sums, on any device."""
    return first.sum(dim=(2, 3)), (first * (second - _spatial(centre))).sum(dim=(2, 3))


def _fused_sums(first: Tensor, second: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sums in one pass over the maps, on a CPU.

    They are what a frozen batch norm of variance 1 computes as the gradients of its shift and
    scale, with every map as a channel of its own.
    """
    num_images, channels, height, width = first.shape
    shape = (1, num_images * channels, height, width)
    mean = centre.flatten()
    one = torch.ones_like(mean)
    _, products, sums = torch.ops.aten.native_batch_norm_backward(
        first.reshape(shape),
        second.reshape(shape),
        None,
        mean,
        one,
        mean,
        one,
        False,
        0.0,
        [False, True, True],
    )
    return sums.view_as(centre), products.view_as(centre)


def _spatial(values: Tensor) -> Tensor:
    """Return (N, C, 1, 1) from (N, C)."""
    return values[:, :, None, None]


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
