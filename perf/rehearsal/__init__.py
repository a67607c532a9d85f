"""The rehearsal: the paper's experiments at full size on stand-ins, from an empty folder to a report."""
