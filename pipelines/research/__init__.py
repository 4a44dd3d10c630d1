"""Measuring, apart from the product."""
