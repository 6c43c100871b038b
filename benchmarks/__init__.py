"""The calibration benchmark: problems, methods, a resumable run, and the report."""
