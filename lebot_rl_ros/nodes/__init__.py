"""One thin file per node: parameters in, messages converted, the core called, messages out."""
