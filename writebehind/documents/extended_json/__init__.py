"""MongoDB Extended JSON in its parts: wrappers, how values are written, large documents. `codec` joins them."""
