"""Programs that measure Copycat, a file for each question: `python -m benchmarks NAME`. See docs/how-to/measure.md."""
