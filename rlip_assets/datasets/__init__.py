"""Raw datasets become scene tables: readers, tables, and the images that occur in a benchmark's test split."""
