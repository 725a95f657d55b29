"""From a network with sparse weights to one whose products are sparse operators."""
