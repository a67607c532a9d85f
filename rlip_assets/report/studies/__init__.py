"""Studies: settings of pre-training that differ in one thing, run with several seeds and compared seed by seed."""
