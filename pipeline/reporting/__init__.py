"""Reports on a span of time: the HTML report, made of sections, and the summary as text."""
