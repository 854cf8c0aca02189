"""Interpretability: see what a model computes, change it, and measure what follows."""
