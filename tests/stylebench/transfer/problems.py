"""Problems built straight from pictures and settings."""

from stylebench.transfer.inputs import load_inputs
from stylebench.transfer.problem import build_problem


def problem_of(content, style, settings):
    return build_problem(load_inputs(content, style, settings), settings)
