"""Commands on saved networks: classify, calibrate, count costs, export, share."""
