"""The loss terms of an iteration: one vector of them, their sum, and a log on the device."""
