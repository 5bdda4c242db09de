"""The paper as data and formulas: network, weights, presets, losses, precision."""
