"""Benchmark records: their form, their files, their reader."""
