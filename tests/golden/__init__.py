"""Comparisons with reference implementations on the same weights."""
