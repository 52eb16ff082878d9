"""Offline training stages, run from the checkout as ``python -m training.<stage>``. Needs torch."""
