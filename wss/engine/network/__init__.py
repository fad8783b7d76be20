"""Networks: which resources a transfer uses, and how transfers share them."""
