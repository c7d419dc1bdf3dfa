"""Loading of state dicts with messages that say what does not fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor, nn

from reid_core.errors import CheckpointError

__all__ = ["load_state", "strip_prefix"]

_NUM_SHOWN = 5


def load_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str,
    hint: str,
) -> None:
    """Load a state dict that must fit exactly.

    ``num_batches_tracked`` counters may be absent, as in files written before PyTorch 0.4.1; the
    module then keeps its own.

    Args:
        module: Receives the values.
        state: Key to tensor. A leading ``module.`` on every key (left by DataParallel) is removed.
        source: What the values are, for the message: a path, or part of a file.
        hint: What the user can do when they do not fit.

    Raises:
        CheckpointError: With the missing, unknown and differently shaped keys.
    """
    state = strip_prefix(state, "module.")
    own = module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in own]
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = [
        _summary("missing", missing),
        _summary("unknown", unknown),
        _summary("with another shape", reshaped),
    ]
    if missing or unknown or reshaped:
        details = "; ".join(problem for problem in problems if problem)
        raise CheckpointError(f"{source} does not fit the network: {details}. {hint}")
    module.load_state_dict({**own, **state})


def strip_prefix(state: Mapping[str, Tensor], prefix: str) -> Mapping[str, Tensor]:
    """Return the state with ``prefix`` removed, or unchanged unless every key has it."""
    if state and all(key.startswith(prefix) for key in state):
        return {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _summary(what: str, entries: Collection[str]) -> str:
    if not entries:
        return ""
    shown = ", ".join(list(entries)[:_NUM_SHOWN])
    more = f" and {len(entries) - _NUM_SHOWN} more" if len(entries) > _NUM_SHOWN else ""
    return f"{len(entries)} {what}: {shown}{more}"
