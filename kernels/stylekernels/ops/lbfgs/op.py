"""L-BFGS on the device: three operators over one ring buffer of curvature pairs.

An iteration is `lbfgs_dots`, `lbfgs_recursion`, `lbfgs_apply`, in this order. They are the compact,
"vector-free" form of the two-loop recursion (Chen, Wang, Zhou, "Large-scale L-BFGS using
MapReduce", NIPS 2014): the history is read twice, once for its inner products with the new
gradient and gradient change, once for the step; everything between is algebra on m x m matrices.

With S and Y the kept pairs in order of age, R the upper triangle of S^T Y, D its diagonal and gamma
the scale of H0, the two loops are two triangular systems (alpha and c are the loops' coefficients):

    R alpha = -S^T g        R^T c = D alpha + gamma (Y^T g + Y^T Y alpha)
    direction = -gamma g - gamma Y alpha + S c

so of all inner products only S^T y, Y^T y, S^T g and Y^T g are ever needed, none with the new s.
With H0 = gamma P, P symmetric and fixed, it is P g and P Y that the direction is made of, and P Y
whose products replace Y's: the history keeps P y, and the caller applies P once an iteration.
The inverse of R is kept instead of R: a new pair appends one column to it, and dropping the oldest
pair deletes its row and column, so both solves are matrix-vector products with nothing sequential.

Every decision is taken on the device, every buffer is fixed: a CUDA graph can hold an iteration.
"""

from torch import Tensor

from stylekernels.ops.lbfgs import cpu
from stylekernels.runtime.dispatch import uses_triton
from stylekernels.runtime.operators import fake_nothing, operator

LONGEST = 127
"""Pairs that the kernels keep: one block holds rows of a matrix of them in its registers."""


def _kernels_take(slots: int, *tensors: Tensor) -> bool:
    """Say whether the Triton kernels apply; `cpu` takes the rest."""
    return slots <= LONGEST + 1 and uses_triton(*tensors)


@operator("lbfgs_dots", mutates=("previous", "history", "partials"))
def lbfgs_dots(
    grad: Tensor,
    scaled: Tensor,
    previous: Tensor,
    history: Tensor,
    ring: Tensor,
    partials: Tensor,
) -> None:
    """Write P y to the spare slot, and all inner products with grad [n] and y, its change.

    The first step of an iteration; `scaled` [n] is P grad, or `grad` itself. See `LBFGSState` for
    shapes.
    """
    if not _kernels_take(history.shape[0], grad, history):
        cpu.dots(grad, scaled, previous, history, ring, partials)
        return
    from stylekernels.ops.lbfgs.triton_passes import dots_launches
    from stylekernels.runtime.launch import run_all

    run_all(dots_launches(grad, scaled, previous, history, ring, partials))


@operator("lbfgs_recursion", mutates=("partials", "gram", "ring", "scalars", "coefficients"))
def lbfgs_recursion(
    partials: Tensor,
    loss: Tensor,
    gram: Tensor,
    ring: Tensor,
    scalars: Tensor,
    coefficients: Tensor,
) -> None:
    """Keep or reject the new pair, and solve for the coefficients of the step.

    The second step of an iteration; `loss` [] is the loss that the gradient belongs to. In fp64
    throughout. A loss or gradient that is not finite makes `lbfgs_apply` roll back, with a safe
    start a loss that leaps as well.
    """
    if not _kernels_take(gram.shape[1], ring):
        cpu.recursion(partials, loss, gram, ring, scalars, coefficients)
        return
    from stylekernels.ops.lbfgs.triton_recursion import recursion_launches
    from stylekernels.runtime.launch import run_all

    run_all(recursion_launches(partials, loss, gram, ring, scalars, coefficients))


@operator("lbfgs_apply", mutates=("image", "best", "previous", "history"))
def lbfgs_apply(
    grad: Tensor,
    scaled: Tensor,
    coefficients: Tensor,
    ring: Tensor,
    scalars: Tensor,
    image: Tensor,
    best: Tensor,
    previous: Tensor,
    history: Tensor,
) -> None:
    """Move image [n] by the step and file it as s of the spare slot, or roll back to `best` [n].

    The last step of an iteration; `grad` and `scaled` as for `lbfgs_dots`.
    """
    if not _kernels_take(history.shape[0], grad, history):
        cpu.apply(grad, scaled, coefficients, ring, scalars, image, best, previous, history)
        return
    from stylekernels.ops.lbfgs.triton_passes import apply_launches
    from stylekernels.runtime.launch import run_all

    operands = grad, scaled, coefficients, ring, scalars, image, best, previous, history
    run_all(apply_launches(*operands))


for _operator in (lbfgs_dots, lbfgs_recursion, lbfgs_apply):
    _operator.register_fake(fake_nothing)
