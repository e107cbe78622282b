"""Benches: grids of configs measured for their speed, and what the figures say."""
