"""The work of the kernels of loss terms and their log: bytes alone."""

from stylekernels.runtime.launch import Launch
from stylekernels.runtime.work import Work


def _terms(launch: Launch) -> Work:
    operands = launch.arguments
    return Work((operands["check"], *operands["losses"]), (operands["values"], operands["total"]))


def _log(launch: Launch) -> Work:
    operands = launch.arguments
    read = operands["place"], operands["values"], operands["count"]
    return Work(read, (operands["log"][0], operands["place"]))


WORK = {
    "loss_terms_kernel": _terms,
    "log_row_kernel": _log,
}
"""Kernel -> the work of one launch of it."""
