"""The benchmark report: one set of facts, written as JSON, Markdown and a page with pictures."""
