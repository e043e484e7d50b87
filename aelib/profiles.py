"""Alias of `aelib.book.profile`, for chapters that have not moved yet."""

from aelib.book.profile import Profile, profile

__all__ = ["Profile", "profile"]
