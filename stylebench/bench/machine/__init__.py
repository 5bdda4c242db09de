"""The machine, its software and the code a benchmark ran with."""
