"""What changes, or does not, from cycle to cycle. Imports no torch."""

from __future__ import annotations

__all__ = ["inter_lr", "mixing_rate"]

_BATCH_OF_LR = 32  # official: batch size at which both stages have the same learning rate


def mixing_rate(cycle: int, *, num_cycles: int, initial: float = 0.02, power: float = 0.6) -> float:
    """Return mu_t = mu_0 (1 - t/T)^p: how much equal class scores take off a pair's distance.

    Eq. 5 of the paper, whose mu is the initial value here; the decay is that of the official code.

    Args:
        cycle: t, from 0.
        num_cycles: T.
        initial: mu_0, official ``--mix_rate``.
        power: p, official ``--decay_factor``; 0 keeps mu_0.
    """
    return float(initial * (1 - cycle / num_cycles) ** power)


def inter_lr(lr: float, batch_size: int) -> float:
    """Return the head's learning rate in the inter-camera stage (official).

    Args:
        lr: That of the intra-camera stage.
        batch_size: Images of a batch in the inter-camera stage; 64 doubles the rate.
    """
    return lr * batch_size / _BATCH_OF_LR
