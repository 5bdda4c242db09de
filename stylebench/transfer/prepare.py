"""The plan and the inputs of a run, before anything of it is computed."""

from __future__ import annotations

from functools import partial

from stylebench.engines.heap import malloc_trim
from stylebench.image.load import ImageSource
from stylebench.model.weights import load_weights
from stylebench.transfer.inputs import Inputs, Styles, fit_pictures, load_pictures
from stylebench.transfer.plan import Plan, make_plan
from stylebench.transfer.reuse import ENGINE_CACHE, clear_cache
from stylebench.transfer.scales import with_scales
from stylebench.transfer.settings import Settings
from stylebench.transfer.share import ALL, Share


def planned(
    inputs: Inputs,
    settings: Settings,
    *,
    may_choose: bool = True,
    reuse: bool = False,
    share: Share = ALL,
) -> Plan:
    """The plan of a run of ``inputs``; its settings have the scales in numbers.

    Engines that are kept from earlier runs are given up where the run does not fit beside them.

    Args:
        inputs: its pictures.
        settings: as they were asked for.
        may_choose: as for ``make_plan``.
        reuse: the run may leave its engines to later ones.
        share: of this process.
    """
    settings = with_scales(settings.sized(inputs.content.size), inputs)
    sizes_at = partial(fit_pictures, inputs, settings)
    plan = make_plan(settings, sizes_at, may_choose=may_choose, reuse=reuse, share=share)
    is_as_asked = plan.fits and plan.settings is settings and plan.reuse == reuse
    if len(ENGINE_CACHE) and not is_as_asked:
        clear_cache()
        malloc_trim()
        plan = make_plan(settings, sizes_at, may_choose=may_choose, reuse=reuse, share=share)
    return plan


def load_inputs(content: ImageSource, style: Styles, settings: Settings) -> Inputs:
    """Read the pictures and the weights of a run, as ``load_pictures``.

    Raises:
        TooLarge: the run cannot fit in memory.
        WeightsError: weights that cannot be had.
        ValueError: likewise.
    """
    inputs = load_pictures(content, style, settings)
    settings = settings.sized(inputs.content.size)
    sizes_at = partial(fit_pictures, inputs, settings)
    make_plan(settings, sizes_at, may_choose=False).check()
    inputs.weights = load_weights(settings.weights)
    inputs.source = None
    return inputs
