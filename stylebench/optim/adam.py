"""Adam on the device: `torch.optim.Adam` at its defaults, with the interface of `LBFGS`."""

from collections.abc import Mapping
from math import inf

import torch
from torch import Tensor

from stylebench.optim.base import check_values, restore
from stylebench.processes.ranks import ALONE, Ranks
from stylekernels.ops.lbfgs.state import REGAIN

_BEST_LOSS, _ROLLBACKS = 1, 3  # indices into (count, lowest loss, learning rate, rollbacks)


class Adam:
    """Moves an image by Adam (Kingma and Ba, arXiv 1412.6980), one call per iteration.

    The step count lives on the device, so `step` can be captured in a CUDA graph. A loss or
    gradient that is not finite rolls the image back to the one of the lowest loss, forgets the
    moments, and halves the learning rate, which the next eight steps regain, as
    `stylebench.optim.lbfgs.LBFGS` does.

    Example:
        >>> x = torch.tensor([3.0, -4.0])
        >>> optimizer = Adam(x, lr=0.1)
        >>> optimizer.step(grad=x.clone())
        >>> x
        tensor([ 2.9000, -3.9000])
    """

    def __init__(
        self,
        image: Tensor,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        ranks: Ranks = ALONE,
    ) -> None:
        """Allocate the moments on the image's device.

        Args:
            image: fp32 or fp64, any shape; changed in place.
            lr: learning rate, in units of the image.
            betas: decay of the first and second moment, in [0, 1).
            eps: added to the root of the second moment.
            ranks: who have the other bands of the image, as for `LBFGS`.

        Raises:
            ValueError: an argument is out of its range.
        """
        if image.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"image is {image.dtype}; optimize it in float32 (or float64)")
        if not 0.0 <= lr < float("inf"):
            raise ValueError(f"lr is {lr}; expected a finite learning rate of at least 0")
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas are {betas}; expected two numbers in [0, 1)")
        if not eps >= 0.0:
            raise ValueError(f"eps is {eps}; expected at least 0")
        self.image = image
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self._ranks = ranks
        self._x = image.detach()
        self._first = torch.zeros_like(self._x)
        self._second = torch.zeros_like(self._x)
        self._best = self._x.clone()
        # Bias corrections need fp64 (1 - 0.999^t); Apple's GPUs have none.
        small = torch.float32 if image.device.type == "mps" else torch.float64
        self._scalars = torch.tensor([0.0, float("inf"), lr, 0.0], dtype=small, device=image.device)

    @torch.no_grad()
    def step(self, grad: Tensor, loss: Tensor | None = None) -> None:
        """Move the image one step.

        Args:
            grad: gradient at the current image; of the image's shape, dtype and device.
            loss: loss at the current image, one element; see `LBFGS.step`.

        Raises:
            ValueError: the gradient does not match the image.
        """
        x = self._x
        if (grad.shape, grad.dtype, grad.device) != (x.shape, x.dtype, x.device):
            raise ValueError(
                f"grad is {tuple(grad.shape)} {grad.dtype} on {grad.device}; expected the image's "
                f"{tuple(x.shape)} {x.dtype} on {x.device}"
            )
        count, best_loss, lr, rollbacks = self._scalars.unbind()
        loss = torch.zeros_like(best_loss) if loss is None else loss.to(best_loss.dtype)
        loss = loss.reshape(())
        finite = torch.isfinite(grad).all() & torch.isfinite(loss)
        if not self._ranks.alone:
            finite = self._ranks.gather(finite).all()
        improved = finite & (loss <= best_loss)
        self._best.copy_(torch.where(improved, x, self._best))

        beta1, beta2 = self.betas
        count = count + 1
        self._first.lerp_(grad, 1 - beta1)
        self._second.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        correction1 = 1 - beta1**count
        correction2 = 1 - beta2**count
        scale = self._second.sqrt().div_(correction2.sqrt()).add_(self.eps)
        moved = x - self._first / scale * (lr / correction1)

        x.copy_(torch.where(finite, moved, self._best))
        self._first.copy_(torch.where(finite, self._first, 0.0))
        self._second.copy_(torch.where(finite, self._second, 0.0))
        self._scalars.copy_(
            torch.stack(
                (
                    torch.where(finite, count, 0.0),
                    torch.where(improved, loss, best_loss),
                    torch.where(finite, torch.clamp(REGAIN * lr, max=self.lr), 0.5 * lr),
                    torch.where(finite, rollbacks, rollbacks + 1),
                )
            )
        )

    @torch.no_grad()
    def reset_best(self) -> None:
        """Forget the lowest loss, for gradients of another function; as `LBFGS.reset_best`."""
        self._scalars[_BEST_LOSS] = float("inf")
        self._best.copy_(self._x)

    @property
    def best_image(self) -> Tensor:
        """The image of the lowest finite loss passed to `step`; do not change it."""
        return self._best

    @property
    def best_loss(self) -> Tensor:
        """The lowest finite loss passed to `step`, [] on the device; infinite before the first."""
        return self._scalars[_BEST_LOSS]

    @property
    def rollbacks(self) -> Tensor:
        """The number of steps rolled back, [] on the device: reading it waits for the device."""
        return self._scalars[_ROLLBACKS]

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers; the image itself is the caller's."""
        return sum(t.nbytes for t in self.state_dict().values())

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors, not copies, from which `load_state_dict` resumes bit for bit."""
        return {
            "first": self._first,
            "second": self._second,
            "best": self._best,
            "scalars": self._scalars,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy a saved state into the buffers.

        Raises:
            ValueError: the state belongs to another image size or dtype, or its values cannot be.
        """
        restore(self.state_dict(), state, _check_saved)


def _check_saved(state: Mapping[str, Tensor]) -> None:
    """Refuse values that no run leaves."""
    for name in ("first", "second", "best"):
        check_values(name, state[name].isfinite().all(), "finite values")
    check_values("second", (state["second"] >= 0).all(), "squares")
    count, best_loss, lr, rollbacks = state["scalars"].tolist()
    whole = count >= 0 and rollbacks >= 0 and best_loss == best_loss  # no NaN
    check_values("scalars", whole and 0 <= lr < inf, "counts, a loss and a learning rate")
