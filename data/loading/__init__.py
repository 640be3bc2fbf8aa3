"""From datasets to batches: data loader, sampler, workers, cache, prefetching."""
