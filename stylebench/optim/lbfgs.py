"""L-BFGS on the device: no step waits for the host.

The mathematics of `torch.optim.LBFGS` at its defaults, without a line search: the first step has
length min(1, 1/||g||_1) * lr, later ones lr; a pair is kept only if y . s > 1e-10; H0 = y.s / y.y;
the oldest pair is dropped when the history is full; the direction is -g while there is no pair.
There are no stopping tests, which need the host: as with torch's tolerances at -1, the setting of
neural-style-pt.

Torch's first step changes an image by 1 in all: of 83,000 values in 0-255 it changes each by
1e-5, which fp32 can hardly see. The pair learnt from it is noise or is refused, the next step is -g
itself, and the loss leaps up to 1e18-fold. A safe start (`level`) changes four things:

- while there is no pair, a step changes the values by one grey level in the mean;
- no step changes a value by more than 32 grey levels;
- a pair is kept if y . s > 1e-6 |y| |s|, so that the image's units do not matter;
- a loss ten times the lowest is rolled back, as one that is not finite.

Of an image in bands (``ranks``) each process keeps its own rows of every vector. All that a step is
decided by is sums over the image, which are added up in the order of ranks: all decide alike.

A preconditioner P makes H0 = gamma P, gamma = y.s / y.Py, and P g the first direction.

The newest pair lies where the loss is steep, and the directions that no pair has seen are flatter
than that: gamma may be up to `reach` times y.s / y.Py. The multiple begins at 1, falls by a fifth
with a pair whose step has raised the loss, and grows by a twentieth with every other.

Distance from torch's path, both called once per iteration: in fp64 it is rounding, below 1e-12 of
the image over the first 8 iterations and typically after 20 (rounding errors then grow as fast as
the problem lets them). In fp32 the distance from torch's fp64 path, over 20 iterations and 10
starts, is 0.04 to 1.1 times torch fp32's own in the geometric mean; on style problems it is the
smaller one, since inner products are added in fp64. tests/stylebench/optim/test_lbfgs.py allows 2.
"""

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from stylebench.optim.base import check_values, restore
from stylebench.processes.ranks import ALONE, Ranks
from stylekernels.ops.lbfgs.op import LONGEST, lbfgs_apply, lbfgs_dots, lbfgs_recursion
from stylekernels.ops.lbfgs.state import (
    BEST_LOSS,
    FIRST,
    FULL_LR,
    LR,
    ROLL_BACK,
    ROLLBACKS,
    STEP,
    STEP_AND_SAVE,
    lbfgs_state,
)

_SAVED = ("history", "previous", "best", "gram", "ring", "scalars")


