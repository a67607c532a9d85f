"""Studies: settings of a training that differ in one thing, run with several seeds and compared seed by seed."""
