"""Alias of `aelib.book.ledger`, for chapters that have not moved yet."""

from aelib.book.ledger import ClaimError, Ledger, device, find_book, glue, read
from aelib.data import register_source
from aelib.files import write_atomically

__all__ = [
    "ClaimError",
    "Ledger",
    "device",
    "find_book",
    "glue",
    "read",
    "register_source",
    "write_atomically",
]
