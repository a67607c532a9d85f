"""The assets of the lineage (sources, captions, pseudo labels, pre-training, fine-tuning, benchmarks) and its automation."""
