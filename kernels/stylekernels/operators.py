"""What the operators' registrations share: fake results, and the refusal of second derivatives."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from stylekernels.layout import accumulator, empty_like


def fake_like(index: int) -> Callable[..., Tensor]:
    """Return a fake implementation whose result is dense and shaped as argument `index`."""
    return lambda *arguments: empty_like(arguments[index])


def fake_scalar(*arguments: Any) -> Tensor:
    """Return a fake loss for an operator whose first argument is the activation."""
    return arguments[0].new_empty((), dtype=accumulator(arguments[0].dtype))


def fake_nothing(*arguments: Any) -> None:
    """Stand for an operator that works in place and returns nothing."""
    del arguments


def refuse_second_derivative(operator: Any) -> None:
    """Make differentiating a backward operator an error, not a silent zero."""
    name = operator._qualname  # noqa: SLF001  the definition has no public name

    def backward(ctx: Any, *grads: Tensor) -> None:
        del ctx, grads
        raise NotImplementedError(
            f"{name} cannot be differentiated: stylekernels has first derivatives only. "
            "Compute the loss in plain torch where a second derivative is needed."
        )

    operator.register_autograd(backward)
