"""The benchmarks: virtstore's jobs beside what people would use instead (`make bench`)."""
