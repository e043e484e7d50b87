"""Alias of `aelib.book.stepper`, for chapters that have not moved yet."""

from aelib.book.stepper import Grid, Step, product_steps, stepper

__all__ = ["Grid", "Step", "product_steps", "stepper"]
