"""The suites' names, apart from what they import, so that ``--help`` answers at once."""

from collections.abc import Mapping

#: Name -> what it measures, in a line.
SUITES: Mapping[str, str] = {
    "smoke": "One tiny iteration of each engine, in seconds: whether benchmarks run here at all.",
    "parity": "Every engine, precision and preset against the fp64 reference, with pictures.",
    "iteration": "One iteration of each engine, precision and size, interleaved, with its roof.",
    "sizes": "How an iteration's cost and memory grow, from 256 px to the largest that fits.",
    "kernels": "Each style kernel against plain and compiled PyTorch, layer by layer.",
    "time-to-loss": "Seconds until the loss that the reference reaches after so many iterations.",
    "stylize": "From the shell to the saved picture, cold and warm.",
}
