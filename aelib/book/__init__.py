"""What only the book needs: profile, ledger, in-page figures, steppers. Nothing else in aelib imports it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules=["interactive", "ledger", "live", "profile", "quantized", "quiz", "runs", "stepper"]
)
