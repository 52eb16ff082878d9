"""From a checkpoint to a bundle, and the bundles themselves; run from the checkout as ``python -m engines.<verb>``."""
