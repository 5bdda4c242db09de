"""Figures of the papers, made anew of any two pictures: sheets of runs that differ in one thing."""

from __future__ import annotations

from collections.abc import Mapping

#: Figure -> the thing that its panels vary.
FIGURES: Mapping[str, str] = {
    "layers": "Style layers down, alpha / beta across (arXiv 1508.06576, figure 3).",
    "content-layer": "The content from conv2_2 and from conv4_2 (CVPR 2016, figure 5).",
    "init": "Begun from the content, the style and four noises (CVPR 2016, figure 6).",
}
