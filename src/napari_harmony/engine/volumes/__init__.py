"""The engine for subtomograms: search over content and pose in three dimensions, under a missing wedge."""
