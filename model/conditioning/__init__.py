"""From a case to the channels that a network reads, on the network's grid; what a site is and which ROI is what."""
