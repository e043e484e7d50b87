"""Alias of `aelib.book.interactive`, for chapters that have not moved yet."""

from aelib.book.interactive import explorer, slider

__all__ = ["explorer", "slider"]
