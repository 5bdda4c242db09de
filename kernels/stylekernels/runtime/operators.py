"""Functions registered as torch operators, their fakes, and their refusal of second derivatives."""

from collections.abc import Callable, Iterable, Iterator
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from stylekernels.runtime.layout import accumulator, empty_like

FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""Name of an operator, as in `stylekernels::gram` -> the function that launches its kernels."""


class Operator:
    """A torch operator; eager calls that need no autograd go straight to the function.

    Such a call has nothing to dispatch on, and the first custom operator that torch dispatches
    imports its compiler: 0.9 s and 150 MB in every process.
    """

    def __init__(self, name: str, function: Callable[..., Any], mutates: tuple[str, ...]) -> None:
        self.name = f"stylekernels::{name}"
        definition = torch.library.custom_op(self.name, function, mutates_args=mutates)
        self._function = FUNCTIONS[self.name] = function
        # Not the definition itself, whose calls profiles leave without a name.
        self._dispatched = getattr(torch.ops.stylekernels, name)
        self._parameters, self._mutates = list(signature(function).parameters), mutates
        self.__doc__ = function.__doc__
        self.register_fake = definition.register_fake
        self.register_autograd = definition.register_autograd

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the function, through torch's dispatcher only where something depends on it."""
        if torch.compiler.is_compiling() or not _undispatched([*arguments, *named.values()]):
            return self._dispatched(*arguments, **named)
        result = self._function(*arguments, **named)
        if self._mutates:
            bound = dict(zip(self._parameters, arguments, strict=False)) | named
            mutated = [bound[name] for name in self._mutates]
            increment_version([tensor for tensor in mutated if not tensor.is_inference()])
        return result


def operator(name: str, mutates: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Operator]:
    """Make a function the operator ``stylekernels::name``.

    Args:
        name: of the operator.
        mutates: parameters that it writes into.
    """
    return lambda function: Operator(name, function, mutates)


def _undispatched(arguments: Iterable[Any]) -> bool:
    """Whether no mode or profiler watches the call, and no gradient is recorded."""
    if torch._C._len_torch_dispatch_stack() or torch._C._autograd._profiler_enabled():  # noqa: SLF001
        return False
    recorded = torch.is_grad_enabled()
    return all(
        type(tensor) is Tensor and not (recorded and tensor.requires_grad)
        for tensor in _tensors(arguments)
    )


def _tensors(arguments: Iterable[Any]) -> Iterator[Tensor]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from _tensors(argument)


def fake_like(index: int) -> Callable[..., Tensor]:
    """Return a fake implementation whose result is dense and shaped as argument `index`."""
    return lambda *arguments: empty_like(arguments[index])


def fake_scalar(*arguments: Any) -> Tensor:
    """Return a fake loss for an operator whose first argument is the activation."""
    return arguments[0].new_empty((), dtype=accumulator(arguments[0].dtype))


def fake_nothing(*arguments: Any) -> None:
    """Stand for an operator that works in place and returns nothing."""
    del arguments


def refuse_second_derivative(operator: Operator) -> None:
    """Make differentiating a backward operator an error, not a silent zero."""
    name = operator.name

    def backward(ctx: Any, *grads: Tensor) -> None:
        del ctx, grads
        raise NotImplementedError(
            f"{name} cannot be differentiated: stylekernels has first derivatives only. "
            "Compute the loss in plain torch where a second derivative is needed."
        )

    operator.register_autograd(backward)
