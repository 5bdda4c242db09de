"""What a run is before anything of it is computed: its pictures, its phases, its memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from stylebench.image.load import ImageSource
from stylebench.transfer.inputs import Inputs, Styles, fit_pictures, load_pictures
from stylebench.transfer.plan import Plan, make_plan
from stylebench.transfer.scales import with_scales
from stylebench.transfer.settings import Settings


@dataclass(frozen=True)
class Prepared:
    """A run whose weights are still to be read.

    Attributes:
        inputs: its pictures.
        plan: of its memory, with the settings as it takes them.
    """

    inputs: Inputs
    plan: Plan


def prepare(
    content: ImageSource, style: Styles, settings: Settings, *, may_choose: bool = True
) -> Prepared:
    """Read the pictures of a run and plan its memory; see ``plan.make_plan``.

    Raises:
        ValueError: as ``load_pictures``.
    """
    inputs = load_pictures(content, style, settings)
    return Prepared(inputs, planned(inputs, settings, may_choose=may_choose))


def planned(inputs: Inputs, settings: Settings, *, may_choose: bool = True) -> Plan:
    """The plan of a run of ``inputs``; its settings have the scales in numbers."""
    settings = with_scales(settings.sized(inputs.content.size), inputs)
    return make_plan(settings, partial(fit_pictures, inputs, settings), may_choose=may_choose)