class LBFGS:
    """Moves an image by L-BFGS, one call and one gradient per iteration.

    A step that leads to a loss or gradient that is not finite is rolled back: the image of the
    lowest loss is restored, the history is emptied, the learning rate is halved (the next eight
    steps regain it), and `rollbacks` counts it. A finite loss may rise, as it does in torch:
    without a line search L-BFGS climbs now and then and comes down again.

    Every buffer is allocated at construction and stays in place, so `step` can be captured in a
    CUDA graph. Memory is 2 (history + 1) vectors of the image's size in `history_dtype` and four
    in the image's: for 512 x 512 pixels and 100 pairs 648 MB with fp32, 330 MB with bf16. In bf16
    the step itself is rounded, so that s is exactly the image's change. On a CPU, which must
    convert it, a bf16 history is the slower one.

    Example:
        >>> x = torch.tensor([3.0, -4.0])
        >>> optimizer = LBFGS(x, history=5)
        >>> for _ in range(20):
        ...     optimizer.step(grad=torch.tensor([1.0, 10.0]) * x)
        >>> bool(x.abs().max() < 1e-3)
        True
    """

    def __init__(
        self,
        image: Tensor,
        history: int = 100,
        lr: float = 1.0,
        history_dtype: torch.dtype | None = None,
        *,
        level: float | None = None,
        preconditioner: Callable[[Tensor], Tensor] | None = None,
        reach: float = 1.0,
        ranks: Ranks = ALONE,
    ) -> None:
        """Allocate the state on the image's device.

        Args:
            image: fp32 or fp64, contiguous of any shape, or channels-last; changed in place.
            history: the largest number of pairs kept, at least 1.
            lr: the step length after the first step.
            history_dtype: of the stored pairs: bf16, fp32 or the image's own (the default).
            level: one grey level in the image's units, for a safe start, where losses are at least
                0; None: steps as torch's.
            preconditioner: P, linear, symmetric and positive definite, from a gradient of the
                image's shape to another; None: 1.
            reach: the largest multiple of y.s / y.Py that gamma may be; 1: it is torch's.
            ranks: who have the other bands of the image.

        Raises:
            ValueError: an argument is none of these.
        """
        if image.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"image is {image.dtype}; optimize it in float32 (or float64)")
        allowed = (torch.bfloat16, torch.float32, image.dtype)
        if history_dtype is not None and history_dtype not in allowed:
            raise ValueError(f"history_dtype is {history_dtype}; expected one of {allowed}")
        if history < 1:
            raise ValueError(f"history is {history}; at least one pair must be kept")
        if not 0.0 <= lr < float("inf"):
            raise ValueError(f"lr is {lr}; expected a finite step length of at least 0")
        if level is not None and not 0.0 < level < float("inf"):
            raise ValueError(f"level is {level}; expected a number above 0")
        if not 1.0 <= reach < float("inf"):
            raise ValueError(f"reach is {reach}; expected a number of at least 1")
        self.image = image
        self._channels_last = not image.is_contiguous()
        if self._channels_last and not (
            image.dim() == 4 and image.is_contiguous(memory_format=torch.channels_last)
        ):
            raise ValueError(
                f"image of shape {tuple(image.shape)} has strides {image.stride()}; "
                "expected it contiguous or channels-last: pass image.contiguous()"
            )
        self._x = self._flat(image.detach())
        if image.is_cuda and history > LONGEST:
            warnings.warn(
                f"history is {history}: above {LONGEST} pairs plain PyTorch takes the place of the "
                "L-BFGS kernels, slower, with the same results",
                stacklevel=2,
            )
        self._preconditioner = preconditioner
        self._no_loss = torch.zeros((), dtype=torch.float32, device=image.device)
        dtype = history_dtype or image.dtype
        self._state = lbfgs_state(self._x, history, lr, dtype, level, reach)
        self._ranks = ranks
        if level and not ranks.alone:
            values = ranks.sum(self._state.scalars.new_tensor(self._x.numel()))
            self._state.scalars[FIRST] = level * values

    def _flat(self, tensor: Tensor) -> Tensor:
        """[n] in the image's memory order; a view if ``tensor`` has the image's layout."""
        return (tensor.permute(0, 2, 3, 1) if self._channels_last else tensor).reshape(-1)

    @torch.no_grad()
    def step(self, grad: Tensor, loss: Tensor | None = None) -> None:
        """Move the image one step.

        Args:
            grad: gradient at the current image; of the image's shape, dtype and device.
            loss: loss at the current image, one element. Without losses a rollback returns to the
                image of the last finite gradient.

        Raises:
            ValueError: the gradient does not match the image.
        """
        image, state = self.image, self._state
        if (grad.shape, grad.dtype, grad.device) != (image.shape, image.dtype, image.device):
            raise ValueError(
                f"grad is {tuple(grad.shape)} {grad.dtype} on {grad.device}; expected the image's "
                f"{tuple(image.shape)} {image.dtype} on {image.device}"
            )
        g = self._flat(grad)
        scaled = None if self._preconditioner is None else self._flat(self._preconditioner(grad))
        lbfgs_dots(*state.dots_operands(g, scaled))
        if not self._ranks.alone:
            products = self._ranks.sum(state.partials.sum(0))
            state.partials.zero_()[0] = products
        lbfgs_recursion(*state.recursion_operands(self._no_loss if loss is None else loss))
        lbfgs_apply(*state.apply_operands(g, self._x, scaled))

    @torch.no_grad()
    def reset_best(self) -> None:
        """Forget the lowest loss and keep the curvature: a nearly equal function comes."""
        self._state.scalars[BEST_LOSS] = float("inf")
        self._state.best.copy_(self._x)

    @property
    def best_image(self) -> Tensor:
        """The image of the lowest finite loss passed to `step`; a view, do not change it."""
        if not self._channels_last:
            return self._state.best.view(self.image.shape)
        b, c, h, w = self.image.shape
        return self._state.best.view(b, h, w, c).permute(0, 3, 1, 2)

    @property
    def best_loss(self) -> Tensor:
        """The lowest finite loss passed to `step`, [] on the device; infinite before the first."""
        return self._state.scalars[BEST_LOSS]

    @property
    def rollbacks(self) -> Tensor:
        """The number of steps rolled back, [] on the device: reading it waits for the device."""
        return self._state.ring[ROLLBACKS]

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, history included; the image itself is the caller's."""
        return self._state.nbytes

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors, not copies, from which `load_state_dict` resumes bit for bit.

        The image is not among them: save it beside them.
        """
        return {name: getattr(self._state, name) for name in _SAVED}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy a saved state into the buffers.

        Raises:
            ValueError: the state belongs to another image size, history length or dtype, or its
                values cannot be.
        """
        restore(self.state_dict(), state, _check_saved)


def _check_saved(state: Mapping[str, Tensor]) -> None:
    """Refuse values that no run leaves: kernels find their places by them, without looking."""
    slots = state["history"].shape[0]
    head, count, age, rollbacks, action = state["ring"].tolist()
    places = 0 <= head < slots and 0 <= count < slots and head <= count
    numbers = age >= count and rollbacks >= 0 and action in (STEP, STEP_AND_SAVE, ROLL_BACK)
    check_values("ring", places and numbers, "places within the history, and counts")
    scalars = state["scalars"]
    check_values("scalars", not scalars.isnan().any(), "numbers")
    check_values("scalars", scalars[LR] >= 0 and scalars[FULL_LR] >= 0, "learning rates of 0 or up")
    for name in ("best", "gram"):
        check_values(name, state[name].isfinite().all(), "finite values")
    # The slot that is being filled may hold the leap that was rolled back.
    kept = [pair for slot, pair in enumerate(state["history"][: count + 1]) if slot != head]
    # One by one: a copy of the whole history may not fit beside it.
    check_values("history", all(pair.isfinite().all() for pair in kept), "finite values")
