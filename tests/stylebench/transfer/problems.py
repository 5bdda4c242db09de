"""Problems built straight from pictures and settings, and settings of a small network."""

from stylebench.transfer.prepare import load_inputs
from stylebench.transfer.problem import build_problem

#: Settings of losses in a network that ends at relu3_1: 23 times smaller than the preset's.
SHALLOW = {"content_layers": "relu2_2", "style_layers": ["relu1_1", "relu2_1", "relu3_1"]}
#: The same settings for the preset's own.
WHOLE = dict.fromkeys(SHALLOW)


def problem_of(content, style, settings):
    return build_problem(load_inputs(content, style, settings), settings)
